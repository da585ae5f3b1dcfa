"""A database with models in it, as finished trainings leave it."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.predict.networks import Network
from service.domain.models import NewVersion
from service.domain.owners import DEFAULT_OWNER
from service.storage import models
from service.storage.database import Database


def make_database(folder: Path) -> Path:
    """Make an empty database with today's schema."""
    database = folder / "selfnorm.db"
    environment = {**os.environ, "SELFNORM_DATABASE_URL": f"sqlite:///{database}"}
    subprocess.run([sys.executable, "-m", "service.cli", "migrate"], env=environment, check=True)
    return database


def register(database: Path, networks: Iterable[Network], folder: Path) -> None:
    """Register the graph of each network under its name; those of one name become versions 1, 2, ... of a model."""
    opened = Database(f"sqlite:///{database}").owned_by(DEFAULT_OWNER)
    with opened.write() as connection:
        for network in networks:
            models.register(connection, _version(network, folder))
    opened.close()


def _version(network: Network, folder: Path) -> NewVersion:
    return NewVersion(
        name=network.name,
        job_id=f"{network.name}-{network.seed}",
        spec={"dataset": "random", "target": network.outputs.target},
        data_sha256=None,
        inputs=network.inputs,
        outputs=network.outputs,
        metrics={"best": {"epoch": 1}},
        parity={"max_difference": 0.0},
        parameters=sum(kernel.size + bias.size for kernel, bias in network.weights()),
        environment={},
        weights=network.file.encode(),
        onnx=(folder / f"{network.file}.onnx").read_bytes(),
        keras=b"",
    )
