"""What a model can take of a data set, beyond what the HTTP tests say of the messages."""

from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.datasets import Column
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder, NumericEncoder
from service.domain.errors import InvalidSpec
from service.domain.models import Inputs, ModelVersion, Outputs
from service.domain.prediction_completion import complete_prediction
from service.domain.predictions import PredictionSpec
from tests.factories import make_dataset

SPEC = PredictionSpec(model="m", dataset="d1")


def version(*encoders: Encoder, outputs: Outputs = Outputs("regression", "y")) -> ModelVersion:  # noqa: B008  # frozen
    return ModelVersion(
        name="m",
        version=3,
        job_id="j",
        spec={},
        data_sha256=None,
        inputs=Inputs(encoders, (), ()),
        outputs=outputs,
        metrics={},
        parity={},
        parameters=1,
        environment={},
        weights_sha256="",
        onnx_sha256="",
        keras_sha256=None,
        created_at=datetime.now(UTC),
    )


def column(stored: Any, **values: Any) -> Column:
    return Column("c", "text", stored, **{"missing": 0, "unique": 5, **values})


NUMBER, FLAG = NumericEncoder("c"), BooleanEncoder("c")
DAY = DateEncoder("c", "%d.%m.%Y")


@pytest.mark.parametrize(
    ("encoder", "stored"),
    [
        (NUMBER, column("number")),
        (FLAG, column("boolean")),
        (FLAG, column("number", min=0, max=1)),
        (BooleanEncoder("c", missing_tokens=("-1",)), column("number", min=-1, max=1)),
        (CategoricalEncoder("c", ("x",)), column("text")),
        (CategoricalEncoder("c", (1,), holds="number"), column("number")),
        (CategoricalEncoder("c", (True,), holds="boolean"), column("boolean")),
        (DAY, column("text", date_format="%d.%m.%Y")),
        (DAY, column("text", date_format="iso")),
        (DAY, column("text", examples=("unknown", "01.02.2020"))),
        (NumericEncoder("c", gaps=True), column("text", unique=0, missing=100)),
    ],
)
def test_column_that_can_be_taken_is_taken(encoder: Encoder, stored: Column) -> None:
    completed = complete_prediction(SPEC, version(encoder), make_dataset(stored))
    assert completed.spec == SPEC.model_copy(update={"version": 3, "probabilities": False})
    assert completed.warnings == ()


@pytest.mark.parametrize(
    ("encoder", "stored", "words"),
    [
        (NUMBER, column("text"), "holds text; the model takes numbers; upload the table again with"),
        (NUMBER, column("boolean"), "holds true and false; the model takes numbers"),
        (NUMBER, column("number", unique=0), "has no cells at all"),
        (FLAG, column("number", min=1, max=2), "holds numbers from 1 to 2"),
        (CategoricalEncoder("c", (1,), holds="number"), column("boolean"), "categories that are numbers"),
        (DAY, column("text", date_format="%m/%d/%Y"), "written as in %m/%d/%Y; the model takes them as 2020-01-31 or"),
        (DAY, column("text", examples=("02/01/2020",)), "holds text that is no date, such as '02/01/2020'"),
    ],
)
def test_column_that_cannot_be_taken_is_refused(encoder: Encoder, stored: Column, words: str) -> None:
    with pytest.raises(InvalidSpec, match="column 'c'") as caught:
        complete_prediction(SPEC, version(encoder), make_dataset(stored))
    assert words in str(caught.value)


def test_data_set_without_rows_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="has no rows"):
        complete_prediction(SPEC, version(NUMBER), make_dataset(column("number"), rows=0))


@pytest.mark.parametrize(
    ("classes", "keep", "rows", "pointer"),
    [
        (1000, (), 300_000, "#/probabilities"),
        (2, ("c", "text"), 50_000_000, "#/probabilities"),
        (0, ("c", "text"), 70_000_000, "#/keep"),
    ],
)
def test_result_that_would_be_too_large_is_refused(
    classes: int, keep: tuple[str, ...], rows: int, pointer: str
) -> None:
    outputs = Outputs("classification" if classes else "regression", "y", tuple(range(classes)))
    dataset = make_dataset(column("number"), Column("text", "text", "text"), rows=rows)
    spec = SPEC.model_copy(update={"keep": keep})
    with pytest.raises(InvalidSpec) as caught:
        complete_prediction(spec, version(NUMBER, outputs=outputs), dataset)
    assert [found.pointer for found in caught.value.violations] == [pointer]
    assert "at most 1.0 GiB are allowed" in caught.value.violations[0].detail
