"""What looking at the layers costs: a training with and without it, in turns; and lint and probe of the same network.

The article's network, batches of 32, on Fashion-MNIST and Boston housing; needs SELFNORM_DATASETS_DIR. Bars: at most
5 % of a training on Fashion-MNIST, at most 2 s for lint and probe. ``python -m benchmarks.monitor``.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from service.domain.completion import complete_spec
from service.domain.datasets import ARTICLE_TABLES, Dataset
from service.domain.limits import Limits
from service.domain.owners import DEFAULT_OWNER
from service.domain.spec import JobSpec
from service.storage import datasets, schema
from service.storage.database import Database
from service.tables import article_files
from service.use_cases.datasets import add_builtin_datasets
from service.use_cases.jobs import validate_job
from service.use_cases.probe import probe
from workers import environment
from workers.epochs import Epochs
from workers.preparation import Prepared, prepare

SHARE, SECONDS = 0.05, 2.0
ROUNDS = 7
CASES = {"fashion_mnist": 2, "boston_housing": 50}
"""Epochs of a round."""


def main() -> int:
    """Measure, print, and return 1 if a bar is missed."""
    folder = Path(os.environ["SELFNORM_DATASETS_DIR"])
    environment.configure(None)
    with tempfile.TemporaryDirectory() as place:
        database = Database(f"sqlite:///{place}/selfnorm.db").owned_by(DEFAULT_OWNER)
        schema.upgrade(database)
        add_builtin_datasets(database)
        seconds = _lint_and_probe(database, folder)
        print(f"lint and probe of 20 x 100 on fashion_mnist: {seconds:.2f} s (bar {SECONDS:g})")
        shares = {name: _share(database, folder, name) for name in CASES}
        database.close()
    return 0 if seconds <= SECONDS and shares["fashion_mnist"] <= SHARE else 1


def spec_of(name: str) -> JobSpec:
    """Return the article's job."""
    training = {"optimizer": "nadam", "learning_rate": 7e-4, "epochs": CASES[name], "early_stopping": None}
    network = {"kind": "snn", "hidden_layers": 20, "units": 100, "dropout": 0.0}
    return JobSpec.model_validate({"dataset": name, "network": network, "training": training})


def _lint_and_probe(database: Database, folder: Path) -> float:
    def both() -> None:
        validate_job(database, spec_of("fashion_mnist"), Limits())
        probe(database, spec_of("fashion_mnist"), Limits(), folder)

    return statistics.median(_timed(both) for _ in range(3))


def _share(database: Database, folder: Path, name: str) -> float:
    """Return which part of a training looking takes."""
    with database.read() as connection:
        dataset = datasets.get(connection, name)
    data = _prepared(dataset, folder, name)
    spec = complete_spec(spec_of(name), dataset, Limits()).spec

    def run(on_look: Callable[[Any], None] | None) -> float:
        epochs = Epochs(spec, data, on_look=on_look)
        return _timed(lambda: epochs.run(None))

    looks: list[Any] = []
    run(looks.append)
    rounds = [(run(None), run(lambda _: None)) for _ in range(ROUNDS)]
    share = statistics.median(watched / plain - 1 for plain, watched in rounds)
    plain, watched = (statistics.median(column) for column in zip(*rounds, strict=True))
    bar = f" (bar {SHARE:.0%})" if name == "fashion_mnist" else ""
    print(
        f"{name}: {CASES[name]} epochs, {len(looks)} looks: {plain:.2f} s without, {watched:.2f} s with, "
        f"{share:.1%} more{bar}",
        flush=True,
    )
    return share


def _prepared(dataset: Dataset, folder: Path, name: str) -> Prepared:
    columns = {column.name: column for column in ARTICLE_TABLES[name].columns}
    spec = complete_spec(spec_of(name), dataset, Limits()).spec
    return prepare(spec, article_files.read(folder, name), columns, dataset.official_test_rows)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
