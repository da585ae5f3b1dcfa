"""Tables of other packages, as Arrow has them; none of those packages is imported unless the caller has."""

import tempfile
from typing import Any, BinaryIO

SPOOL_BYTES = 64 * 2**20
PACKAGES = ("pandas", "polars", "pyarrow", "numpy")


def package_of(value: Any) -> str | None:
    """Return which package a frame, or what derives from one, is of; None for anything else."""
    for kind in type(value).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in PACKAGES:
            return package
    return None


def is_frame(value: Any) -> bool:
    """Whether a value is a table of one of these packages."""
    return package_of(value) is not None


def as_parquet(frame: Any) -> BinaryIO:
    """Write a frame as Parquet into a temporary file.

    Raises:
        TypeError, ValueError: as ``to_arrow`` does.
    """
    import pyarrow.parquet

    table = to_arrow(frame)
    file = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115  # the caller closes it
    pyarrow.parquet.write_table(table, file)
    return file  # type: ignore[return-value]  # it has all of BinaryIO


def to_arrow(frame: Any) -> Any:
    """Return a frame as a pyarrow Table: columns by name and in their order, missing cells as nulls, no index.

    Raises:
        TypeError: it is no table, or a column holds what no table can.
        ValueError: names repeat, or an array has not two dimensions.
    """
    import pyarrow as pa

    match package_of(frame):
        case "pandas":
            table = _of_pandas(frame)
        case "polars":
            table = _of_polars(frame)
        case "numpy":
            table = _of_numpy(frame)
        case _:
            table = pa.Table.from_batches([frame]) if isinstance(frame, pa.RecordBatch) else frame
    if not isinstance(table, pa.Table):
        raise TypeError(f"{type(frame).__module__}.{type(frame).__name__} is no table; pass a DataFrame or a Table")
    return _without_codes(table)


def _of_pandas(frame: Any) -> Any:
    import pyarrow as pa

    if not hasattr(frame, "columns"):
        raise TypeError("a pandas Series is no table; pass a DataFrame, such as series.to_frame()")
    if not frame.columns.is_unique:
        twice = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
        raise ValueError(f"column names repeat: {', '.join(twice)[:200]}; give every column a name of its own")
    named = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    try:
        return pa.Table.from_pandas(named, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise TypeError(
            f"{error.args[0]}; a column must hold cells of one kind. Turn it into text or numbers"
        ) from None


def _of_polars(frame: Any) -> Any:
    if hasattr(frame, "collect"):
        frame = frame.collect()
    if not hasattr(frame, "columns"):
        raise TypeError("a polars Series is no table; pass a DataFrame, such as series.to_frame()")
    return frame.fill_nan(None).to_arrow()


def _of_numpy(array: Any) -> Any:
    import pyarrow as pa

    if array.dtype.names:
        return pa.table({name: pa.array(array[name], from_pandas=True) for name in array.dtype.names})
    if array.ndim != 2:
        raise ValueError(f"an array of rows must have 2 dimensions, (rows, columns); got the shape {array.shape}")
    return pa.table({f"c{place}": pa.array(column, from_pandas=True) for place, column in enumerate(array.T)})


def _without_codes(table: Any) -> Any:
    """Return a table whose categories are the values that they stand for, for Parquet keeps codes beside its own."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    return table
