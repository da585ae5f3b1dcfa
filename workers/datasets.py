"""Get a job's table: from the database, from a local folder, or through ``keras.datasets``."""

from pathlib import Path

import numpy as np

from service.domain.datasets import Dataset
from service.domain.errors import DatasetUnavailable
from service.domain.table import Table
from service.storage import datasets
from service.storage.database import Database
from service.tables import article_files, parquet


def load(database: Database, dataset: Dataset, datasets_dir: Path | None) -> Table:
    """Read the whole table of a data set.

    Raises:
        DatasetUnavailable: it is one of the article's and neither the folder nor the internet has it.
        CorruptBlob: the stored rows are damaged.
    """
    if dataset.sha256 is not None:
        with database.read() as connection:
            return parquet.decode(datasets.content(connection, dataset.sha256))
    if datasets_dir is not None and article_files.has(datasets_dir, dataset.id):
        return _read_folder(datasets_dir, dataset.id)
    return _download(dataset.id)


def _read_folder(folder: Path, name: str) -> Table:
    try:
        return article_files.read(folder, name)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetUnavailable(f"the files of {name} in {folder} cannot be read: {error}") from error


def _download(name: str) -> Table:
    """Fetch through Keras, which keeps a copy in its cache folder."""
    from keras import datasets as keras_datasets  # needed for three data sets only

    try:
        (train_rows, train_target), (test_rows, test_target) = getattr(keras_datasets, name).load_data()
    except Exception as error:  # Keras raises bare Exception where a download fails
        raise DatasetUnavailable(
            f"{name} could not be downloaded ({error}). On a machine without internet, set SELFNORM_DATASETS_DIR to a "
            "folder that holds its files"
        ) from error
    rows, target = np.concatenate([train_rows, test_rows]), np.concatenate([train_target, test_target])
    if name == "boston_housing":
        return article_files.boston_table(np.column_stack([rows, target]).astype(np.float64))
    return article_files.image_table(name, rows, target)
