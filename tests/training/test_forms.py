"""Which trainings share compiled code."""

from typing import Any

import pytest

from service.domain.limits import CHUNK_BYTES, VALIDATION_BATCH_ROWS
from tests.training.support import SMALL, SMALL_MLP, Case, classes_table, completed, numbers_table
from workers.forms import Form, _compiled, chunk_shape

TABLE = classes_table(60)
NETWORK = {**SMALL, "dropout": 0.1}
TRAINING = {"batch_size": 32, "learning_rate": 0.01}


def form(
    training: dict[str, Any] | None = None, network: dict[str, Any] | None = None, rows: int = 1000, **fields: Any
) -> Form:
    spec = completed(TABLE, network=NETWORK | (network or {}), training=TRAINING | (training or {}), **fields)
    return Form.of(spec, features=5, outputs=3, training_rows=rows)


@pytest.mark.parametrize(
    "training",
    [
        {"seed": 7},
        {"learning_rate": 0.5},
        {"epochs": 7},
        {"schedule": {"kind": "cosine", "warmup_epochs": 2}},
        {"schedule": {"kind": "plateau"}},
        {"early_stopping": None},
        {"monitor": "val_accuracy"},
        {"validation_fraction": 0.4},
        {"test_fraction": 0.2},
        {"class_weights": "balanced"},
        {"sample_weight_column": "weight"},
        {"split": "order"},
    ],
    ids=str,
)
def test_what_is_given_at_every_step_is_not_compiled(training: dict[str, Any]) -> None:
    assert form() == form(training)


def test_names_rows_and_columns_are_not_compiled() -> None:
    assert form() == form(rows=5000)
    assert form() == form(model="another", tags=["x"], preparation={"numeric": "robust"})
    assert form() == form(features=["a", "b"])


@pytest.mark.parametrize(
    "training",
    [
        {"weight_decay": 0.2},
        {"optimizer": "adam"},
        {"optimizer": "sgd"},
        {"clip_norm": 1.0},
        {"l2": 0.1},
        {"label_smoothing": 0.1},
        {"batch_size": 16},
    ],
    ids=str,
)
def test_what_is_a_constant_in_the_code_makes_another_form(training: dict[str, Any]) -> None:
    assert form() != form(training)


def test_momentum_makes_another_form() -> None:
    assert form({"optimizer": "sgd"}) != form({"optimizer": "sgd", "momentum": 0.5})


@pytest.mark.parametrize("network", [{"dropout": 0.2}, {"units": 17}, {"hidden_layers": 3}, {"kind": "mlp"}], ids=str)
def test_another_network_makes_another_form(network: dict[str, Any]) -> None:
    assert form() != form(network=network)
    mlp = {**SMALL_MLP, "dropout": 0.1}
    assert form(network=mlp) != form(network={**mlp, "normalization": "batch"})


def test_batch_of_all_rows_is_as_large_as_the_rows() -> None:
    assert form(rows=20).batch_rows == 20
    assert form(rows=20) != form(rows=21)


def test_trainings_of_one_form_share_their_compiled_functions() -> None:
    """Another number of rows and epochs, another seed and schedule: only the first one waits for the compiler."""
    network = {**NETWORK, "units": 15}  # of no other test
    fields = {"network": network, "training": {"epochs": 2, "batch_size": 16}}
    other = {"network": network, "training": {"epochs": 3, "batch_size": 16, "seed": 5, "schedule": {"kind": "cosine"}}}
    cases = [Case(classes_table(90), fields), Case(classes_table(170, seed=1), other)]
    forms = [Form.of(each.spec, features=5, outputs=3, training_rows=each.table.rows) for each in cases]
    assert forms[0] == forms[1]
    before = _compiled.cache_info()
    for each in cases:
        each.run()
    after = _compiled.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)


def test_task_makes_another_form() -> None:
    numbers = completed(numbers_table(60), task="regression", network=NETWORK, training=TRAINING)
    assert form() != Form.of(numbers, features=5, outputs=1, training_rows=1000)


@pytest.mark.parametrize("rows", [1, 32, 512, 65_536])
@pytest.mark.parametrize("parameters", [100, 10**6, 10**9])
@pytest.mark.parametrize("features", [1, 3072, 100_000])
def test_chunk_is_a_power_of_two_of_bounded_size(rows: int, parameters: int, features: int) -> None:
    shape = chunk_shape(rows, parameters=parameters, bytes_per_row=4 * (features + 10), passes=3)
    assert shape.rows == rows
    assert shape.steps in {1, 2, 4, 8, 16, 32, 64}
    assert shape.steps == 1 or 4 * shape.steps * rows * (features + 10) <= CHUNK_BYTES


def test_small_networks_take_many_steps_and_large_ones_few() -> None:
    assert chunk_shape(32, parameters=1000, bytes_per_row=52, passes=3).steps == 64
    assert chunk_shape(VALIDATION_BATCH_ROWS, parameters=10**9, bytes_per_row=52, passes=1).steps == 1
