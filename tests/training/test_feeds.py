"""Rows from a file arrive as rows from memory do."""

import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.training_errors import NoRoom
from tests.training.support import SMALL, Case, classes_table, described
from workers.engine.feeds import Examples, Feed, Shape, count_steps, permutation
from workers.preparation import prepare

FEATURES = 4
SHAPE = Shape(3, 8)


def examples(rows: int, file: Path | None = None) -> Examples:
    """Rows that tell where they stand, as every other field does."""
    place = np.arange(rows)
    values = (place[:, np.newaxis] * 10 + np.arange(FEATURES)).astype(np.float32)
    if file is not None:
        mapped = np.memmap(file, np.float32, "w+", shape=values.shape)
        mapped[:] = values
        values = mapped
    return Examples(values, place, (place / 2).astype(np.float32), (place / 4).astype(np.float32))


def copies(feed: Feed, order: NDArray[np.int64], first_step: int = 0) -> list[tuple[list[NDArray[Any]], int]]:
    """The arrays of a chunk are used again for the next one."""
    return [([array.copy() for array in chunk.arrays], chunk.steps) for chunk in feed.chunks(order, first_step)]


def present(chunks: list[tuple[list[NDArray[Any]], int]], place: int) -> NDArray[Any]:
    """Join what one array says of the rows that are there."""
    return np.concatenate([arrays[place][arrays[4]] for arrays, _ in chunks])


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 24, 25, 48, 61])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["resident", "streamed"])
def test_all_rows_arrive_once_in_their_order(rows: int, tmp_path: Path, *, is_streamed: bool) -> None:
    feed = Feed(examples(rows, tmp_path / "rows" if is_streamed else None), SHAPE)
    assert is_streamed != feed.examples.is_resident
    order = permutation(1, 1, rows)
    chunks = copies(feed, order)
    np.testing.assert_array_equal(order[:, np.newaxis] * 10 + np.arange(FEATURES), present(chunks, 0))
    np.testing.assert_array_equal(order[:, np.newaxis], present(chunks, 1))
    np.testing.assert_array_equal(order / 2, present(chunks, 2))
    np.testing.assert_array_equal(order / 4, present(chunks, 3))
    assert count_steps(rows, SHAPE.rows) == sum(steps for _, steps in chunks)


@pytest.mark.parametrize("first_step", [0, 3, 6])
def test_streamed_chunks_are_the_resident_ones(first_step: int, tmp_path: Path) -> None:
    """To the last bit of what counts, the padding of a batch included."""
    order = permutation(2, 5, 61)
    resident = copies(Feed(examples(61), SHAPE), order, first_step)
    streamed = copies(Feed(examples(61, tmp_path / "rows"), SHAPE), order, first_step)
    assert [steps for _, steps in resident] == [steps for _, steps in streamed] == [3, 3, 2][first_step // 3 :]
    for (expected, steps), (found, _) in zip(resident, streamed, strict=True):
        for one, other in zip(expected, found, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one[:steps], other[:steps])


@pytest.mark.parametrize("is_streamed", [False, True], ids=["resident", "streamed"])
def test_chunks_from_a_middle_step_on_are_those_of_the_whole_epoch(tmp_path: Path, *, is_streamed: bool) -> None:
    feed = Feed(examples(61, tmp_path / "rows" if is_streamed else None), SHAPE)
    order = permutation(2, 5, 61)
    whole, rest = copies(feed, order), copies(feed, order, 3)
    for (expected, steps), (found, _) in zip(whole[1:], rest, strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one[:steps], other[:steps])


def test_rows_that_are_not_there_weigh_nothing() -> None:
    feed = Feed(examples(61), SHAPE)
    *_, (arrays, steps) = copies(feed, np.arange(61))
    _, _, loss_weights, metric_weights, mask = arrays
    assert steps == 2
    assert int(mask.sum()) == 61 - 48
    assert not metric_weights[~mask].any()
    assert not loss_weights[:steps][~mask[:steps]].any()


def test_no_rows_make_no_chunk() -> None:
    feed = Feed(examples(5), SHAPE)
    assert list(feed.chunks(np.arange(0))) == []


def test_order_depends_on_seed_and_epoch_only() -> None:
    first = permutation(3, 4, 100)
    np.random.default_rng().random(10)
    np.testing.assert_array_equal(first, permutation(3, 4, 100))
    np.testing.assert_array_equal(np.arange(100), np.sort(first))
    for seed, epoch in ((3, 5), (4, 4), (4, 3), (0, 0), (2**32 - 1, 1)):
        assert (first != permutation(seed, epoch, 100)).any()


FROM_A_FILE = Case(
    classes_table(300),
    {"network": {**SMALL, "dropout": 0.1}, "training": {"epochs": 3, "seed": 2, "test_fraction": 0.2}},
)


def test_training_from_a_file_gives_the_same_bits() -> None:
    resident, streamed = FROM_A_FILE.run(), FROM_A_FILE.run(resident_bytes=0)
    assert resident.trained.onnx == streamed.trained.onnx
    assert resident.trained.weights == streamed.trained.weights
    assert resident.trained.test_metrics == streamed.trained.test_metrics
    assert resident.measured == streamed.measured


def test_training_from_a_file_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[str]] = []
    FROM_A_FILE.run(resident_bytes=0, on_chunk=lambda _: seen.append(os.listdir(tmp_path)))
    assert seen
    assert not any(seen)
    assert os.listdir(tmp_path) == []


def test_rows_go_to_a_file_where_they_take_more_than_is_allowed() -> None:
    table, spec = FROM_A_FILE.table, FROM_A_FILE.spec
    size = 4 * 300 * 5
    for allowed, is_resident in ((size, True), (size - 1, False)):
        data = prepare(spec, table, described(table), resident_bytes=allowed)
        parts = (data.training, data.validation, data.test)
        assert [is_resident] * 3 == [part.is_resident for part in parts]


def test_file_that_does_not_fit_is_said_before_anything_is_written() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(NoRoom, match="Set TMPDIR"):
            Case(classes_table(100), {"network": SMALL, "training": {"epochs": 1}}).run(resident_bytes=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
