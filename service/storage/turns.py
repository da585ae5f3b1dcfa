"""Whose job is next: the owners who wait take turns, however many jobs each of them has put in line.

Of the owners who have waited longest for a turn (for one who has had none, the time since when they wait counts), the
next job belongs to the one with the fewest running jobs; of several such owners, to the one whose last turn is longest
ago. Within an owner the oldest job is next. Nobody is starved: while an owner runs nothing and has a job that may be
claimed, each other owner has at most one turn. An owner whose first job somebody holds locked is passed over meanwhile.

Who may wait stands in ``turns``: a row for every owner with a job that waits or runs, and for some who had one a moment
ago. Whoever puts a job in line sees to it (``join``), and nobody takes such a row away.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    Subquery,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)

from service.domain.jobs import HELD_STATES, JobState
from service.storage.database import database_time, upsert
from service.storage.owners import owner_of
from service.storage.tables import jobs, turns

OWNERS_COMPARED = 32
"""Of so many owners, those who have waited longest for a turn, it is counted what they run."""
OWNERS_AT_ONCE = 16
JOBS_AT_ONCE = 8
"""Workers that claim at the same moment choose among so many owners, and so many jobs of each."""
IDLE_SECONDS = 60.0
"""Whoever had a turn so long ago, and has nothing in line, is forgotten: else each claim would look for their jobs."""
FORGOTTEN_AT_ONCE = 1000
_TAKER = "taker"


def may_be_claimed(among: FromClause = jobs) -> ColumnElement[bool]:
    """Return the condition that a job waits, and that its pause after a loss is over."""
    return and_(is_in(among, JobState.QUEUED), among.c.claimable_at <= database_time())


def is_in(among: FromClause, *states: JobState) -> ColumnElement[bool]:
    """Return the condition that a job is in one of some states.

    They are spelled out: of parameters, the database would not know that an index holds just what is asked for.
    """
    named = [among.c.state == literal_column(f"'{state.value}'") for state in sorted(states)]
    return or_(*named)


def next_number(connection: Connection, most_running: int | None) -> list[ScalarSelect[int]]:
    """Return queries for the number of the job whose turn it is, and which nobody else is just claiming.

    Each is asked where those before it have found none. An owner who runs ``most_running`` jobs has no turn.
    """
    # On SQLite whoever writes is alone: the first of all is free.
    if connection.dialect.name == "sqlite":
        return [_first(most_running)]
    return [_first_free(most_running), _next_free(most_running), _any_free(most_running)]


def has_next(connection: Connection, most_running: int | None) -> bool:
    """Whether it may be anybody's turn; cheaper than to find out whose."""
    return connection.execute(_anybody(most_running)).first() is not None


def join(connection: Connection) -> None:
    """Let the owner of a session wait for a turn, who has put jobs in line; what takes long is done before.

    The row is held against ``forget`` alone: that hinders neither claims nor others who put jobs of the owner in line.
    Only of an owner who was not known, others wait for the first one's end.
    """
    owner = owner_of(connection)
    held = select(turns.c.owner).where(turns.c.owner == owner).with_for_update(read=True, key_share=True)
    row = upsert(connection, turns).values(owner=owner, taken_at=database_time()).on_conflict_do_nothing()
    while connection.execute(held).first() is None:  # again where it was just being forgotten
        connection.execute(row)


def take(connection: Connection, owner: str) -> None:
    """Note that an owner has had a turn.

    Where somebody else is just noting the same nobody waits for anybody, for it comes to the same moment.
    """
    connection.execute(_taking(), {_TAKER: owner})


def are_out_of_date(connection: Connection) -> bool:
    """Whether ``adopt`` or ``forget`` would change anything; spares the write lock when neither would."""
    return connection.execute(select(or_(exists(_unknown()), exists(_idle())))).scalar_one()


def adopt(connection: Connection) -> None:
    """Let owners wait who have jobs in line and whom nobody has let: an earlier version has put the jobs there."""
    found = upsert(connection, turns).from_select(["owner", "taken_at"], _unknown().order_by("owner"))
    connection.execute(found.on_conflict_do_nothing())


def forget(connection: Connection) -> None:
    """Forget owners who have neither a job in line nor one that runs; a new one goes by the time when it comes."""
    # Those who are just putting a job in line hold their rows, and are passed over. Whoever comes later finds the row
    # locked, and waits until it is gone.
    idle = _idle().limit(FORGOTTEN_AT_ONCE).with_for_update(of=turns, skip_locked=True)
    locked = connection.execute(idle).scalars().all()
    if locked:  # asked again: a job may have been stored between the beginning of the statement and the lock
        connection.execute(delete(turns).where(turns.c.owner.in_(locked), ~_is_busy()))


def are_beyond_clock() -> ColumnElement[bool]:
    """Return the condition that there are turns in the future, for the clock was set back: their owners would wait."""
    return exists(select(turns.c.owner).where(turns.c.taken_at > database_time(1.0)))


def follow_clock(connection: Connection) -> None:
    """Put turns of the future into the present."""
    connection.execute(update(turns).where(turns.c.taken_at > database_time(1.0)).values(taken_at=database_time()))


@cache
def _taking() -> Update:
    its = select(turns.c.owner).where(turns.c.owner == bindparam(_TAKER))
    free = its.with_for_update(key_share=True, skip_locked=True)
    return update(turns).where(turns.c.owner == free.scalar_subquery()).values(taken_at=database_time())


@cache
def _anybody(most_running: int | None) -> Select[Any]:
    if most_running is None:
        return select(jobs.c.number).where(may_be_claimed()).limit(1)
    return select(_oldest(most_running).c.owner).limit(1)


@cache
def _first(most_running: int | None) -> ScalarSelect[int]:
    ranked, waits = _ranked(most_running, 1), jobs.alias("waits")
    mine = waits.c.owner == select(ranked.c.owner).scalar_subquery()
    return select(func.min(waits.c.number)).where(mine, may_be_claimed(waits)).scalar_subquery()


@cache  # to build it takes as long as the database needs for it
def _first_free(most_running: int | None) -> ScalarSelect[int]:
    """Take the first job of the first owner of whom nobody is just claiming that."""
    line = _in_order(most_running)
    return _first_job(line, line.c.running, line.c.turn, line.c.owner)


@cache
def _next_free(most_running: int | None) -> ScalarSelect[int]:
    """Take the same where others are just claiming the first jobs of all owners who are compared."""
    line = _by_turn(most_running).subquery("line")
    return _first_job(line, line.c.turn, line.c.owner)


def _first_job(line: Subquery, *order: ColumnElement[Any]) -> ScalarSelect[int]:
    waits = jobs.alias("waits")
    first = _from(select(waits.c.number), waits, line.c.owner).limit(_just(1)).lateral("first")
    query = select(jobs.c.number).select_from(line).join(first, true()).join(jobs, jobs.c.number == first.c.number)
    query = query.where(may_be_claimed()).order_by(*order).limit(_just(1))
    return query.with_for_update(of=jobs, skip_locked=True).scalar_subquery()


@cache
def _any_free(most_running: int | None) -> ScalarSelect[int]:
    """Take one of the first jobs of the first owners, where the first of every owner is locked."""
    ranked, waits = _ranked(most_running, OWNERS_AT_ONCE), jobs.alias("waits")
    before = (func.row_number().over(order_by=(waits.c.owner, waits.c.number)) - 1).label("before")
    line = _from(select(waits.c.owner, waits.c.number, before), waits, ranked.c.owner)
    lines = line.limit(_just(JOBS_AT_ONCE)).lateral("lines")
    # Whoever comes to a job that is not the first of its line does so because those before it are locked, by others
    # who are just claiming them: they count as running. What has been claimed since this query began does not wait any
    # more, when its row is looked at again to be locked.
    running = ranked.c.running + lines.c.before
    query = select(jobs.c.number).select_from(ranked).join(lines, true()).join(jobs, jobs.c.number == lines.c.number)
    query = query.where(lines.c.owner == ranked.c.owner, may_be_claimed())
    if most_running is not None:
        query = query.where(running < most_running)
    query = query.order_by(running, ranked.c.turn, ranked.c.owner).limit(_just(1))
    return query.with_for_update(of=jobs, skip_locked=True).scalar_subquery()


def _ranked(most_running: int | None, most: int) -> CTE:
    """Return the owners who are next, of those who have a job that may be claimed."""
    return select(_in_order(most_running)).limit(_just(most)).cte("ranked")


def _in_order(most_running: int | None) -> Subquery:
    """Return the owners who are next, in order, of those who have waited longest for a turn."""
    oldest = _oldest(most_running)
    counted = select(oldest, _running(oldest.c.owner).label("running")).subquery("counted")
    return select(counted).order_by(counted.c.running, counted.c.turn, counted.c.owner).subquery("line")


def _oldest(most_running: int | None) -> Subquery:
    """Return those with a job that may be claimed whose last turn is longest ago.

    To count what each owner runs would be to look at every job that runs.
    """
    return _by_turn(most_running).limit(_just(OWNERS_COMPARED)).subquery("oldest")


def _by_turn(most_running: int | None) -> Select[Any]:
    """Return the owners with a job that may be claimed, in the order of their last turns.

    Turns are ordered first: so the database looks for jobs of no more owners than it takes to find as many as are
    asked for, and where there is a bound of running jobs, counts those of no more.
    """
    by_turn = select(turns.c.owner, turns.c.taken_at.label("turn")).order_by(turns.c.taken_at, turns.c.owner)
    known, waits = by_turn.subquery("known"), jobs.alias("waits")
    first = _from(select(waits.c.owner), waits, known.c.owner).limit(_just(1)).scalar_subquery()
    query = select(known).where(first == known.c.owner)
    if most_running is not None:
        query = query.where(_running(known.c.owner) < most_running)
    return query.order_by(known.c.turn, known.c.owner)


def _unknown() -> Select[Any]:
    """Return the owners with jobs in line of whom ``turns`` does not know, and since when they wait."""
    waiting, waits = _waiting(), jobs.alias("waits")
    since = _from(select(waits.c.claimable_at), waits, waiting.c.owner).limit(_just(1)).scalar_subquery()
    query = select(waiting.c.owner, since).outerjoin(turns, turns.c.owner == waiting.c.owner)
    return query.where(waiting.c.owner.is_not(None), turns.c.owner.is_(None))


def _idle() -> Select[Any]:
    return select(turns.c.owner).where(turns.c.taken_at < database_time(-IDLE_SECONDS), ~_is_busy())


def _is_busy() -> ColumnElement[bool]:
    """Return the condition that an owner of ``turns`` has a job in line, or one that runs, and may come back there."""
    waits, held = jobs.alias("waits"), jobs.alias("held")
    in_line = exists(select(waits.c.number).where(waits.c.owner == turns.c.owner, is_in(waits, JobState.QUEUED)))
    return or_(in_line, exists(select(held.c.number).where(held.c.owner == turns.c.owner, is_in(held, *HELD_STATES))))


def _waiting() -> CTE:
    """Return the owners who have a job that may be claimed, and a null: one step in the index for each of them.

    To group the line by owner would read every job of it.
    """
    waits = jobs.alias("waits")
    line = select(waits.c.owner).where(may_be_claimed(waits)).order_by(waits.c.owner, waits.c.number).limit(_just(1))
    first = select(line.scalar_subquery().label("owner")).cte("waiting", recursive=True)
    following = line.where(waits.c.owner > first.c.owner).scalar_subquery()
    return first.union_all(select(following).where(first.c.owner.is_not(None)))


def _from(query: Select[Any], waits: FromClause, owner: ColumnElement[str]) -> Select[Any]:
    """Let a query walk along the lines, from the first job of an owner's.

    Asked for the first jobs of this owner by ``=``, PostgreSQL may walk along all jobs that there are, of anybody in
    any state, for those are in order too. Asked for what follows only, it walks on into the next line where this one is
    empty, past every entry of the index that an open snapshot keeps.
    """
    query = query.where(waits.c.owner >= owner, waits.c.owner <= owner, may_be_claimed(waits))
    return query.order_by(waits.c.owner, waits.c.number)


def _just(number: int) -> ColumnElement[int]:
    """Spell a limit out: for one that is a parameter, PostgreSQL plans the query anew each time."""
    return literal_column(str(number), Integer)


def _running(owner: ColumnElement[str]) -> ScalarSelect[int]:
    """Return how many jobs an owner runs."""
    held = jobs.alias("held")
    return select(func.count()).where(held.c.owner == owner, is_in(held, *HELD_STATES)).scalar_subquery()
