"""A training that is killed and continued ends with the bits of one that was left alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from service.domain.training_errors import UnusableState
from tests.training.support import (
    COSINE_AND_NORMALIZATION,
    DROPOUT_AND_CLASS_WEIGHTS,
    PLATEAU_AND_SAMPLE_WEIGHTS,
    Watched,
    case,
    output_of,
    sha256,
    start_python,
)
from workers.state import LENGTH_BYTES, METADATA, TrainingState

CASES = [DROPOUT_AND_CLASS_WEIGHTS, COSINE_AND_NORMALIZATION, PLATEAU_AND_SAMPLE_WEIGHTS]
SEED = 20240607
KILLS = 30

CONTINUE = """
import sys
from pathlib import Path
from tests.training.support import case, sha256
from workers.state import TrainingState
state = TrainingState.from_bytes(Path(sys.argv[2]).read_bytes())
print(sha256(case(sys.argv[1]).run(state).trained.weights))
"""


@cache
def undisturbed(name: str) -> Watched:
    return case(name).run()


@cache
def saved(name: str = PLATEAU_AND_SAMPLE_WEIGHTS) -> bytes:
    """A state from the middle of the third epoch, or of a later one."""
    ends = [end.state for end in undisturbed(name).chunks]
    return next(state for state in ends if state.epoch >= 3 and state.step and state.best is not None).to_bytes()


def assert_same(name: str, continued: Watched, done: int, words: str) -> None:
    """``done`` is how many epochs were finished before."""
    whole = undisturbed(name)
    assert whole.trained.onnx == continued.trained.onnx, words
    assert whole.trained.weights == continued.trained.weights, words
    assert whole.measured[done:] == continued.measured, words
    same = ("best_epoch", "best_metrics", "test_metrics", "calibration", "held_out", "verdict", "parity", "keras")
    for said in (*same, "environment_changes"):
        assert getattr(whole.trained, said) == getattr(continued.trained, said), words


@pytest.mark.parametrize("name", CASES)
def test_training_killed_after_any_chunk_ends_with_the_same_bits(name: str) -> None:
    chunks = len(undisturbed(name).chunks)
    generator = np.random.default_rng(SEED)
    for place in generator.choice(np.arange(1, chunks), min(KILLS, chunks - 1), replace=False).tolist():
        state = TrainingState.from_bytes(case(name).run_until(place))
        words = f"seed {SEED}: killed after chunk {place} of {chunks}, epoch {state.epoch}, step {state.step}"
        assert_same(name, case(name).run(state), len(state.history), words)


@pytest.mark.parametrize("name", CASES)
def test_training_killed_twice_ends_with_the_same_bits(name: str) -> None:
    chunks = len(undisturbed(name).chunks)
    first, second = np.random.default_rng(SEED + 1).integers(2, chunks // 2, 2).tolist()
    once = TrainingState.from_bytes(case(name).run_until(first))
    twice = TrainingState.from_bytes(case(name).run_until(second, once))
    words = f"seed {SEED + 1}: killed after chunk {first}, and again {second} later"
    assert_same(name, case(name).run(twice), len(twice.history), words)


@pytest.mark.parametrize("name", CASES)
def test_state_taken_during_validation_repeats_the_validation_only(name: str) -> None:
    steps = max(end.state.step for end in undisturbed(name).chunks)
    places = [place for place, end in enumerate(undisturbed(name).chunks, 1) if end.state.step == steps]
    during = places[3]  # the second epoch's last training chunk, then its validation
    state = TrainingState.from_bytes(case(name).run_until(during))
    assert (2, steps) == (state.epoch, state.step)
    assert_same(name, case(name).run(state), 1, f"killed after chunk {during}")


def test_state_after_the_last_chunk_only_finishes() -> None:
    name = PLATEAU_AND_SAMPLE_WEIGHTS
    whole = undisturbed(name)
    state = TrainingState.from_bytes(whole.chunks[-1].state.to_bytes())
    assert_same(name, case(name).run(state), len(whole.epochs), "after the last chunk")


def test_early_stopping_and_the_plateau_were_at_work() -> None:
    """Else the cases above would not say that they are continued rightly."""
    assert len(undisturbed(DROPOUT_AND_CLASS_WEIGHTS).epochs) < 12
    assert len({rate for *_, rate in undisturbed(PLATEAU_AND_SAMPLE_WEIGHTS).measured}) > 1
    assert all(len(undisturbed(name).chunks) > 2 * len(undisturbed(name).epochs) for name in CASES)


def test_state_stays_what_it_was_while_the_training_goes_on() -> None:
    name = DROPOUT_AND_CLASS_WEIGHTS
    at_once: list[bytes] = []
    watched = case(name).run(on_chunk=lambda end: at_once.append(sha256(end.state.to_bytes()).encode()))
    later = [sha256(end.state.to_bytes()).encode() for end in watched.chunks]
    assert at_once == later


def test_state_that_went_through_bytes_is_the_same_state() -> None:
    content = saved()
    assert content == TrainingState.from_bytes(content).to_bytes()


@pytest.mark.parametrize("name", [DROPOUT_AND_CLASS_WEIGHTS])
def test_another_process_continues_to_the_same_bits(name: str, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(saved(name))
    continued = output_of(start_python(CONTINUE, name, str(path)))
    assert sha256(undisturbed(name).trained.weights) == continued


@pytest.mark.parametrize(
    "training",
    [{"seed": 6}, {"learning_rate": 0.02}, {"epochs": 7}, {"weight_decay": 0.1}, {"validation_fraction": 0.3}],
)
def test_state_of_another_spec_is_refused(training: dict[str, Any]) -> None:
    other = case(PLATEAU_AND_SAMPLE_WEIGHTS)
    other.fields["training"].update(training)
    with pytest.raises(UnusableState, match="another spec or another split"):
        other.run(TrainingState.from_bytes(saved()))


def test_state_of_another_split_is_refused() -> None:
    """The same spec on a table that has a row more."""
    other = case(PLATEAU_AND_SAMPLE_WEIGHTS)
    other.table = type(other.table)({key: np.append(cells, cells[0]) for key, cells in other.table.columns.items()})
    with pytest.raises(UnusableState, match="another spec or another split"):
        other.run(TrainingState.from_bytes(saved()))


def test_names_and_tags_are_no_part_of_the_training() -> None:
    renamed = case(PLATEAU_AND_SAMPLE_WEIGHTS)
    renamed.fields |= {"model": "other", "tags": ["night"]}
    continued = renamed.run(TrainingState.from_bytes(saved()))
    assert undisturbed(PLATEAU_AND_SAMPLE_WEIGHTS).trained.onnx == continued.trained.onnx


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "shorter than its length": lambda content: content[:5],
    "header only": lambda content: content[: LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")],
    "half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "header of noise": lambda content: content[:LENGTH_BYTES] + np.random.default_rng(0).bytes(len(content)),
    "a picture": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "no metadata": lambda content: save(load(content)),
    "metadata is no JSON": lambda content: save(load(content), {METADATA: "{"}),
    "metadata is a list": lambda content: save(load(content), {METADATA: "[]"}),
    "metadata is null": lambda content: save(load(content), {METADATA: "null"}),
    "another format": lambda content: edited(content, format=0),
    "history of numbers": lambda content: edited(content, history=[1]),
    "history without an epoch": lambda content: edited(content, history=[{"metrics": {}}]),
    "history is null": lambda content: edited(content, history=None),
    "no environments": lambda content: edited(content, environments=None),
    "no best network": lambda content: rearranged(
        content, lambda tensors: {name: array for name, array in tensors.items() if not name.startswith("best/")}
    ),
}


def metadata(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    found: dict[str, Any] = json.loads(
        json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])["__metadata__"][METADATA]
    )
    return found


def edited(content: bytes, **changes: Any) -> bytes:
    return save(load(content), {METADATA: json.dumps(metadata(content) | changes)})


def rearranged(content: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    return save(change(load(content)), {METADATA: json.dumps(metadata(content))})


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state_is_refused(damage: str) -> None:
    with pytest.raises(UnusableState, match="start the training anew"):
        case(PLATEAU_AND_SAMPLE_WEIGHTS).run(TrainingState.from_bytes(DAMAGES[damage](saved())))


@pytest.mark.parametrize("part", ["now/network", "now/optimizer", "totals/metrics", "best/network"])
def test_state_that_lacks_a_tensor_is_refused(part: str) -> None:
    lost = next(name for name in load(saved()) if name.startswith(part))
    content = rearranged(saved(), lambda tensors: {name: array for name, array in tensors.items() if name != lost})
    with pytest.raises(UnusableState, match="does not fit the network"):
        case(PLATEAU_AND_SAMPLE_WEIGHTS).run(TrainingState.from_bytes(content))


@pytest.mark.parametrize(
    "change",
    [lambda array: array.reshape(-1)[:-1], lambda array: array.T, lambda array: array.astype(np.float64)],
    ids=["a number less", "transposed", "another type"],
)
@pytest.mark.parametrize("part", ["now", "best"])
def test_state_with_a_tensor_of_another_form_is_refused(part: str, change: Callable[[Any], Any]) -> None:
    name = f"{part}/network/dense_1/kernel"
    content = rearranged(saved(), lambda tensors: tensors | {name: np.ascontiguousarray(change(tensors[name]))})
    with pytest.raises(UnusableState, match="does not fit the network"):
        case(PLATEAU_AND_SAMPLE_WEIGHTS).run(TrainingState.from_bytes(content))


def test_continuing_elsewhere_is_said() -> None:
    name = PLATEAU_AND_SAMPLE_WEIGHTS
    state = TrainingState.from_bytes(saved())
    here = state.environments[-1]
    old = {**here, "tensorflow": "1.15.0", "processor": "abacus"}
    continued = case(name).run(replace(state, environments=(old,)))
    assert continued.trained.environment_changes == (
        f"processor abacus became {here['processor']}",
        f"tensorflow 1.15.0 became {here['tensorflow']}",
    )
    assert here == continued.trained.environment
    assert undisturbed(name).trained.environment_changes == ()


def test_every_move_is_remembered() -> None:
    """From here to another machine and back: the ends are equal, and yet the bits may differ."""
    state = TrainingState.from_bytes(saved())
    here = state.environments[-1]
    away = {**here, "threads": "999"}
    edited_state = TrainingState.from_bytes(edited(saved(), environments=[here, away]))
    continued = case(PLATEAU_AND_SAMPLE_WEIGHTS).run(edited_state)
    assert continued.trained.environment_changes == (
        f"threads {here['threads']} became 999",
        f"threads 999 became {here['threads']}",
    )
    assert len(continued.chunks[-1].state.environments) == 3
