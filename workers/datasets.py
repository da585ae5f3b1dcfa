"""Get the article's tables: from a local folder, or through ``keras.datasets``."""

import socket
from pathlib import Path

import numpy as np

from service.domain.table import Table
from service.domain.training_errors import DatasetUnavailable
from service.tables import article_files

SILENCE_SECONDS = 60.0
"""A server that sends nothing for so long has failed."""


def load(name: str, datasets_dir: Path | None) -> Table:
    """Read a whole table.

    Raises:
        DatasetUnavailable: neither the folder nor the internet has it.
    """
    if datasets_dir is not None and article_files.has(datasets_dir, name):
        return article_files.read(datasets_dir, name)
    return _download(name)


def _download(name: str) -> Table:
    """Fetch through Keras, which keeps a copy in its cache folder."""
    from keras import datasets as keras_datasets  # needed for three data sets only

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)  # Keras sets none, so that a download could hang for ever
    try:
        (train_rows, train_target), (test_rows, test_target) = getattr(keras_datasets, name).load_data()
    except Exception as error:  # Keras raises bare Exception where a download fails
        raise DatasetUnavailable(
            f"{name} could not be downloaded ({error}). On a machine without internet, set SELFNORM_DATASETS_DIR to a "
            "folder that holds its files"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    rows, target = np.concatenate([train_rows, test_rows]), np.concatenate([train_target, test_target])
    if name == "boston_housing":
        return article_files.boston_table(np.column_stack([rows, target]).astype(np.float64))
    return article_files.image_table(name, rows, target)
