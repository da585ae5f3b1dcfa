"""Between scikit-learn's rows, targets and weights and the one table that the service trains on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from service.client import frames
from service.domain.datasets import ColumnKind

MAX_EXACT = 2**53
"""Whole numbers beyond this are not told apart once they are floats."""


@dataclass(frozen=True)
class Columns:
    """A table with everything that a training needs, and what its columns are called."""

    table: Any
    target: str
    weight: str | None
    kinds: dict[str, ColumnKind] | None


def features_and_target(estimator: Any, X: Any, y: Any, *, y_numeric: bool = False) -> tuple[Any, Any]:  # noqa: N803
    """Return features as a pyarrow Table, and the target as an array; the estimator learns the columns' names.

    Raises:
        ValueError, TypeError: they are of another form, or of different lengths.
    """
    if not _has_columns(X):
        X, y = validate_data(  # noqa: N806
            estimator, X, y, ensure_all_finite="allow-nan", ensure_min_samples=2, y_numeric=y_numeric
        )
        return _named(estimator, X), y
    table = features_of(estimator, X, is_first=True)
    y = check_array(y, ensure_2d=False, dtype="numeric" if y_numeric else None, input_name="y")
    check_consistent_length(table, y)
    return table, y


def features_of(estimator: Any, X: Any, *, is_first: bool) -> Any:  # noqa: N803
    """Return features as a pyarrow Table, whose columns must be those of the first time.

    Raises:
        ValueError, TypeError: they are of another form.
    """
    if not _has_columns(X):
        X = validate_data(estimator, X, ensure_all_finite="allow-nan", reset=is_first)  # noqa: N806
        return _named(estimator, X)
    validate_data(estimator, X, skip_check_array=True, reset=is_first)
    return frames.to_arrow(X).rename_columns(_names(estimator))


def with_target(table: Any, target: NDArray[Any], weights: NDArray[Any] | None) -> Columns:
    """Put the target, and the weights where there are any, beside the features."""
    name = _free("target", table.column_names)
    table = table.append_column(name, pa.array(target))
    kinds: dict[str, ColumnKind] | None = {name: "categorical"} if target.dtype.kind == "U" else None
    if weights is None:
        return Columns(table, name, None, kinds)
    weight = _free("weight", table.column_names)
    return Columns(table.append_column(weight, pa.array(weights)), name, weight, kinds)


def labels_of(classes: NDArray[Any]) -> NDArray[Any]:
    """Return what the service calls classes: text and whole numbers as they are, anything else by its place."""
    if classes.dtype.kind == "b":
        return classes
    if classes.dtype.kind in "iu" and np.abs(classes).max() <= MAX_EXACT:
        return classes.astype(np.int64)
    if classes.dtype.kind in "UO" and all(isinstance(label, str) and label.strip() for label in classes):
        return classes.astype(str)
    return np.arange(len(classes))


def class_weights(asked: Any, classes: NDArray[Any], labels: NDArray[Any]) -> Any:
    """Return the weights of classes as a spec has them: by the text of what the service calls each."""
    if not isinstance(asked, Mapping):
        return asked
    by_class = dict(zip(classes.tolist(), labels.tolist(), strict=True))
    if unknown := [label for label in asked if label not in by_class]:
        raise ValueError(f"class_weight names {unknown[0]!r}, which is no class of y; those are {classes.tolist()}")
    return {_text(by_class[label]): float(weight) for label, weight in asked.items()}


def _has_columns(X: Any) -> bool:  # noqa: N803
    return frames.package_of(X) in ("pandas", "polars", "pyarrow") and hasattr(X, "columns")


def _named(estimator: Any, array: NDArray[Any]) -> Any:
    columns = [pa.array(column, from_pandas=True) for column in np.ascontiguousarray(array.T)]
    return pa.table(columns, _names(estimator))


def _names(estimator: Any) -> list[str]:
    found = getattr(estimator, "feature_names_in_", None)
    return [f"x{place}" for place in range(estimator.n_features_in_)] if found is None else list(found)


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _text(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)
