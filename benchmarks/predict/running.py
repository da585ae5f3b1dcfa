"""A running API with models in it, for the measures that need no other server."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.predict import networks
from benchmarks.predict.networks import Network
from benchmarks.predict.registry import make_database, register
from benchmarks.predict.servers import Server, selfnorm


@contextmanager
def database_with(models: Sequence[Network]) -> Iterator[tuple[Path, Path]]:
    """Make a folder, and in it a database with these models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks.write(list(models), folder)
        database = make_database(folder)
        register(database, models, folder)
        yield folder, database


@contextmanager
def serving(models: Sequence[Network], processes: int) -> Iterator[Server]:
    """Run the API with these models."""
    with database_with(models) as (folder, database), selfnorm(folder, database, processes) as server:
        yield server
