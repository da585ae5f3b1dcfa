"""Every setting, read from the environment by the roots only and passed on as arguments."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import logs
from service.domain.limits import RESIDENT_BYTES, ConnectionBounds, Limits, TableLimits
from service.domain.quotas import SHARED_THROUGH, Quotas, Rate, can_share
from service.domain.webhooks import MAX_WEBHOOKS
from service.domain.wording import shown
from service.storage.object_store import KEEP_SECONDS, LEAST_KEEP_SECONDS, ObjectStore, check_url

PREFIX = "SELFNORM_"
HOST = re.compile(r"(\*\.)?[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:]{2,39}")
ORIGIN = re.compile(r"https?://[a-z0-9._-]{1,253}(:[0-9]{1,5})?")
UNREADABLE = "cannot be read as a URL; in a password, write all but letters and digits as %XX"


class Settings(BaseSettings):
    """Settings of the service; each is an environment variable ``SELFNORM_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, use_attribute_docstrings=True, extra="ignore")

    database_url: str = "sqlite:///data/selfnorm.db"
    """Where jobs, metrics and models are kept: an SQLAlchemy URL of SQLite or PostgreSQL
    (`postgresql+psycopg://user:password@host/name`); in a password, write all but letters and digits as `%XX`."""
    blob_url: str | None = None
    """Where data sets, checkpoints and model files are kept, if not in the database: `s3://bucket/prefix`, with
    `?region=...&endpoint=...` where needed, or `file:///folder` on a disk that all processes share. Credentials come
    from `AWS_ACCESS_KEY_ID` and the like ([object storage](object-storage.md))."""
    blob_keep_seconds: float = Field(default=KEEP_SECONDS, ge=LEAST_KEEP_SECONDS, le=366 * 86_400)
    """So long an object stays in the store after nothing needs it any more; raise it to what lies between a backup of
    the database and that of the store."""
    authentication: Literal["auto", "on", "off"] = "auto"
    """Whether requests need a key ([keys](keys.md)): `auto`, unless the service listens on this machine only; `on`;
    `off`, which is refused where others can reach it."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """The names, divided by commas, that requests may be sent to (`models.example.org`, `*.example.org`), beside those
    of this machine. Where there are none: any while requests need a key, else those of this machine only."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Other web sites, divided by commas, whose pages may send requests: `https://app.example.org`."""
    broker_url: str = "redis://127.0.0.1:6379/0"
    """The Redis or Valkey that carries the doorbell to the workers; passwords as above."""
    datasets_dir: Path | None = None
    """A folder with the files of the article's data sets, for machines without internet (below)."""
    log_format: logs.Format = "auto"
    """How every process writes its log to the standard error: `json`, one object a line; `text`, for people; `auto`,
    text where a terminal shows it, else JSON. `selfnorm up` writes text where this is `auto`."""
    log_level: logs.Level = "info"
    """What is not so urgent is not logged: `debug`, `info`, `warning` or `error`."""
    access_log: bool = True
    """Whether each request is logged when it has been answered, but for small predictions, which are only counted, and
    what probes ask all the time. `selfnorm up` has it off where this is not set."""
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
    training_seconds: float = Field(default=28 * 86_400.0, ge=1)
    """A job that occupies a worker for longer at a stretch is ended and fails as `out_of_time`."""
    training_file_bytes: int = Field(default=64 * 2**30, ge=2**20)
    """No file that a training writes may grow larger, such as the temporary one of rows that are streamed. Not with
    SQLite, whose file is everybody's."""
    health_file: Path | None = None
    """A file that a worker touches every second while its training process says that it lives. A health check asks
    whether it is younger than a minute; the worker's image has one."""
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
    max_connections: int = Field(default=ConnectionBounds.max_connections, ge=10)
    """The most connections that an API process serves at once; one more is answered 503 and closed. Fewer, where the
    system allows the process fewer open files."""
    max_header_bytes: int = Field(default=ConnectionBounds.max_header_bytes, ge=1024)
    """The largest head of a request, address and headers together."""
    max_headers: int = Field(default=ConnectionBounds.max_headers, ge=10)
    """The most headers of a request."""
    max_url_bytes: int = Field(default=ConnectionBounds.max_url_bytes, ge=256)
    """The longest address of a request, with its query."""
    header_seconds: float = Field(default=ConnectionBounds.header_seconds, gt=0)
    """The longest that the head of a request may take to come; a client that says nothing is closed after as long."""
    keep_alive_seconds: int = Field(default=ConnectionBounds.keep_alive_seconds, ge=1)
    """How long a connection is kept between two requests."""
    body_seconds: float = Field(default=ConnectionBounds.body_seconds, gt=0)
    """The longest that a body may take to come; an upload may take longer, at the rate that is set below."""
    answer_seconds: float = Field(default=ConnectionBounds.answer_seconds, gt=0)
    """The longest that an answer may take to begin once the body has come; an upload's may take `IMPORT_SECONDS`."""
    reader_seconds: float = Field(default=ConnectionBounds.reader_seconds, gt=0)
    """So long a client may take nothing, or too little, of its answer before its connection is closed."""
    min_bytes_per_second: int = Field(default=ConnectionBounds.min_bytes_per_second, ge=0)
    """What an upload has to bring on average over `BODY_SECONDS`, and a client to take of its answer over
    `READER_SECONDS`."""
    statement_seconds: float = Field(default=30.0, gt=0)
    """The longest that PostgreSQL works on one statement of an API process; SQLite has no such bound."""
    request_rate: str | None = None
    """How many requests an owner may send, such as `600/minute` or `50/second`, all of its keys together."""
    wrong_key_rate: str | None = "60/minute"
    """How many wrong keys an address may show before unknown ones are refused unread; known keys go on working."""
    rates_url: str | None = None
    """The Redis through which API processes tell each other how often was asked, `BROKER_URL` where it is not set."""
    max_queued_jobs: int | None = Field(default=10_000, ge=0)
    """The most jobs of an owner that may wait, queued or paused, those of comparisons among them."""
    max_datasets: int | None = Field(default=None, ge=0)
    """The most data sets that an owner may have uploaded."""
    max_stored_bytes: int | None = Field(default=None, ge=0)
    """The most bytes that an owner may store: data sets, files of models and results of predictions. Who has so much
    can neither upload nor submit; what runs already is finished and stored."""
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
    max_webhooks: int = Field(default=MAX_WEBHOOKS, ge=0)
    """The most webhooks that an owner may have."""
    webhook_allow_private: bool = False
    """Whether webhooks may be at private addresses, and without TLS: for tests, and for networks of one's own. Whoever
    may make a webhook can then have requests sent to every machine that the API's processes reach."""
    audit_days: int = Field(default=365, ge=0, le=36_500)
    """How many days the audit log is kept; 0: for ever."""
    max_running_jobs: int | None = Field(default=None, ge=1)
    """The most jobs of one owner that workers run at once; the others wait in line, however many workers are idle. No
    bound where it is not set. Workers read it, so give it to all of them."""
    max_parameters: int = Limits.max_parameters
    """The most weights and biases that a network may have."""
    max_cells: int = Limits.max_cells
    """The most cells (rows x columns) that a training may read."""
    max_memory_bytes: int = Limits.max_memory_bytes
    """The most memory that a training may be estimated to need."""
    max_training_seconds: float = Limits.max_training_seconds
    """The longest that a training may be estimated to take on two plain cores."""

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _divide(cls, words: object) -> object:
        """Take words that are divided by commas."""
        return tuple(filter(None, map(str.strip, words.split(",")))) if isinstance(words, str) else words

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no Host header can be without its port."""
        if odd := [name for name in names if not HOST.fullmatch(name)]:
            raise ValueError(f"takes names such as models.example.org or *.example.org, without a port; not {odd[0]}")
        return names

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no Origin header can be: all sites, a path."""
        if odd := [origin for origin in origins if not ORIGIN.fullmatch(origin)]:
            raise ValueError(f"takes origins such as https://app.example.org or http://localhost:3000; not {odd[0]}")
        return origins

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

    @field_validator("blob_url")
    @classmethod
    def _check_store(cls, url: str | None) -> str | None:
        """Refuse an address that leads to no object store."""
        if not url:
            return None
        check_url(url)
        return url

    @field_validator("request_rate", "wrong_key_rate")
    @classmethod
    def _check_rate(cls, text: str | None) -> str | None:
        """Refuse what cannot be read as a rate; an empty text is none."""
        if not text:
            return None
        Rate.of(text)
        return text

    @field_validator("rates_url")
    @classmethod
    def _check_sharing(cls, url: str | None) -> str | None:
        """Refuse what is no Redis through which counts can be shared."""
        if url and not can_share(url):
            raise ValueError(f"must be the URL of one Redis and begin with {' or '.join(SHARED_THROUGH)}")
        return url or None

    @property
    def store(self) -> ObjectStore | None:
        """The object store for blobs; None where they are in the database."""
        return None if self.blob_url is None else ObjectStore(self.blob_url, self.blob_keep_seconds)

    @property
    def limits(self) -> Limits:
        """The bounds on specs."""
        return Limits(self.max_parameters, self.max_cells, self.max_memory_bytes, self.max_training_seconds)

    @property
    def quotas(self) -> Quotas:
        """What an owner may have at once."""
        return Quotas(self.max_queued_jobs, self.max_datasets, self.max_stored_bytes)

    @property
    def connection_bounds(self) -> ConnectionBounds:
        """The bounds on connections to an API process."""
        return ConnectionBounds(**{field.name: getattr(self, field.name) for field in fields(ConnectionBounds)})

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
