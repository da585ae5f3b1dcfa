"""Read the article's three data sets from a local folder with numpy: for machines without internet.

The folder holds ``boston_housing.csv``; ``fashion_mnist/`` with the four published IDX files; ``cifar10/`` with
``data_batch_1.npz`` to ``data_batch_5.npz`` and ``test_batch.npz``, each ``labels`` and the pixels as ``residual``.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from service.domain.datasets import ARTICLE_TABLES, BOSTON_FEATURES
from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable

BOSTON_SHUFFLE_SEED = 113
"""Keras' own: its training rows are the first 404 after this shuffle."""
EVERYTHING = slice(None)
IDX_IMAGE_HEADER_BYTES = 16
IDX_LABEL_HEADER_BYTES = 8
CIFAR10_FILE_ROWS = 10_000


def has(folder: Path | None, name: str) -> bool:
    """Whether the folder holds this data set."""
    first_file = {
        "boston_housing": "boston_housing.csv",
        "fashion_mnist": "fashion_mnist/train-images-idx3-ubyte.gz",
        "cifar10": "cifar10/data_batch_1.npz",
    }
    return folder is not None and name in first_file and (folder / first_file[name]).is_file()


def read(folder: Path, name: str, rows: slice = EVERYTHING) -> Table:
    """Read some rows of a data set; training rows come first, then the official test rows.

    Raises:
        DatasetUnavailable: a file is missing or not what it should be.
    """
    readers = {"boston_housing": _boston, "fashion_mnist": _fashion_mnist, "cifar10": _cifar10}
    try:
        return readers[name](folder, rows)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zlib.error, BadZipFile) as error:
        raise DatasetUnavailable(
            f"the files of {name} in the folder of local data sets cannot be read: {error}"
        ) from error


def image_table(name: str, pixels: NDArray[np.uint8], labels: NDArray[Any]) -> Table:
    """Make a table of images: one float32 column in 0..1 per pixel, and the label; ``pixels`` is (rows, ...)."""
    known = ARTICLE_TABLES[name]
    by_column = pixels.reshape(len(pixels), -1).T.astype(np.float32, order="C")
    by_column /= 255.0
    return Table(
        {**dict(zip(known.features, by_column, strict=True)), known.target: labels.reshape(-1).astype(np.int64)}
    )


def boston_table(rows: NDArray[np.float64]) -> Table:
    """Make Boston's table of a (506, 14) matrix whose last column is the target."""
    return Table(dict(zip((*BOSTON_FEATURES, "MEDV"), np.ascontiguousarray(rows.T), strict=True)))


def _boston(folder: Path, rows: slice) -> Table:
    values = np.loadtxt(folder / "boston_housing.csv", delimiter=",", skiprows=1)
    order = np.arange(len(values))
    np.random.RandomState(BOSTON_SHUFFLE_SEED).shuffle(order)
    return boston_table(values[order][rows])


def _fashion_mnist(folder: Path, rows: slice) -> Table:
    parts = [_idx_pair(folder / "fashion_mnist", part) for part in ("train", "t10k")]
    images, labels = zip(*parts, strict=True)
    return image_table("fashion_mnist", np.concatenate(images)[rows], np.concatenate(labels)[rows])


def _idx_pair(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    labels = _unzip(folder / f"{part}-labels-idx1-ubyte.gz", IDX_LABEL_HEADER_BYTES)
    images = _unzip(folder / f"{part}-images-idx3-ubyte.gz", IDX_IMAGE_HEADER_BYTES)
    return images.reshape(len(labels), 28 * 28), labels


def _unzip(path: Path, header_bytes: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header_bytes)


def _cifar10(folder: Path, rows: slice) -> Table:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    first, last, _ = rows.indices(len(names) * CIFAR10_FILE_ROWS)
    needed = range(first // CIFAR10_FILE_ROWS, -(-last // CIFAR10_FILE_ROWS))
    parts = [_cifar10_file(folder / "cifar10" / f"{names[number]}.npz") for number in needed]
    images, labels = (np.concatenate(found) for found in zip(*parts, strict=True))
    inside = slice(first - needed.start * CIFAR10_FILE_ROWS, last - needed.start * CIFAR10_FILE_ROWS)
    return image_table("cifar10", images[inside], labels[inside])


def _cifar10_file(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with np.load(path, allow_pickle=False) as file:
        labels, residual = file["labels"], file["residual"]
    pixels = np.cumsum(np.cumsum(residual, axis=2, dtype=np.uint8), axis=3, dtype=np.uint8)
    pixels[0] += pixels[1]  # red and blue are stored as differences from green, modulo 256
    pixels[2] += pixels[1]
    return pixels.transpose(1, 2, 3, 0), labels
