"""A short selection of what ``make chaos`` does for hours: real processes, seeded faults, every invariant checked."""

import os
from typing import get_args

import pytest

from tests.chaos.run import Plan, run
from tests.chaos.topology import Kind
from tests.processes import linux_only

pytestmark = linux_only

# Those whose faults are of many kinds, and whose last ones leave no lease that must expire.
SEEDS = {"sqlite": 2114, "postgresql": 489}


@pytest.mark.parametrize("database", get_args(Kind))
def test_nothing_is_lost_whatever_dies(database: Kind) -> None:
    seed = int(os.environ.get("CHAOS_SEED", SEEDS[database]))
    plan = Plan(database, seed, faults=12, waiting=2, longest=4.0, specs=("iris", "digits-dropout"))
    said: list[str] = []
    outcome = run(plan, said.append)
    told = "\n".join([plan.command, *said, outcome.summary(), *map(str, outcome.violations)])
    assert outcome.violations == [], told
    assert len(outcome.run.history.hits) == plan.faults
    assert len({job.id for job in outcome.run.stored.jobs.values() if job.fence > 1}) >= 2, told
