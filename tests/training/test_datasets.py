"""Data sets that workers read from files or from the network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.datasets import ARTICLE_TABLES, BOSTON_FEATURES
from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable
from workers.datasets import load


def test_damaged_file_of_a_local_data_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "boston_housing.csv").write_text("CRIM,ZN\nx,y\n")
    with pytest.raises(DatasetUnavailable, match="cannot be read"):
        load("boston_housing", tmp_path)


def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: object) -> None:
        raise Exception("URL fetch failure")  # what Keras raises

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", unreachable)
    with pytest.raises(DatasetUnavailable, match=r"URL fetch failure.*SELFNORM_DATASETS_DIR"):
        load("cifar10", None)


def test_downloaded_tables_have_training_rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the form that Keras gives: two pairs of arrays, CIFAR-10's labels as a column."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    labels = np.array([[3], [1], [2]], np.uint8)
    monkeypatch.setattr(
        keras.datasets.cifar10, "load_data", lambda: ((pixels[:2], labels[:2]), (pixels[2:], labels[2:]))
    )
    rooms = rng.normal(size=(5, 13))
    prices = rng.normal(size=5)
    monkeypatch.setattr(
        keras.datasets.boston_housing, "load_data", lambda: ((rooms[:3], prices[:3]), (rooms[3:], prices[3:]))
    )
    images, boston = load("cifar10", None), load("boston_housing", None)
    assert images.columns["label"].tolist() == [3, 1, 2]
    np.testing.assert_array_equal(
        pixels.reshape(3, -1) / np.float32(255), _matrix(images, ARTICLE_TABLES["cifar10"].features)
    )
    np.testing.assert_array_equal(rooms, _matrix(boston, BOSTON_FEATURES))
    np.testing.assert_array_equal(prices, boston.columns["MEDV"])


def _matrix(table: Table, names: Sequence[str]) -> NDArray[Any]:
    return np.column_stack([table.columns[name] for name in names])
