"""What a data set is: its columns, where its official test rows are, and the built-in ones by name."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

ColumnKind = Literal["numeric", "categorical", "boolean", "date", "id", "text"]
Stored = Literal["number", "boolean", "text"]
Cell = str | int | float | bool | None

TRAINABLE_KINDS: tuple[ColumnKind, ...] = ("numeric", "categorical", "boolean", "date")
"""Kinds that a network can take; id and text columns are left out."""

MISSING_TOKENS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "?")
"""Cells of a text file that count as missing beside the empty one."""
NUMERIC_MISSING_TOKENS = ("unknown",)
"""Cells that count as missing where all others of the column are numbers."""

MAX_CELL_LENGTH = 64
"""So many characters of a text are kept as an example or as a frequent value (``Column.examples``, ``Column.top``)."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of cells between neighbouring edges, one edge more than counts; of a date column, in days since 1970."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table with what was measured on all its rows; moments are None unless it is numeric.

    ``min`` and ``max`` of a date column are ISO 8601 text.
    """

    name: str
    kind: ColumnKind
    stored: Stored = "number"
    """How the cells lie in the stored table; a date lies there as the text that it came as."""
    is_integer: bool = False
    missing: int | None = None
    unique: int | None = None
    mean: float | None = None
    std: float | None = None
    min: float | str | None = None
    max: float | str | None = None
    examples: tuple[Cell, ...] = ()
    quantiles: dict[str, float] | None = None
    """``p1``, ``p5``, ``p25``, ``p50``, ``p75``, ``p95``, ``p99`` of a numeric column."""
    histogram: Histogram | None = None
    top: tuple[tuple[Cell, int], ...] = ()
    """The most frequent values with their counts, most frequent first; of text and boolean columns and few numbers."""
    missing_tokens: dict[str, int] = field(default_factory=dict)
    """Which words stood for a missing cell, and how often."""
    date_format: str | None = None
    """How the dates of a date column are written (``service.domain.dates``)."""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the column as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Column":
        """Read what ``to_dict`` wrote, by this version or an older one."""
        histogram = values.get("histogram")
        read = {
            "examples": tuple(values["examples"]),
            "top": tuple((value, count) for value, count in values.get("top", ())),
            "warnings": tuple(values.get("warnings", ())),
            "histogram": histogram and Histogram(tuple(histogram["edges"]), tuple(histogram["counts"])),
        }
        return cls(**{**values, **read})


@dataclass(frozen=True, slots=True)
class Related:
    """Two columns that say nearly the same: a suspect of leakage where one of them is the target."""

    first: str
    second: str
    how: Literal["equal", "correlated", "one_to_one"]
    """Equal cell by cell; a correlation close to 1 or -1; or each value of one belongs to one value of the other."""
    strength: float
    """The share of equal cells, the correlation, or 1."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was found about a table as a whole when it came in."""

    source: dict[str, Any] = field(default_factory=dict)
    """The format and, for CSV, the dialect: separator, quote, decimal mark, encoding, whether it had a BOM."""
    missing_words: tuple[str, ...] = ()
    """Words that stood for a missing cell in every column, beside the empty cell."""
    duplicate_rows: int | None = None
    related: tuple[Related, ...] = ()
    warnings: tuple[str, ...] = ()
    """In plain words, with what to do."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TableReport":
        """Read what ``to_dict`` wrote."""
        return cls(
            source=values["source"],
            missing_words=tuple(values.get("missing_words", ())),
            duplicate_rows=values["duplicate_rows"],
            related=tuple(Related(**pair) for pair in values["related"]),
            warnings=tuple(values["warnings"]),
        )


@dataclass(frozen=True, slots=True)
class ImportedTable:
    """A table that has been read, described and written as Parquet."""

    rows: int
    columns: tuple[Column, ...]
    report: TableReport
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A stored table, or a built-in one that a worker reads where it runs (then ``sha256`` is None)."""

    id: str
    number: int
    name: str
    builtin: bool
    rows: int
    columns: tuple[Column, ...]
    default_target: str | None
    official_test_rows: int
    """The last so many rows are the published test part; 0 where there is none."""
    sha256: str | None
    size_bytes: int
    created_at: datetime
    report: TableReport = TableReport()

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class ArticleTable:
    """A data set of the article that Keras downloads: known by shape, read where it is needed."""

    name: str
    features: tuple[str, ...]
    target: str
    train_rows: int
    test_rows: int
    classes: int | None
    """How many classes the target has; None for a regression."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns as far as they are known without reading the files."""
        target = Column(self.target, "numeric", is_integer=self.classes is not None, missing=0, unique=self.classes)
        return (*(Column(name, "numeric", missing=0) for name in self.features), target)


BOSTON_FEATURES = ("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT")

ARTICLE_TABLES = {
    table.name: table
    for table in (
        ArticleTable("boston_housing", BOSTON_FEATURES, "MEDV", 404, 102, None),
        ArticleTable("fashion_mnist", tuple(f"pixel_{i}" for i in range(28 * 28)), "label", 60_000, 10_000, 10),
        ArticleTable("cifar10", tuple(f"pixel_{i}" for i in range(32 * 32 * 3)), "label", 50_000, 10_000, 10),
    )
}
"""The article's three tables: training rows first, then the official test rows."""

SCIKIT_LEARN_TABLES = ("iris", "wine", "breast_cancer", "digits", "diabetes")
