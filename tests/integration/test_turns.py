"""Owners take turns: whose job is claimed, who waits, and for how long at most."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from sqlalchemy import delete, select, update

from service.domain.jobs import Claim, EventKind, JobState
from service.domain.owners import DEFAULT_OWNER
from service.storage import jobs, leases, losses, turns, workers
from service.storage.database import Database, database_time
from service.storage.tables import jobs as table
from service.storage.tables import turns as turn_table
from service.storage.tables import workers as worker_table
from service.sweeper import SWEEPING_WORKERS, keep_line, sweep
from tests.factories import stored_job

SPEC = {"dataset": "iris", "model": "iris", "tags": [], "training": {"epochs": 3}}
SEED = 20261130


def submit(database: Database, owner: str, *names: str) -> None:
    with database.owned_by(owner).write() as connection:
        for name in names:
            jobs.add(connection, name, SPEC)


def claim_next(database: Database, most_running: int | None = None) -> Claim | None:
    with database.for_everybody().write() as connection:
        return leases.claim_next(connection, "w1", most_running)


def names_of_claims(database: Database, count: int, most_running: int | None = None) -> list[str | None]:
    claims = [claim_next(database, most_running) for _ in range(count)]
    return [None if claim is None else claim.job_id for claim in claims]


def end(database: Database, held: Claim) -> None:
    with database.owned_by(held.owner).write() as connection:
        leases.fail(connection, held, "training_diverged", "why")


def test_one_job_is_next_however_many_another_owner_has_put_in_line_before(database: Database) -> None:
    submit(database, "many", *(f"m{number}" for number in range(50)))
    assert names_of_claims(database, 2) == ["m0", "m1"]
    submit(database, "one", "o0")
    assert names_of_claims(database, 2) == ["o0", "m2"]


def test_workers_are_shared_out_evenly_whatever_the_lines_are_like(database: Database) -> None:
    for owner, length in (("a", 30), ("b", 4), ("c", 12)):
        submit(database, owner, *(f"{owner}{number}" for number in range(length)))
    claims = [claim_next(database) for _ in range(20)]
    assert Counter(held.owner for held in claims if held) == {"a": 8, "b": 4, "c": 8}
    for owner in "abc":
        mine = [held.job_id for held in claims if held and held.owner == owner]
        assert mine == [f"{owner}{number}" for number in range(len(mine))], "the oldest first"


def test_owners_with_equally_many_running_jobs_take_turns(database: Database) -> None:
    for owner in ("a", "b", "c"):
        submit(database, owner, *(f"{owner}{number}" for number in range(4)))
    found = []
    for _ in range(9):  # a single worker
        held = claim_next(database)
        assert held is not None
        found.append(held.job_id)
        end(database, held)
    assert found == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_others_have_one_turn_at_most_while_somebody_waits_however_many_owners_there_are(database: Database) -> None:
    """Also where who runs nothing is not among the owners who are compared."""
    owners = [f"owner-{number:02}" for number in range(turns.OWNERS_COMPARED + 8)]
    for owner in owners:
        submit(database, owner, *(f"{owner}-{number}" for number in range(5)))
    idle, passed, waited = owners[-1], Counter[str](), []
    for _ in range(3 * len(owners)):
        held = claim_next(database)
        assert held is not None
        if held.owner != idle:
            passed[held.owner] += 1
            continue
        end(database, held)
        assert max(passed.values()) == 1
        waited.append(passed.total())
        passed.clear()
    assert waited[:2] == [len(owners) - 1, 8], "all others; then those who are compared before"


def test_new_owner_waits_behind_those_who_have_waited_longer(database: Database) -> None:
    """Else somebody with ever new owners would be served alone."""
    submit(database, "a", "a0", "a1")
    submit(database, "b", "b0")
    assert names_of_claims(database, 2) == ["a0", "b0"]
    submit(database, "a", "a2")
    for held in (Claim("a0", 1, "w1", "a"), Claim("b0", 1, "w1", "b")):
        end(database, held)
    submit(database, "new", "n0")
    assert names_of_claims(database, 3) == ["a1", "n0", "a2"]


def test_owner_runs_as_many_jobs_as_may_be_and_not_one_more(database: Database) -> None:
    submit(database, "many", *(f"m{number}" for number in range(5)))
    assert names_of_claims(database, 3, 2) == ["m0", "m1", None]
    with database.for_everybody().read() as connection:
        assert not leases.has_claimable(connection, 2)
        assert leases.has_claimable(connection, 3)
        assert leases.has_claimable(connection)
    submit(database, "one", "o0")
    assert names_of_claims(database, 2, 2) == ["o0", None]
    end(database, Claim("m0", 1, "w1", "many"))
    assert names_of_claims(database, 2, 2) == ["m2", None]


def test_cancelling_job_still_counts_for_its_worker_is_busy_with_it(database: Database) -> None:
    submit(database, "a", "a0", "a1")
    assert names_of_claims(database, 1) == ["a0"]
    with database.owned_by("a").write() as connection:
        jobs.request_cancel(connection, "a0")
    assert names_of_claims(database, 1, 1) == [None]


def test_owner_whose_first_job_rests_after_a_loss_goes_on_with_the_next(database: Database) -> None:
    submit(database, "a", "a0", "a1")
    submit(database, "b", "b0")
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == "a0").values(claimable_at=database_time(60)))
    assert names_of_claims(database, 3) == ["a1", "b0", None]


def test_workers_that_claim_at_once_share_the_owners_and_keep_the_bound(database: Database) -> None:
    workers_at_once, most = 8, 3
    for owner in ("a", "b", "c", "d"):
        submit(database, owner, *(f"{owner}{number}" for number in range(9)))
    for _ in range(3):
        with ThreadPoolExecutor(workers_at_once) as pool:
            claims = [held for held in pool.map(lambda _: claim_next(database, most), range(4 * most + 8)) if held]
        again = 4 * most - len(claims)  # whoever came at the same moment as too many others went without
        claims += [held for held in (claim_next(database, most) for _ in range(again)) if held]
        assert Counter(held.owner for held in claims) == dict.fromkeys("abcd", most)
        assert claim_next(database, most) is None
        for held in claims:
            end(database, held)


@pytest.mark.parametrize("most_running", [None, 1, 2])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_more_claims_at_once_than_owners_are_compared_serve_everybody_once(
    database: Database, most_running: int | None
) -> None:
    more = 8
    owners = [f"owner-{number:02}" for number in range(turns.OWNERS_COMPARED + more)]
    for owner in owners:
        submit(database, owner, *(f"{owner}-{number}" for number in range(3)))
    with database.for_everybody().write() as others:  # those who are compared are just being served
        served = [leases.claim_next(others, "w2", most_running) for _ in range(turns.OWNERS_COMPARED)]
        claims = served + [claim_next(database, most_running) for _ in range(more)]
    assert [held.owner for held in claims if held] == owners


def test_clock_that_is_set_back_holds_no_owner_up(database: Database) -> None:
    submit(database, "a", "a0", "a1", "a2")
    submit(database, "b", "b0", "b1")
    for name in ("a0", "b0"):
        held = claim_next(database)
        assert held is not None
        assert held.job_id == name
        end(database, held)
    with database.write() as connection:  # a's turn was an hour from now
        changed = update(turn_table).where(turn_table.c.owner == "a").values(taken_at=database_time(3600))
        connection.execute(changed)
    with database.for_everybody().read() as connection:
        assert losses.needs_sweep(connection)
    sweep(database)
    with database.for_everybody().read() as connection:
        assert not losses.needs_sweep(connection)
    held = claim_next(database)
    assert held is not None
    end(database, held)
    assert [held.job_id, *names_of_claims(database, 1)] == ["b1", "a1"]


def known(database: Database) -> set[str]:
    with database.for_everybody().read() as connection:
        return set(connection.execute(select(turn_table.c.owner)).scalars())


def age(database: Database) -> None:
    """Let every turn be longer ago than an idle owner is known."""
    with database.write() as connection:
        connection.execute(update(turn_table).values(taken_at=database_time(-turns.IDLE_SECONDS - 1)))


def test_who_has_nothing_in_line_and_nothing_running_is_forgotten_after_a_minute(database: Database) -> None:
    for owner in ("ended", "waits", "runs", "rests", "paused"):
        submit(database, owner, f"{owner}-0")
    assert names_of_claims(database, 2) == ["ended-0", "waits-0"]
    end(database, Claim("ended-0", 1, "w1", "ended"))
    submit(database, "waits", "waits-1")
    end(database, Claim("waits-0", 1, "w1", "waits"))
    assert names_of_claims(database, 1) == ["runs-0"]
    with database.owned_by("rests").write() as connection:
        connection.execute(update(table).where(table.c.id == "rests-0").values(claimable_at=database_time(60)))
    with database.owned_by("paused").write() as connection:
        jobs.request_pause(connection, "paused-0")
    keep_line(database)
    assert known(database) == {"ended", "waits", "runs", "rests", "paused"}, "it was a moment ago"
    age(database)
    keep_line(database)
    assert known(database) == {"waits", "runs", "rests"}
    with database.owned_by("paused").write() as connection:
        jobs.resume(connection, "paused-0")
    assert names_of_claims(database, 3) == ["waits-1", "paused-0", None]


def test_owner_of_whom_nobody_has_said_that_they_wait_has_turns_all_the_same(database: Database) -> None:
    """A version before this puts jobs in line and says nothing."""
    submit(database, "a", "a0")
    submit(database, "b", "b0")
    with database.write() as connection:
        connection.execute(delete(turn_table))
    with database.for_everybody().read() as connection:
        assert turns.are_out_of_date(connection)
    keep_line(database)
    with database.for_everybody().read() as connection:
        assert not turns.are_out_of_date(connection)
    assert names_of_claims(database, 3) == ["a0", "b0", None]


def test_nobody_is_forgotten_who_comes_at_the_same_moment(database: Database) -> None:
    owners = [f"owner-{number}" for number in range(4)]
    is_over = threading.Event()

    def forget() -> None:
        while not is_over.is_set():
            age(database)
            with database.for_everybody().write() as connection:
                turns.forget(connection)

    def come(owner: str) -> None:
        for number in range(25):
            name = f"{owner}-{number}"
            submit(database, owner, name)
            held = None
            while held is None:  # by the rule alone: whoever is forgotten has no turn
                with database.for_everybody().write() as connection:
                    held = leases.claim_next(connection, owner)
            end(database, held)

    with ThreadPoolExecutor(len(owners) + 1) as pool:
        forgetting = pool.submit(forget)
        try:
            for coming in [pool.submit(come, owner) for owner in owners]:
                coming.result(60)
        finally:
            is_over.set()
        forgetting.result()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_comes_waits_for_nobody_who_comes_too(database_url: str, database: Database) -> None:
    submit(database, "a", "a0")
    impatient = Database(database_url, patience_seconds=0.5)
    with database.owned_by("a").write() as connection:
        jobs.add(connection, "a1", SPEC)
        submit(impatient, "a", "a2")
        assert claim_next(impatient) is not None
    impatient.close()
    assert known(database) == {"a"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_first_jobs_of_a_comparison_hold_nobody_up_while_they_are_stored(database_url: str, database: Database) -> None:
    impatient = Database(database_url, patience_seconds=0.5)
    with database.owned_by("a").write() as connection:
        jobs.add(connection, "a0", SPEC, joins=False)
        submit(impatient, "a", "a1")
        turns.join(connection)
    impatient.close()
    assert names_of_claims(database, 3) == ["a0", "a1", None]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_nobody_is_looked_for_beyond_their_own_line(database: Database) -> None:
    """While somebody reads what was, as a backup does, entries of what was in line stay: they are not walked over."""
    gone, idle = 2000, 30
    for number in range(idle):
        submit(database, f"idle-{number}", f"i{number}")
        assert names_of_claims(database, 1) == [f"i{number}"]
        end(database, Claim(f"i{number}", 1, "w1", f"idle-{number}"))
    submit(database, "next", *(f"n{number}" for number in range(gone + 1)))
    everybody = database.for_everybody()
    with everybody.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    query = select(turns.next_number(connection, None)[0]).compile(
        database.engine, compile_kwargs={"literal_binds": True}
    )
    with everybody.read(steady=True) as reader:
        assert jobs.count_active(reader.execution_options(owner="next"), "iris") == gone + 1
        with everybody.write() as connection:
            last = table.c.id == f"n{gone}"
            connection.execute(update(table).where(table.c.owner == "next", ~last).values(state=JobState.SUCCEEDED))
        with everybody.write() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}").scalar_one()
    assert [held.job_id for held in [claim_next(database)] if held] == [f"n{gone}"]
    walked = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    assert walked < 500, (
        f"{walked} blocks; the line of the one who has a job takes 100, and each of the idle two or three"
    )


def test_place_in_line_is_that_in_the_line_of_the_owner(database: Database) -> None:
    stored_job(database, "mine-1")
    submit(database, "other", "o1", "o2", "o3")
    stored_job(database, "mine-2")
    for owner, name, place in ((DEFAULT_OWNER, "mine-2", 2), ("other", "o1", 1), ("other", "o3", 3)):
        with database.owned_by(owner).read() as connection:
            assert jobs.get(connection, name).queue_position == place


def test_only_some_of_many_workers_sweep(database: Database) -> None:
    everybody = database.for_everybody()
    names = [f"w{number:02}" for number in range(SWEEPING_WORKERS + 2)]
    with everybody.write() as connection:
        for name in names:
            workers.seen(connection, name, "1", "idle", None)
    last = names[-1]
    with everybody.read() as connection:
        found = [workers.is_among_first(connection, name, SWEEPING_WORKERS) for name in names]
    assert found == [True] * SWEEPING_WORKERS + [False] * 2
    with everybody.write() as connection:
        gone = worker_table.c.name.in_(names[:2])
        connection.execute(update(worker_table).where(gone).values(seen_at=database_time(-60)))
    with everybody.read() as connection:
        assert workers.is_among_first(connection, last, SWEEPING_WORKERS), "two have not been seen for a minute"


@dataclass
class Lines:
    """What the rule says, in memory; its clock counts events, which the databases' order too."""

    now: int = 0
    queued: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    """By owner: number, since when it waits, name."""
    running: Counter[str] = field(default_factory=Counter)
    turn: dict[str, int] = field(default_factory=dict)

    def next(self, most_running: int | None) -> tuple[str, str] | None:
        """Return owner and name of the job whose turn it is."""
        waiting = [
            (self.running[owner], self.turn.get(owner, min(line)[1]), owner)
            for owner, line in self.queued.items()
            if line and (most_running is None or self.running[owner] < most_running)
        ]
        if not waiting:
            return None
        owner = min(waiting)[2]
        return owner, min(self.queued[owner])[2]


@pytest.mark.parametrize("part", range(4))
def test_any_lines_are_served_by_the_rule_and_nobody_waits_for_more_turns_than_there_are_others(
    database: Database, part: int
) -> None:
    """By chance: owners, lines, workers, ends, losses; the claims are those of the rule, one by one."""
    chance = random.Random(f"{SEED} {part}")
    owners = [f"owner-{number}" for number in range(chance.randint(2, 7))]
    most = chance.choice([None, 1, 2, 5])
    lines = Lines()
    held: list[Claim] = []
    passed: dict[str, Counter[str]] = {}
    """For each owner who has waited with nothing running: whose turns have gone by since."""
    for step in range(120):
        time.sleep(0.002)  # SQLite's clock counts milliseconds
        lines.now += 1
        what = chance.random()
        if what < 0.35:
            owner = chance.choices(owners, weights=range(1, len(owners) + 1))[0]
            names = [f"{owner}-{step}-{number}" for number in range(chance.choice([1, 1, 6]))]
            submit(database, owner, *names)
            line = lines.queued.setdefault(owner, [])
            line += [(step * 10 + number, lines.now, name) for number, name in enumerate(names)]
        elif what < 0.6 and held:
            done = held.pop(chance.randrange(len(held)))
            lines.running[done.owner] -= 1
            if chance.random() < 0.3:  # it goes back to its place in the line
                with database.owned_by(done.owner).write() as connection:
                    goes = leases.leave(connection, done, EventKind.HANDED_BACK)
                assert goes is JobState.QUEUED
                number = int(done.job_id.split("-")[2]) * 10 + int(done.job_id.split("-")[3])
                lines.queued[done.owner].append((number, lines.now, done.job_id))
            else:
                end(database, done)
        else:
            expected = lines.next(most)
            claim = claim_next(database, most)
            assert (claim and (claim.owner, claim.job_id)) == expected, f"seed {SEED}, part {part}, step {step}"
            if claim is None:
                continue
            held.append(claim)
            lines.queued[claim.owner] = [job for job in lines.queued[claim.owner] if job[2] != claim.job_id]
            lines.running[claim.owner] += 1
            lines.turn[claim.owner] = lines.now
            for owner in owners:
                if owner == claim.owner or not lines.queued.get(owner) or lines.running[owner]:
                    passed.pop(owner, None)
                else:
                    gone_by = passed.setdefault(owner, Counter())
                    gone_by[claim.owner] += 1
                    assert max(gone_by.values()) == 1, "somebody had two turns while another had none"
