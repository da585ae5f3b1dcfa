"""What a data set is: its columns, where its official test rows are, and the built-in ones by name."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

ColumnKind = Literal["numeric", "categorical", "boolean", "date", "id", "text"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table with what was measured on all its rows; moments are None unless it is numeric."""

    name: str
    kind: ColumnKind
    is_integer: bool = False
    missing: int | None = None
    unique: int | None = None
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    examples: tuple[str | int | float | bool | None, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the column as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Column":
        """Read what ``to_dict`` wrote."""
        return cls(**{**values, "examples": tuple(values["examples"])})


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
