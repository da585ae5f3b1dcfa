"""What a prediction makes: Parquet, written a group of rows at a time, put together of parts, given out as CSV."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.domain.models import Outputs
from service.domain.predictions import ResultColumns
from service.domain.training_errors import UnusableState
from service.tables.parquet import GROUP_BYTES, HashedFile, open_table

FINDINGS = "selfnorm.findings"
"""Under this key a part says what has been found up to its end."""
FORMULA = r"^[=+\-@\t\r]"
"""How texts begin that a spreadsheet takes for a formula, or for a cell before one."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
LABEL_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


class ResultWriter:
    """Writes answers as Parquet into a file; a group of rows at a time is in memory."""

    def __init__(self, output: BinaryIO, columns: ResultColumns, outputs: Outputs, group_rows: int) -> None:
        """Write nothing yet; groups have at least ``group_rows`` rows, unless they are heavy."""
        self._hashed = HashedFile(output)
        self._output = output
        self._columns = columns
        self._labels = None if outputs.task == "regression" else _labels(outputs)
        self._group_rows = group_rows
        self._waiting: list[pa.RecordBatch] = []
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0
        """How many rows are written."""

    @property
    def size_bytes(self) -> int:
        """How large the file is so far."""
        return self._hashed.size_bytes

    @property
    def sha256(self) -> str:
        """The hash of what is written so far."""
        return self._hashed.sha256.hexdigest()

    def add(self, batch: pa.RecordBatch, answer: NDArray[np.floating], lost: NDArray[np.bool_]) -> bool:
        """Add some rows: the columns that are kept, what the network said, (rows, outputs), and which rows are lost.

        Returns whether everything that was added is written now.
        """
        kept = [batch.column(name) for name in self._columns.kept]
        self._waiting.append(pa.RecordBatch.from_arrays([*kept, *self._answers(answer, lost)], self._columns.names))
        waiting = sum(map(len, self._waiting))
        if waiting < self._group_rows and sum(part.nbytes for part in self._waiting) < GROUP_BYTES:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what waits as a group of rows."""
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._waiting = []
            self._write(table.unify_dictionaries() if table.column(0).num_chunks > 1 else table)

    def copy(self, part: BinaryIO) -> Iterator[int]:
        """Copy a part, group by group; gives how many rows are written after each."""
        opened = open_table(part)
        for group in range(opened.metadata.num_row_groups):
            self._write(opened.read_row_group(group).select(list(self._columns.names)))
            yield self.rows

    def close(self, findings: dict[str, Any] | None = None) -> None:
        """Write the rest and the footer; ``findings`` are kept in it where the file is a part."""
        self.flush()
        if self._writer is not None:
            if findings is not None:
                self._writer.add_key_value_metadata({FINDINGS: json.dumps(findings)})
            self._writer.close()
        self._output.flush()

    def abandon(self) -> None:
        """Let go of a file that nobody wants any more; one that is closed stays as it is."""
        if self._writer is not None:
            with suppress(OSError):  # Arrow writes a footer all the same, for which there may be no room
                self._writer.close()

    def _answers(self, answer: NDArray[np.floating], lost: NDArray[np.bool_]) -> list[pa.Array]:
        if self._labels is None:
            return [pa.array(answer[:, 0], pa.float64(), mask=lost)]
        places = pa.array(answer.argmax(axis=1).astype(np.int32), mask=lost)
        is_text = pa.types.is_string(self._labels.type)
        labels = pa.DictionaryArray.from_arrays(places, self._labels) if is_text else self._labels.take(places)
        probabilities = [
            pa.array(np.ascontiguousarray(answer[:, place]), pa.float32(), mask=lost)
            for place in range(len(self._columns.probabilities))
        ]
        return [labels, *probabilities]

    def _write(self, table: pa.Table) -> None:
        # Nothing but names and types, so that a part that was read again becomes the same bytes.
        plain = pa.schema([pa.field(field.name, field.type) for field in table.schema])
        table = pa.Table.from_arrays(table.columns, schema=plain)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._hashed,
                table.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[field.name for field in table.schema if pa.types.is_dictionary(field.type)],
                store_schema=False,  # texts are texts to whoever reads it, not categories
            )
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows


def findings_of(part: BinaryIO) -> dict[str, Any]:
    """Read what a part says of the rows up to its end.

    Raises:
        UnusableState: it is none.
    """
    try:
        found: dict[str, Any] = json.loads(pq.read_metadata(part).metadata[FINDINGS.encode()])
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise UnusableState(f"it is no part of a result: {error}") from None
    return found


def as_csv(file: BinaryIO) -> Iterator[bytes]:
    """Give a result as CSV, a group of rows at a time: one header line, quoted texts, nothing for what is missing.

    A spreadsheet would run a text that looks like a formula, and anybody may have written it into a table: an
    apostrophe in front makes it a text again. Numbers stay what they are, and Parquet holds every text as it is.
    """
    opened = pq.ParquetFile(file)
    for group in range(opened.metadata.num_row_groups):
        buffer = io.BytesIO()
        table = _without_formulas(opened.read_row_group(group, use_threads=False))
        pacsv.write_csv(table, buffer, pacsv.WriteOptions(include_header=group == 0))
        yield buffer.getvalue()


def _without_formulas(table: pa.Table) -> pa.Table:
    names = [
        f"'{name}" if re.match(FORMULA, name) and not re.fullmatch(NUMBER, name) else name
        for name in table.column_names
    ]
    return pa.table([_plain(column) for column in table.columns], names=names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Put an apostrophe before the texts of a column that a spreadsheet would take for formulas."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_string(kind):
        return column
    texts = column.cast(kind)
    is_formula = pc.and_not(pc.match_substring_regex(texts, FORMULA), pc.match_substring_regex(texts, NUMBER))
    if not pc.any(is_formula).as_py():
        return column
    return pc.if_else(is_formula, pc.binary_join_element_wise("'", texts, ""), texts)


def _labels(outputs: Outputs) -> pa.Array:
    return pa.array(list(outputs.classes), LABEL_TYPES[_label_type(outputs.classes)])


def _label_type(classes: Sequence[Any]) -> type:
    """Return the type that all classes have; whole numbers among others count as such."""
    kinds = set(map(type, classes))
    return float if kinds == {int, float} else kinds.pop()
