"""Every setting, read from the environment by the roots only and passed on as arguments."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.domain.limits import RESIDENT_BYTES, Limits, TableLimits
from service.domain.wording import shown

PREFIX = "SELFNORM_"
UNREADABLE = "cannot be read as a URL; in a password, write all but letters and digits as %XX"


class Settings(BaseSettings):
    """Settings of the service; each is an environment variable ``SELFNORM_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, use_attribute_docstrings=True, extra="ignore")

    database_url: str = "sqlite:///data/selfnorm.db"
    """Where jobs, metrics and models are kept: an SQLAlchemy URL of SQLite or PostgreSQL
    (`postgresql+psycopg://user:password@host/name`); in a password, write all but letters and digits as `%XX`."""
    broker_url: str = "redis://127.0.0.1:6379/0"
    """The Redis or Valkey that carries the doorbell to the workers; passwords as above."""
    datasets_dir: Path | None = None
    """A folder with the files of the article's data sets, for machines without internet (below)."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """How many threads a worker trains with, all cores where it is not set; with a worker for each core, 1 is best."""
    resident_bytes: int = RESIDENT_BYTES
    """Encoded rows that take more than this are streamed from a temporary file while a worker trains."""
    worker_memory_bytes: int = Field(default=2 * 2**30, ge=2**20)
    """A training process that takes more is replaced after its job: compiled code of many networks adds up. Raise it
    where tables are large, or no worker stays warm."""
    training_memory_bytes: int | None = Field(default=None, ge=2**28)
    """A training that takes more is ended and its job fails as `out_of_memory`, before the system ends something else
    (Linux only); nine tenths of the machine's or container's where it is not set. Where several workers share a
    machine, give each its part."""
    api_processes: int = Field(default=1, ge=1, le=64)
    """How many processes answer requests, each on a core of its own; connections are spread over them evenly. An API
    process takes about 120 MB."""
    model_memory_bytes: int = Field(default=512 * 2**20, ge=0)
    """About how much the networks may take that an API process keeps in memory; those used last are kept."""
    default_model: str | None = None
    """The model that `/invocations` asks where a request names none; without it, the only one that there is."""
    max_predict_bytes: int = 64 * 2**20
    """The largest body of a prediction; one in JSON that holds more than rows of numbers is held to the next."""
    max_json_bytes: int = 8 * 2**20
    """The largest JSON body; parsed, one can take twenty times its size in memory."""
    max_upload_bytes: int = 512 * 2**20
    """The largest uploaded file."""
    max_table_rows: int = TableLimits.max_rows
    """The most rows that an uploaded table may have."""
    max_table_columns: int = TableLimits.max_columns
    """The most columns that an uploaded table may have."""
    max_table_cells: int = TableLimits.max_cells
    """The most cells (rows x columns) that an uploaded table may have."""
    max_table_bytes: int = TableLimits.max_decoded_bytes
    """The most bytes that an uploaded table may take once it is decoded; a small Parquet file can decode to
    gigabytes."""
    max_categories: int = TableLimits.max_categories
    """The most different values that a categorical column may have; text with more is left out of training."""
    import_memory_bytes: int = TableLimits.import_memory_bytes
    """The most memory that the process which reads an upload may take; two run at once at most."""
    import_seconds: float = TableLimits.import_seconds
    """The longest that reading an upload may take."""
    max_parameters: int = Limits.max_parameters
    """The most weights and biases that a network may have."""
    max_cells: int = Limits.max_cells
    """The most cells (rows x columns) that a training may read."""
    max_memory_bytes: int = Limits.max_memory_bytes
    """The most memory that a training may be estimated to need."""
    max_training_seconds: float = Limits.max_training_seconds
    """The longest that a training may be estimated to take on two plain cores."""

    @field_validator("database_url", "broker_url")
    @classmethod
    def _check_for_at(cls, url: str) -> str:
        """Refuse a second @: a library would take half of a password for the host, and name it in its errors."""
        if not url.startswith("sqlite") and url.partition("?")[0].count("@") > 1 + url.count(";"):
            raise ValueError(UNREADABLE)
        return url

    @field_validator("broker_url")
    @classmethod
    def _check_ports(cls, url: str) -> str:
        """Refuse a port that is none: it may be half of a password that holds a slash."""
        for part in url.split(";"):  # Celery takes several
            try:
                parsed = urlsplit(part)
                is_odd = parsed.port is not None and "@" in parsed.path + parsed.fragment
            except ValueError:
                is_odd = True
            if is_odd:
                raise ValueError(UNREADABLE)
        return url

    @property
    def limits(self) -> Limits:
        """The bounds on specs."""
        return Limits(self.max_parameters, self.max_cells, self.max_memory_bytes, self.max_training_seconds)

    @property
    def table_limits(self) -> TableLimits:
        """The bounds on uploaded tables."""
        return TableLimits(
            max_rows=self.max_table_rows,
            max_columns=self.max_table_columns,
            max_cells=self.max_table_cells,
            max_decoded_bytes=self.max_table_bytes,
            max_categories=self.max_categories,
            import_memory_bytes=self.import_memory_bytes,
            import_seconds=self.import_seconds,
        )


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SystemExit: a value cannot be taken; the text says which, what came and what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for found in error.errors():
            name = str(found["loc"][0])
            message = found["msg"].removeprefix("Value error, ")
            received = "" if name.endswith("_url") else f"; got {shown(found['input'])}"  # a URL may hold a password
            lines.append(f"selfnorm: {PREFIX}{name.upper()}: {message}{received}")
        raise SystemExit("\n".join(lines)) from None
