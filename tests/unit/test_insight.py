"""Uncertainty and explanations as a request has them: in bounds, as plain lists, or refused with a reason."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from service.domain.errors import InvalidInput, InvalidRows
from service.domain.model_errors import NotTrainedWithDropout
from service.domain.models import ModelVersion, Outputs
from service.use_cases.insight import MAX_PASSES, explain, uncertainty
from tests.unit.networks import CLASSES, MLP, NUMBER, SNN, inputs_of, rows_of, spec_of, tensors_of

INPUTS = inputs_of(5)
ROWS = rows_of(INPUTS, 4)


def version_of(fields: dict[str, Any], outputs: Outputs, parameters: int = 500) -> ModelVersion:
    return ModelVersion(
        name="m",
        job_id="j",
        spec={"dataset": "d", "network": fields},
        data_sha256=None,
        inputs=INPUTS,
        outputs=outputs,
        metrics={},
        parity={},
        parameters=parameters,
        environment={},
        version=3,
        weights_sha256="0" * 64,
        onnx_sha256="0" * 64,
        keras_sha256=None,
        created_at=datetime.now(UTC),
    )


def weights_of(fields: dict[str, Any], outputs: Outputs) -> bytes:
    return save(tensors_of(spec_of(fields), 5, outputs))


def unread() -> bytes:
    raise AssertionError("nothing is read for a request that is refused")


def refused(*arguments: Any, fields: dict[str, Any] = SNN, rows: int = 4, parameters: int = 500) -> str:
    with pytest.raises(InvalidInput) as caught:
        uncertainty(version_of(fields, NUMBER, parameters), unread, np.zeros((rows, 5)), *arguments)
    return str(caught.value)


def test_uncertainty_of_numbers_is_in_their_units() -> None:
    found = uncertainty(version_of(SNN, NUMBER), lambda: weights_of(SNN, NUMBER), ROWS, 30, 5)
    assert (found.method, found.samples, found.seed) == ("alpha_dropout", 30, 5)
    assert len(found.mean) == len(found.standard_deviation) == 4
    assert np.mean(found.mean) == pytest.approx(NUMBER.mean, abs=3 * NUMBER.scale)
    assert min(found.standard_deviation) > 0.01 * NUMBER.scale
    assert found.predictive_entropy is None
    assert found.mutual_information is None


def test_uncertainty_of_classes_has_both_parts() -> None:
    found = uncertainty(version_of(MLP, CLASSES), lambda: weights_of(MLP, CLASSES), ROWS)
    assert (found.method, found.samples, found.seed) == ("dropout", 100, 0)
    assert np.shape(found.mean) == np.shape(found.standard_deviation) == (4, 3)
    assert found.predictive_entropy is not None
    assert found.mutual_information is not None
    assert len(found.predictive_entropy) == len(found.mutual_information) == 4


@pytest.mark.parametrize("outputs", [NUMBER, CLASSES], ids=["number", "classes"])
def test_results_are_plain_json(outputs: Outputs) -> None:
    version, weights = version_of(SNN, outputs), weights_of(SNN, outputs)
    for found in (uncertainty(version, lambda: weights, ROWS), explain(version, lambda: weights, ROWS)):
        assert json.loads(json.dumps(asdict(found))) == asdict(found)


@pytest.mark.parametrize("fields", [{**SNN, "dropout": 0.0}, {"kind": "mlp"}], ids=["snn", "mlp"])
def test_network_without_dropout_has_no_uncertainty(fields: dict[str, Any]) -> None:
    with pytest.raises(NotTrainedWithDropout) as caught:
        uncertainty(version_of(fields, NUMBER), unread, ROWS)
    [violation] = caught.value.violations
    assert violation.pointer == "#/uncertainty"
    assert "version 3 of model 'm'" in violation.detail
    assert '"dropout" above 0' in violation.detail


def test_samples_and_seed_have_bounds() -> None:
    assert refused(0) == "#/uncertainty/samples: must be between 1 and 1,000; got 0"
    assert "got 1001" in refused(1001)
    assert refused(10, -1) == "#/uncertainty/seed: must be between 0 and 4294967295; got -1"
    assert "got 4294967296" in refused(10, 2**32)
    both = refused(0, -1)
    assert "samples" in both
    assert "seed" in both


def test_rows_and_samples_together_have_a_bound() -> None:
    assert "100 samples of 2,001 row(s), 200,100 answers; of this model at most 200,000" in refused(100, rows=2001)
    assert "at most 40 are sampled" in refused(41, rows=1, parameters=10**9)
    assert "at most 1 are sampled" in refused(2, rows=1, parameters=10**12)
    rows = rows_of(INPUTS, 200)
    found = uncertainty(version_of(SNN, NUMBER), lambda: weights_of(SNN, NUMBER), rows, MAX_PASSES // 200)
    assert len(found.mean) == 200


def test_explanations_name_the_features_and_the_class() -> None:
    version, weights = version_of(SNN, CLASSES), weights_of(SNN, CLASSES)
    found = explain(version, lambda: weights, ROWS)
    assert found.method == "integrated_gradients"
    assert [list(row) for row in found.contributions] == [list(INPUTS.features)] * 4
    assert found.classes is not None
    asked = explain(version, lambda: weights, ROWS, np.array([2, 1, 0, 2]))
    assert asked.classes == ["c", "b", "a", "c"]
    for row in range(4):
        total = found.baseline[row] + sum(found.contributions[row].values()) - found.gap[row]
        assert total == pytest.approx(found.answers[row])


def test_explanation_of_a_number_has_no_class() -> None:
    assert explain(version_of(MLP, NUMBER), lambda: weights_of(MLP, NUMBER), ROWS).classes is None


def test_too_many_rows_are_not_explained() -> None:
    with pytest.raises(InvalidRows, match=r"has 98 rows; of this model at most 97 are explained at once"):
        explain(version_of(SNN, NUMBER), unread, np.zeros((98, 5)))
    with pytest.raises(InvalidRows, match="at most 1 are"):
        explain(version_of(SNN, NUMBER, parameters=10**10), unread, np.zeros((2, 5)))


def test_row_without_a_finite_answer_is_named() -> None:
    rows = ROWS.copy()
    rows[2] = 1e300
    for outputs in (NUMBER, CLASSES):
        version, weights = version_of(SNN, outputs), weights_of(SNN, outputs)
        for ask in (uncertainty, explain):
            with pytest.raises(InvalidRows) as caught:
                ask(version, lambda weights=weights: weights, rows)  # type: ignore[misc]  # mypy cannot type a default
            assert [item.pointer for item in caught.value.violations] == ["#/instances/2"]
