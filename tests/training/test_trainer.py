"""How a training process takes jobs, and what it does when it does not hear whether it has one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from service.domain.jobs import Claim, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import jobs, leases
from service.storage.database import Connection, Database
from tests.factories import stored_job
from tests.training.attempts import ask, losses_of, read, told
from workers.trainer import Claims


class CutDatabase(Database):
    """Loses the answers to some commits, as when the connection is cut just then."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.owner = DEFAULT_OWNER
        self.cuts: list[int] = []
        """One for each answer that is still to be lost; a list, for whoever acts for everybody has a copy of this."""

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Connection]:
        with super().write(alone=alone) as connection:
            yield connection
        if self.cuts:
            self.cuts.pop()
            raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))


@pytest.fixture
def cut(database_url: str) -> Iterator[CutDatabase]:
    opened = CutDatabase(database_url)
    yield opened
    opened.close()


def test_jobs_are_taken_in_turn_until_none_is_left_or_their_owner_runs_as_many_as_may(database: Database) -> None:
    claims, others = Claims(database, "w1", most_running=3), database.owned_by("other")
    assert claims.take() is None
    for owner, name in ((database, "a"), (database, "b"), (others, "c"), (others, "d")):
        stored_job(owner, name)
    assert [taken and taken.job_id for taken in (claims.take() for _ in range(5))] == ["a", "c", "b", "d", None]
    for name in ("e", "f"):
        stored_job(others, name)
    assert [taken and taken.job_id for taken in (claims.take() for _ in range(2))] == ["e", None]
    assert Claims(database, "w2").take() == Claim("f", 1, "w2", "other"), "where there is no bound"


@pytest.mark.parametrize("cuts", [1, 3])
def test_job_whose_claim_was_not_answered_is_handed_back_and_claimed_again(cut: CutDatabase, cuts: int) -> None:
    claims = Claims(cut, "w1")
    stored_job(cut)
    cut.cuts += range(cuts)
    assert [claims.take() for _ in range(cuts)] == [None] * cuts
    assert claims.take() == Claim("job-1", 2, "w1", DEFAULT_OWNER)
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
    cut.cuts += [1]
    assert claims.take() is None
    ask(cut, request_to)
    assert claims.take() is None
    assert read(cut).state == state


def test_job_of_the_process_before_is_not_handed_back(cut: CutDatabase) -> None:
    """Its keeper reports it as lost: a job that kills its workers is to be known by that."""
    stored_job(cut, "before")
    with cut.write() as connection:
        assert leases.claim(connection, "before", "w1") is not None
    stored_job(cut)
    assert Claims(cut, "w1").take() == Claim("job-1", 1, "w1", DEFAULT_OWNER)
    assert read(cut, "before").state == JobState.RUNNING
