import gzip
from pathlib import Path

import numpy as np
import pytest

from service.domain.datasets import ARTICLE_TABLES
from service.tables import article_files

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write_fashion_mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write two training images and one test image in the published form."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3, 784), np.uint8), np.array([9, 0, 5], np.uint8)
    (folder / "fashion_mnist").mkdir()
    for part, rows in (("train", slice(0, 2)), ("t10k", slice(2, 3))):
        header, content = bytes(16), images[rows].tobytes()
        (folder / f"fashion_mnist/{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + content))
        (folder / f"fashion_mnist/{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(bytes(8) + labels[rows].tobytes())
        )
    return images, labels


def test_fashion_mnist_is_read_as_pixels_between_0_and_1(tmp_path: Path) -> None:
    images, labels = write_fashion_mnist(tmp_path)
    assert article_files.has(tmp_path, "fashion_mnist")
    table = article_files.read(tmp_path, "fashion_mnist")
    assert table.columns["label"].tolist() == labels.tolist()
    np.testing.assert_array_equal(
        images / np.float32(255),
        np.column_stack([table.columns[name] for name in ARTICLE_TABLES["fashion_mnist"].features]),
    )


def test_cifar10_residuals_are_decoded(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "cifar10").mkdir()
    images = rng.integers(0, 256, (6, 2, 32, 32, 3), np.uint8)
    for name, batch in zip([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], images, strict=True):
        planes = batch.transpose(3, 0, 1, 2).copy()
        planes[0] -= planes[1]
        planes[2] -= planes[1]
        residual = np.diff(np.diff(planes, axis=3, prepend=np.uint8(0)), axis=2, prepend=np.uint8(0))
        np.savez(tmp_path / "cifar10" / f"{name}.npz", labels=np.array([1, 2], np.uint8), residual=residual)
    table = article_files.read(tmp_path, "cifar10")
    expected = images.reshape(12, -1) / np.float32(255)
    np.testing.assert_array_equal(
        expected, np.column_stack([table.columns[name] for name in ARTICLE_TABLES["cifar10"].features])
    )


def test_absent_folder_holds_nothing(tmp_path: Path) -> None:
    assert not article_files.has(None, "cifar10")
    assert not article_files.has(tmp_path, "cifar10")
    assert not article_files.has(tmp_path, "iris")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not beside this checkout")
def test_boston_rows_are_in_the_order_of_keras() -> None:
    table = article_files.read(SHARED, "boston_housing")
    assert table.rows == 506
    first = {name: column[0] for name, column in table.columns.items()}
    assert (first["CRIM"], first["ZN"], first["INDUS"], first["LSTAT"], first["MEDV"]) == (
        1.23247,
        0,
        8.14,
        18.72,
        15.2,
    )
