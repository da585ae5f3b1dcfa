"""A comparison that is really trained: what its arms share, and what they do not."""

from typing import Any

from sqlalchemy import select

from service.domain.comparison_spec import ComparisonSpec
from service.domain.jobs import JobState
from service.domain.limits import Limits
from service.storage.database import Database
from service.storage.tables import model_versions
from service.use_cases.comparisons import look_at_comparison, submit_comparison_once
from service.use_cases.idempotency import StoredAnswer
from tests.training.attempts import read, run

NETWORK: dict[str, Any] = {"hidden_layers": 2, "units": 8}
SPEC: dict[str, Any] = {
    "dataset": "iris",
    "arms": {
        "snn": NETWORK,
        "twin": NETWORK,
        "regular": {"kind": "mlp", "standardize": False, **NETWORK},
    },
    "training": {"epochs": 8, "test_fraction": 0.2, "early_stopping": None, "learning_rate": 0.01},
    "seeds": [1, 2],
    "model": "m",
}


def test_arms_share_rows_and_seed_so_that_equal_networks_come_out_equal(sqlite_database: Database) -> None:
    spec = ComparisonSpec.model_validate(SPEC)
    made = submit_comparison_once(sqlite_database, spec, Limits(), None, lambda _: StoredAnswer(202, {}, b"")).made
    assert made is not None
    for job in made.jobs:
        run(sqlite_database, job.id)
    jobs = {(job.arm, job.seed): read(sqlite_database, job.id) for job in made.jobs}
    assert {job.state for job in jobs.values()} == {JobState.SUCCEEDED}
    splits = {seed: {jobs[arm, seed].split_sha256 for arm in ("snn", "twin", "regular")} for seed in (1, 2)}
    assert {len(found) for found in splits.values()} == {1}
    assert splits[1] != splits[2]
    weights = weights_of(sqlite_database)
    assert weights["m-snn"] == weights["m-twin"]
    assert len({*weights["m-snn"], *weights["m-regular"]}) == 4
    result = look_at_comparison(sqlite_database, made.comparison.id).result
    assert result is not None
    snn, twin, regular = result.arms
    assert snn.metrics == twin.metrics
    assert snn.metrics != regular.metrics
    assert snn.epochs_to_level == twin.epochs_to_level
    assert 0 < regular.best_epoch.by_seed[1] <= 8  # type: ignore[operator]  # it succeeded
    assert all(test.difference is not None for test in result.tests)
    assert result.verdict.count("no significant difference") == 2


def weights_of(database: Database) -> dict[str, list[str]]:
    """Hashes of the weights of every version, by model and seed."""
    query = select(model_versions.c.name, model_versions.c.weights_sha256).order_by(model_versions.c.version)
    found: dict[str, list[str]] = {}
    with database.read() as connection:
        for row in connection.execute(query):
            found.setdefault(row.name, []).append(row.weights_sha256)
    return found
