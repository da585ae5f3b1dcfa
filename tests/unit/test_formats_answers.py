import csv
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from service.api.answers import to_json
from service.api.formats.answering import write_answer
from service.api.formats.negotiation import ARROW, CSV, JSON, NDJSON, NPY, answer_type
from service.api.formats.pieces import pieces
from service.domain.models import Outputs
from service.use_cases.predict import Answer
from tests.formats import CLASSES, NUMBER, NUMBERS, served

ROWS = (1, 2, 4096, 4097, 9000)


def answered(rows: int, classes: int) -> Answer:
    """Random answers, with numbers of every size among predictions."""
    rng = np.random.default_rng(rows)
    if not classes:
        return Answer(rng.normal(size=(rows, 1)) * 10.0 ** rng.integers(-30, 30, (rows, 1)), ("odd",))
    return Answer(rng.dirichlet(np.ones(classes), rows).astype(np.float32), ("odd", "ü"))


def written(kind: str, answer: Answer, outputs: Outputs) -> bytes:
    return b"".join(write_answer(answer_type(kind), served(NUMBERS, outputs), answer))


def labels(answer: Answer) -> list[Any]:
    return [CLASSES.classes[index] for index in answer.values.argmax(axis=1)]


def same(numbers: Any, values: NDArray[np.floating]) -> bool:
    """Whether numbers read from text give back every bit."""
    return np.array(numbers, np.float64).astype(values.dtype).tobytes() == values.tobytes()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("outputs", [NUMBER, CLASSES])
def test_json_is_the_same_in_pieces(rows: int, outputs: Outputs) -> None:
    answer = answered(rows, len(outputs.classes))
    model = served(NUMBERS, outputs)
    assert written(JSON, answer, outputs) == to_json(model, answer.values, answer.warnings)


@pytest.mark.parametrize("rows", ROWS)
def test_predictions_come_back_to_the_bit(rows: int) -> None:
    answer = answered(rows, 0)
    values = answer.values[:, 0]
    assert same(json.loads(written(JSON, answer, NUMBER))["predictions"], values)
    assert same([json.loads(line)["prediction"] for line in written(NDJSON, answer, NUMBER).splitlines()], values)
    name, *cells = written(CSV, answer, NUMBER).decode().splitlines()
    assert name == "prediction"
    assert same([float(cell) for cell in cells], values)
    assert written("text/csv; header=absent", answer, NUMBER).decode().splitlines() == cells
    array = np.load(io.BytesIO(written(NPY, answer, NUMBER)), allow_pickle=False)
    assert array.dtype == np.float64
    assert array.tobytes() == values.tobytes()
    table = pa.ipc.open_stream(written(ARROW, answer, NUMBER)).read_all()
    assert table.schema.names == ["prediction"]
    assert table["prediction"].to_numpy().tobytes() == values.tobytes()


@pytest.mark.parametrize("rows", ROWS)
def test_probabilities_come_back_to_the_bit(rows: int) -> None:
    answer = answered(rows, 3)
    whole = json.loads(written(JSON, answer, CLASSES))
    assert (whole["predictions"], whole["classes"]) == (labels(answer), list(CLASSES.classes))
    assert same(whole["probabilities"], answer.values)
    lines = [json.loads(line) for line in written(NDJSON, answer, CLASSES).splitlines()]
    assert [line["prediction"] for line in lines] == labels(answer)
    assert same([line["probabilities"] for line in lines], answer.values)
    names, *records = csv.reader(io.StringIO(written(CSV, answer, CLASSES).decode(), newline=""))
    assert names == ["prediction", *(f"probability: {label}" for label in CLASSES.classes)]
    assert [record[0] for record in records] == labels(answer)
    assert same([[float(cell) for cell in record[1:]] for record in records], answer.values)
    array = np.load(io.BytesIO(written(NPY, answer, CLASSES)), allow_pickle=False)
    assert array.shape == (rows, 3)
    assert array.tobytes() == answer.values.tobytes()
    table = pa.ipc.open_stream(written(ARROW, answer, CLASSES)).read_all()
    assert table.schema.names == names
    assert table["prediction"].to_pylist() == labels(answer)
    assert np.column_stack([table[name] for name in names[1:]]).astype(np.float32).tobytes() == answer.values.tobytes()
    assert {str(table.schema.field(name).type) for name in names[1:]} == {"float"}


def test_arrow_says_who_answered_and_what_was_odd() -> None:
    about = pa.ipc.open_stream(written(ARROW, answered(2, 3), CLASSES)).schema.metadata
    assert about == {b"model": b"m", b"version": b"7", b"warnings": json.dumps(["odd", "ü"]).encode()}


@pytest.mark.parametrize(
    ("classes", "texts", "kind"),
    [((False, True), ["false", "true"], "bool"), ((1, 2), ["1", "2"], "int64"), ((0.5, 1.0), ["0.5", "1.0"], "double")],
)
def test_classes_need_not_be_text(classes: tuple[Any, ...], texts: list[str], kind: str) -> None:
    outputs = Outputs("classification", "kind", classes)
    answer = Answer(np.array([[0.25, 0.75]], np.float32))
    names, line = written(CSV, answer, outputs).decode().splitlines()
    assert names == f"prediction,probability: {texts[0]},probability: {texts[1]}"
    assert line == f"{texts[1]},0.25,0.75"
    assert json.loads(written(NDJSON, answer, outputs)) == {"prediction": classes[1], "probabilities": [0.25, 0.75]}
    table = pa.ipc.open_stream(written(ARROW, answer, outputs)).read_all()
    assert (str(table.schema.field("prediction").type), table["prediction"].to_pylist()) == (kind, [classes[1]])


def test_labels_of_any_text_are_cells_of_csv() -> None:
    classes = ("a,b", 'say "x"', "two\r\nlines", "", " blank ", "\rx")
    outputs = Outputs("classification", "kind", classes)
    answer = Answer(np.eye(len(classes), dtype=np.float32))
    _, *records = csv.reader(io.StringIO(written(CSV, answer, outputs).decode(), newline=""), strict=True)
    assert [record[0] for record in records] == list(classes)


def test_wide_answers_come_in_smaller_pieces() -> None:
    assert [len(piece) for piece in pieces(np.zeros((9000, 1)))] == [4096, 4096, 808]
    assert [len(piece) for piece in pieces(np.zeros((100, 2**15)))] == [2] * 50
    assert [len(piece) for piece in pieces(np.zeros((2, 2**17)))] == [1, 1]
