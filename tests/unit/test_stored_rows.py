"""Rows of a stored table, held against what a model takes; agreement with rows that clients send is tested beside."""

from typing import Any

import numpy as np
import pytest

from service.domain.cells import Coded
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder, NumericEncoder
from service.domain.models import Inputs
from service.inference.findings import RowFindings
from service.inference.rows import check
from service.inference.stored import StoredRows, check_stored

CELLS: dict[str, tuple[Encoder, list[Any]]] = {
    "numbers": (NumericEncoder("c"), [1, -2.5, 3e38]),
    "gaps": (NumericEncoder("c", gaps=True, fill=7.0, missing_tokens=("-1", "NA")), [1.0, None, -1.0]),
    "booleans": (BooleanEncoder("c"), [True, False]),
    "booleans as numbers": (BooleanEncoder("c", gaps=True, fill=0.5), [1, 0, None]),
    "texts": (CategoricalEncoder("c", ("x", "y"), other=True, gaps=True, rare=("z",)), ["y", None, "z", "x", " ", "q"]),
    "words": (CategoricalEncoder("c", ("x",), gaps=True, missing_tokens=("?",)), ["x", "?", " ? ", "x"]),
    "whole numbers": (CategoricalEncoder("c", (1, 2), holds="number"), [2, 1, 3]),
    "numbers with gaps": (CategoricalEncoder("c", (1, 2.5), gaps=True, holds="number"), [2.5, None, 1.0]),
    "large numbers": (CategoricalEncoder("c", (2**60 + 1,), gaps=True, holds="number"), [2**60 + 1, None, 2**60]),
    "flags": (CategoricalEncoder("c", (False, True), holds="boolean"), [True, False]),
    "days": (DateEncoder("c", "%d.%m.%Y"), ["01.02.2020", "2020-02-01", "31.12.1969"]),
    "moments": (DateEncoder("c", "iso", has_time=True, gaps=True, fill=(0.5,) * 9), ["2020-02-01T10:30Z", None]),
}


def stored(cells: list[Any]) -> Any:
    """Cells as a stored table gives them."""
    if any(isinstance(cell, str) for cell in cells):
        known = [cell for cell in dict.fromkeys(cells) if cell is not None]
        return Coded(known, np.array([-1 if cell is None else known.index(cell) for cell in cells], np.int32))
    if None in cells and any(isinstance(cell, int) and abs(cell) > 2**53 for cell in cells):
        return np.array(cells, object)
    return np.array(cells, float) if None in cells else np.array(cells)


def one(encoder: Encoder, cells: Any) -> StoredRows:
    width = encoder.width
    return check_stored({"c": cells}, Inputs((encoder,), (0.0,) * width, (1.0,) * width))


@pytest.mark.parametrize("name", CELLS)
def test_stored_cells_are_encoded_as_sent_ones_are(name: str) -> None:
    encoder, cells = CELLS[name]
    rows = one(encoder, stored(cells))
    assert not rows.lost.any()
    sent = check([[cell] for cell in cells], Inputs((encoder,), (0.0,) * encoder.width, (1.0,) * encoder.width))
    np.testing.assert_array_equal(sent.encoded(), rows.encoded(0, len(cells)))
    np.testing.assert_array_equal(sent.encoded()[1:2], rows.encoded(1, 2))


@pytest.mark.parametrize(
    ("encoder", "cells", "lost", "what"),
    [
        (NumericEncoder("c"), [1.0, None, 2.0], [1], "missing, and training saw no gaps in it"),
        (NumericEncoder("c", missing_tokens=("-999",)), [1, -999], [1], "missing, and training saw no gaps in it"),
        (NumericEncoder("c", gaps=True), [1e39, np.inf, 1.0], [0, 1], "beyond ±3.4e38 (float32)"),
        (BooleanEncoder("c"), [0, 1, 2], [2], "neither true nor false, nor 0 or 1"),
        (CategoricalEncoder("c", ("x",)), ["x", None], [1], "missing, and training saw no gaps in it"),
        (DateEncoder("c", "%d.%m.%Y"), ["01.02.2020", "02/01/2020"], [1], "no dates such as 2020-01-31 or as in "),
        (DateEncoder("c", "iso"), ["2020-02-30", "2020-02-28"], [0], "no dates such as 2020-01-31"),
    ],
)
def test_cell_that_cannot_be_taken_loses_its_row_and_is_said(
    encoder: Encoder, cells: list[Any], lost: list[int], what: str
) -> None:
    rows = one(encoder, stored(cells))
    assert np.flatnonzero(rows.lost).tolist() == lost
    [problem] = rows.problems
    assert (problem.column, problem.rows.tolist()) == ("c", lost)
    assert problem.what.startswith(what)
    assert np.isfinite(rows.encoded(0, len(cells))).all()


@pytest.mark.parametrize("cells", [Coded((), np.full(3, -1, np.int32)), np.full(3, np.nan)])
@pytest.mark.parametrize(
    "encoder",
    [
        NumericEncoder("c", gaps=True, fill=2.0),
        BooleanEncoder("c", gaps=True, fill=0.5),
        CategoricalEncoder("c", ("x",), gaps=True),
        DateEncoder("c", "iso", gaps=True, fill=(1.0,) * 7),
    ],
    ids=lambda encoder: encoder.kind,
)
def test_column_without_cells_is_all_gaps_however_it_is_stored(encoder: Encoder, cells: Any) -> None:
    rows = one(encoder, cells)
    assert not rows.lost.any()
    assert rows.encoded(0, 3)[:, -1].tolist() == [1.0] * 3


def test_findings_add_up_and_survive_json() -> None:
    encoder = CategoricalEncoder("c", ("x",), missing_tokens=("?",))
    found = RowFindings()
    nothing_far = np.zeros(4, bool)
    found.take(one(encoder, stored(["x", "?", "new", "new"])), nothing_far, 0)
    far = np.array([False, True, False, False])
    found.take(one(encoder, stored(["other", "x", None, "x"])), far, 4)
    found = RowFindings.from_dict(found.to_dict())
    found.take(one(encoder, stored(["x", "x", "x", None])), nothing_far, 8)
    assert found.unanswered == 4
    assert found.warnings(12) == [
        "4 of 12 row(s) have no prediction: 1, 5, 6, 11 (rows count from 0)",
        "1 row(s), the first of them row 5, have values too far from those that the model was trained on; it has no "
        "answer for them",
        "column 'c': 3 cell(s) are missing, and training saw no gaps in it; the first in row 1",
        "column 'c': 3 cell(s) hold categories that training did not see, such as 'new', 'other'; they are taken as "
        "none of the known ones",
    ]


def test_findings_stay_small_however_much_is_found() -> None:
    encoder = CategoricalEncoder("c", ("x",))
    found = RowFindings()
    for start in range(0, 3000, 1000):
        cells = [f"new {start + place}" for place in range(500)] + [None] * 500
        found.take(one(encoder, stored(cells)), np.zeros(1000, bool), start)
    assert len(found.first) == 10
    assert len(found.unseen["c"].examples) == 10
    assert found.warnings(3000)[0].startswith("1,500 of 3,000 row(s) have no prediction: 500, 501")
    assert "1,500 cell(s) hold categories" in found.warnings(3000)[2]
