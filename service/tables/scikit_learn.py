"""The built-in tables that scikit-learn carries; imported only to store them once, for it is large."""

import pyarrow as pa
from sklearn import datasets

from service.domain.datasets import SCIKIT_LEARN_TABLES
from service.tables.parquet import from_arrays

TARGET = "target"


def load(name: str) -> pa.Table:
    """Load a table as scikit-learn's own loader gives it, classes by their names."""
    if name not in SCIKIT_LEARN_TABLES:
        raise KeyError(name)
    bunch = getattr(datasets, f"load_{name}")()
    columns = dict(zip(bunch.feature_names, bunch.data.T, strict=True))
    named = name in ("iris", "wine", "breast_cancer")
    target = bunch.target_names[bunch.target] if named else bunch.target
    return from_arrays({**columns, TARGET: target.astype(str).astype(object) if named else target})
