"""Equal specs, data and seeds give equal bits; other seeds do not."""

from functools import cache
from typing import Any

import pytest

from tests.training.support import (
    DROPOUT_AND_CLASS_WEIGHTS,
    SMALL,
    Case,
    Watched,
    case,
    classes_table,
    output_of,
    sha256,
    start_python,
)
from workers.network import OPTIMIZERS

TABLE = classes_table(300)

WHOLE_TRAINING = """
from tests.training.support import DROPOUT_AND_CLASS_WEIGHTS, case, sha256
trained = case(DROPOUT_AND_CLASS_WEIGHTS).run().trained
print(sha256(trained.onnx), sha256(trained.weights))
"""


def run(optimizer: str, seed: int) -> Watched:
    training: dict[str, Any] = {"optimizer": optimizer, "seed": seed, "epochs": 3, "test_fraction": 0.2}
    return Case(TABLE, {"network": {**SMALL, "dropout": 0.1}, "training": training}).run()


@cache
def first(optimizer: str) -> Watched:
    return run(optimizer, 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equal_seed_gives_equal_bits_and_another_seed_does_not(optimizer: str) -> None:
    other, again = run(optimizer, 2), run(optimizer, 1)
    assert first(optimizer).trained.onnx == again.trained.onnx
    assert first(optimizer).trained.weights == again.trained.weights
    assert first(optimizer).measured == again.measured
    assert first(optimizer).trained.onnx != other.trained.onnx


def test_every_optimizer_goes_its_own_way() -> None:
    assert len({first(optimizer).trained.weights for optimizer in OPTIMIZERS}) == len(OPTIMIZERS)


def test_two_fresh_processes_and_this_one_give_equal_bits() -> None:
    # Each compiles for itself, though the processes of a run share what is compiled.
    started = [start_python(WHOLE_TRAINING, PYTHONHASHSEED=seed, TF_XLA_FLAGS="") for seed in ("1", "2")]
    trained = case(DROPOUT_AND_CLASS_WEIGHTS).run().trained
    here = f"{sha256(trained.onnx)} {sha256(trained.weights)}"
    assert [here, here] == [output_of(process) for process in started]
