"""Jobs whose worker was lost: found by the lease that it did not renew, taken back, and given up after three times."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update

from service.domain.jobs import HELD_STATES, MAX_ATTEMPTS, MAX_LOSSES, Claim, EventKind, JobState
from service.storage import events, leases, turns
from service.storage.database import database_time
from service.storage.owners import acting_for
from service.storage.tables import jobs

BACK_OFF_SECONDS = 1.0
LOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """A job whose worker has not renewed its lease in time."""

    claim: Claim
    until: datetime


def lose(connection: Connection, held: Claim, kind: EventKind = EventKind.WORKER_LOST) -> JobState:
    """Take a job from a worker that was lost, or that has stalled; return where it goes.

    A loss sends it back to the queue with a pause that grows; the third without a new checkpoint fails it, for it is
    probably the job that kills its workers.

    Raises:
        LeaseLost: another worker owns the job, or it has ended.
    """
    mine = leases.hold(connection, held)
    query = select(jobs.c.losses).where(jobs.c.owner == held.owner, jobs.c.id == held.job_id)
    losses = connection.execute(query).scalar_one() + 1
    goes_on = mine["state"] == JobState.RUNNING and not mine["pause_requested"]
    if goes_on and (losses >= MAX_LOSSES or held.fence >= MAX_ATTEMPTS):
        events.append(connection, held.job_id, kind, attempt=held.fence)
        code, detail = _gave_up(kind, held.fence, losses)
        leases.write(connection, held, losses=losses)
        leases.fail(connection, held, code, detail)
        return JobState.FAILED
    return leases.leave(connection, held, kind, losses=losses, claimable_at=database_time(_pause_after(losses)))


def expired(connection: Connection) -> list[ExpiredLease]:
    """List everybody's leases that have expired."""
    columns = (*leases.CLAIMED, jobs.c.lease_until)
    rows = connection.execute(select(*columns).where(_expired()).order_by(jobs.c.lease_until).limit(LOST_AT_ONCE))
    return [ExpiredLease(leases.claim_of(row), row["lease_until"]) for row in rows.mappings()]


def lose_expired(connection: Connection, among: Collection[Claim] | None = None) -> int:
    """Take back every job whose lease has expired, and count them; ``among`` says which of them may be taken.

    The others are only written to, for it is to be known whether their workers could have done it. What is written is a
    time that means nothing while a job runs: SQLite does not store what stays the same.
    """
    query = select(*leases.CLAIMED).where(_expired()).order_by(jobs.c.lease_until).limit(LOST_AT_ONCE)
    rows = connection.execute(query.with_for_update(skip_locked=True)).mappings().all()
    taken = 0
    for held in map(leases.claim_of, rows):
        if among is None or held in among:
            with acting_for(connection, held.owner):
                lose(connection, held)
            taken += 1
        else:
            leases.write(connection, held, claimable_at=database_time())
    return taken


def needs_sweep(connection: Connection) -> bool:
    """Whether a sweep would change anything; spares the write lock when all is well."""
    # One question for each, so that each is answered from an index of its own.
    found = [exists(select(jobs.c.id).where(which)) for which in (_expired(), _beyond_clock(), _waits_beyond_clock())]
    return bool(connection.execute(select(or_(*found, turns.are_beyond_clock()))).scalar())


def follow_clock(connection: Connection) -> None:
    """Shorten what cannot be: a lease or a pause that ends later than any that is given, for the clock was set back."""
    connection.execute(update(jobs).where(_beyond_clock()).values(lease_until=database_time(leases.LEASE_SECONDS)))
    connection.execute(update(jobs).where(_waits_beyond_clock()).values(claimable_at=database_time()))
    turns.follow_clock(connection)


def _expired() -> ColumnElement[bool]:
    return and_(turns.is_in(jobs, *HELD_STATES), jobs.c.lease_until < database_time())


def _beyond_clock() -> ColumnElement[bool]:
    return and_(turns.is_in(jobs, *HELD_STATES), jobs.c.lease_until > database_time(2 * leases.LEASE_SECONDS))


def _waits_beyond_clock() -> ColumnElement[bool]:
    # Asked for once: PostgreSQL looks nothing up in an index by a clock that goes on meanwhile.
    latest = select(database_time(leases.LEASE_SECONDS)).scalar_subquery()
    return and_(turns.is_in(jobs, JobState.QUEUED), jobs.c.claimable_at > latest)


def _pause_after(losses: int) -> float:
    """Return for how many seconds a job rests after so many losses in a row."""
    return BACK_OFF_SECONDS * 4.0 ** (losses - 1)


def _gave_up(kind: EventKind, attempts: int, losses: int) -> tuple[str, str]:
    if losses < MAX_LOSSES:
        return "too_many_attempts", f"{attempts} workers began with this job and none could end it"
    if kind is EventKind.STALLED:
        detail = (
            f"{losses} times in a row this job stood still, and its worker was replaced; the workers' logs say more"
        )
        return "stalled", detail
    return (
        "worker_lost",
        f"{losses} workers in a row were lost while they ran this job, which probably needs more memory than a worker "
        "has; try a smaller network or fewer rows",
    )
