"""How a training process takes jobs, and what it does when it does not hear whether it has one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from service.domain.jobs import Claim, EventKind, JobState
from service.storage import jobs, leases
from service.storage.database import Connection, Database
from tests.factories import stored_job
from tests.training.attempts import ask, losses_of, read, told
from workers.trainer import Claims


class CutDatabase(Database):
    """Loses the answers to some commits, as when the connection is cut just then."""

    cuts = 0

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Connection]:
        with super().write(alone=alone) as connection:
            yield connection
        if self.cuts:
            self.cuts -= 1
            raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))


@pytest.fixture
def cut(database_url: str) -> Iterator[CutDatabase]:
    opened = CutDatabase(database_url)
    yield opened
    opened.close()


def test_job_that_was_wished_for_comes_first_then_the_one_that_waits_longest(database: Database) -> None:
    claims = Claims(database, "w1")
    assert claims.take(None) is None
    for name in ("a", "b", "c"):
        stored_job(database, name)
    taken = [claims.take(wish) for wish in ("b", "b", None, None)]
    assert taken == [Claim("b", 1, "w1"), Claim("a", 1, "w1"), Claim("c", 1, "w1"), None]


@pytest.mark.parametrize("wish", [None, "job-1"])
@pytest.mark.parametrize("cuts", [1, 3])
def test_job_whose_claim_was_not_answered_is_handed_back_and_claimed_again(
    cut: CutDatabase, cuts: int, wish: str | None
) -> None:
    claims = Claims(cut, "w1")
    stored_job(cut)
    cut.cuts = cuts
    assert [claims.take(wish) for _ in range(cuts)] == [None] * cuts
    assert claims.take(wish) == Claim("job-1", 2, "w1")
    assert (read(cut).state, losses_of(cut)) == (JobState.RUNNING, 0)
    assert told(cut, EventKind.HANDED_BACK) == [{"attempt": 1}]


@pytest.mark.parametrize(
    ("request_to", "state"), [(jobs.request_cancel, JobState.CANCELLED), (jobs.request_pause, JobState.PAUSED)]
)
def test_word_that_came_for_a_job_whose_claim_was_not_answered_counts(
    cut: CutDatabase, request_to: Callable[[Connection, str], None], state: JobState
) -> None:
    claims = Claims(cut, "w1")
    stored_job(cut)
    cut.cuts = 1
    assert claims.take(None) is None
    ask(cut, request_to)
    assert claims.take(None) is None
    assert read(cut).state == state


def test_job_of_the_process_before_is_not_handed_back(cut: CutDatabase) -> None:
    """Its keeper reports it as lost: a job that kills its workers is to be known by that."""
    stored_job(cut, "before")
    with cut.write() as connection:
        assert leases.claim(connection, "before", "w1") is not None
    stored_job(cut)
    assert Claims(cut, "w1").take(None) == Claim("job-1", 1, "w1")
    assert read(cut, "before").state == JobState.RUNNING
