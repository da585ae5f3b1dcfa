"""What the tests of the promises share: who is asked on which database, what is trained, how long it may take."""

import os
from typing import Any, get_args

import pytest

from tests.chaos.conftest import Site, Spec
from tests.chaos.topology import Kind

SEED = int(os.environ.get("CHAOS_SEED", "1"))

EVERYWHERE = "CHAOS_EVERYWHERE" in os.environ
"""Whether each promise is tested on both databases; without it each is on one of them, for the sake of time."""


def on(kind: Kind) -> pytest.MarkDecorator:
    """Choose the database for a test that is to run on one of them only."""
    return pytest.mark.parametrize("shared_site", get_args(Kind) if EVERYWHERE else [kind], indirect=True)


ON_SQLITE = pytest.mark.parametrize("shared_site", ["sqlite"], indirect=True)
"""For promises that the database has no part in."""

HEARD_SECONDS = 90
"""A worker that does not hear its messages ends within a minute, and is started again."""
JSON = {"Content-Type": "application/json"}


def spec(model: str, dataset: str = "digits", *, epochs: int, seed: int = 0, **network: Any) -> Spec:
    """A training of a small network, one row a step: thousands of steps, each of them nothing.

    Specs that differ in model, epochs and seed alone share what a worker has compiled, which takes longer than all.
    """
    training = {"epochs": epochs, "batch_size": 1, "learning_rate": 1e-4, "early_stopping": None, "test_fraction": 0.2}
    widths = {"hidden_layers": 2, "units": 32, "dropout": 0.0}
    return {
        "dataset": dataset,
        "network": {**widths, **network},
        "training": {**training, "seed": seed},
        "model": model,
    }


LONG = spec("long", epochs=300)
"""It takes six seconds, and stores a checkpoint a second."""
SHORT = spec("short", epochs=2)


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def kill(site: Site, what: str, index: int) -> None:
    """Kill the training process of a worker, its parent, or both."""
    if what in ("trainer", "both"):
        site.topology.kill("trainer", index)
    if what in ("parent", "both"):
        site.topology.kill("worker", index)
