"""Aliases and the deletion of versions, on both databases."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from service.domain.jobs import JobState
from service.domain.model_errors import (
    NothingToGoBackTo,
    NoVersionLeft,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionHasAliases,
    VersionInUse,
)
from service.domain.owners import DEFAULT_OWNER
from service.storage import aliases, blobs, models
from service.storage.database import Connection, Database, database_time
from service.storage.faults import DATABASE_DOWN
from service.storage.tables import blobs as blob_table
from service.storage.tables import input_statistics
from service.storage.tables import jobs as job_table
from tests.factories import stored_job
from tests.integration.test_registry import NEW, register


def do(database: Database, what: Callable[..., object], *arguments: object) -> None:
    with database.write() as connection:
        what(connection, "m", *arguments)


def put(database: Database, alias: str, *versions: int) -> None:
    for version in versions:
        do(database, aliases.put, alias, version)


def standing(database: Database, alias: str = "production") -> int | None:
    with database.read() as connection:
        return aliases.version_of(connection, "m", alias)


def back(database: Database, alias: str = "production") -> int | None:
    do(database, aliases.roll_back, alias)
    return standing(database, alias)


def revision(database: Database) -> int:
    with database.read() as connection:
        found = models.revision(connection, "m")
    assert found is not None
    return found


@pytest.fixture
def three(database: Database) -> Database:
    """A model with three versions."""
    for number in range(1, 4):
        register(database, f"j{number}")
    return database


def resolved(database: Database, version: int | None = None, alias: str | None = None) -> int:
    with database.read() as connection:
        return models.resolve(connection, "m", version, alias).version


def test_default_is_production_or_else_the_newest(three: Database) -> None:
    assert resolved(three) == 3
    put(three, "canary", 1)
    assert (resolved(three), resolved(three, alias="canary"), resolved(three, 2)) == (3, 1, 2)
    put(three, "production", 2)
    register(three, "j4")
    assert (resolved(three), resolved(three, alias="production")) == (2, 2)
    do(three, aliases.remove, "production")
    assert resolved(three) == 4
    do(three, models.remove, 4)
    assert resolved(three) == 3
    with three.read() as connection:
        assert models.get_model(connection, "m").default_version == 3
        assert models.get_version(connection, "m").version == 3


def test_what_cannot_be_resolved_says_what_there_is(three: Database) -> None:
    with pytest.raises(UnknownAlias, match="it has none"):
        resolved(three, alias="production")
    put(three, "b", 1)
    put(three, "a", 1)
    with pytest.raises(UnknownAlias, match="its aliases are a, b"):
        resolved(three, alias="production")
    with pytest.raises(UnknownVersion, match="no version 9"):
        resolved(three, 9)
    with three.read() as connection, pytest.raises(UnknownModel, match="no model"):
        models.resolve(connection, "x", alias="a")


def test_every_change_is_counted_and_nothing_else(three: Database) -> None:
    assert revision(three) == 3
    steps: list[tuple[Callable[..., object], tuple[object, ...], int]] = [
        (aliases.put, ("production", 1), 1),
        (aliases.put, ("production", 1), 0),
        (aliases.put, ("production", 2), 1),
        (aliases.roll_back, ("production",), 1),
        (aliases.remove, ("production",), 1),
        (models.remove, (3,), 1),
    ]
    for what, arguments, more in steps:
        before = revision(three)
        do(three, what, *arguments)
        assert revision(three) == before + more, (what, arguments)
    with three.for_everybody().read() as connection:
        wanted = [(DEFAULT_OWNER, "m"), (DEFAULT_OWNER, "x"), ("another", "m")]
        assert models.revisions(connection, wanted).keys() == {(DEFAULT_OWNER, "m")}
        assert models.revisions(connection, []) == {}


def test_failed_change_counts_for_nothing(three: Database) -> None:
    before = revision(three)
    for what, arguments in ((aliases.put, ("a", 9)), (aliases.roll_back, ("a",)), (models.remove, (9,))):
        with pytest.raises((UnknownVersion, UnknownAlias)):
            do(three, what, *arguments)
    assert revision(three) == before


def test_history_tells_every_change_newest_first(three: Database) -> None:
    put(three, "production", 1, 2, 2, 3)
    back(three)
    do(three, aliases.remove, "production")
    with three.read() as connection:
        changes = aliases.history(connection, "m", "production")
    assert [(change.kind, change.previous_version, change.version) for change in changes] == [
        ("removed", 2, None),
        ("rolled_back", 3, 2),
        ("set", 2, 3),
        ("set", 1, 2),
        ("set", None, 1),
    ]


def test_going_back_twice_goes_further_back(three: Database) -> None:
    put(three, "production", 1, 2, 3)
    assert [back(three), back(three)] == [2, 1]
    with pytest.raises(NothingToGoBackTo, match="stands for version 1"):
        back(three)
    put(three, "production", 3)
    assert back(three) == 1, "what was rolled back is not gone back to"


def test_going_back_through_a_version_that_came_twice(three: Database) -> None:
    put(three, "production", 1, 2, 1, 3)
    assert [back(three), back(three), back(three)] == [1, 2, 1]
    with pytest.raises(NothingToGoBackTo):
        back(three)


def test_going_back_passes_over_deleted_versions(three: Database) -> None:
    put(three, "production", 1, 2, 3)
    do(three, models.remove, 2)
    assert back(three) == 1
    put(three, "other", 3, 1)
    do(three, aliases.put, "production", 1)
    do(three, models.remove, 3)
    with pytest.raises(NothingToGoBackTo):
        back(three, "other")


def test_what_lies_between_two_deletions_is_not_gone_back_to_as_itself(three: Database) -> None:
    put(three, "production", 3, 1, 2, 1)
    do(three, models.remove, 2)
    assert back(three) == 3, "version 1 is what it stood for already"
    with pytest.raises(NothingToGoBackTo):
        back(three)


def test_removed_alias_comes_back(three: Database) -> None:
    put(three, "production", 1, 2)
    do(three, aliases.remove, "production")
    assert [back(three), back(three)] == [2, 1]
    do(three, aliases.remove, "production")
    put(three, "production", 1)
    with pytest.raises(NothingToGoBackTo):
        back(three)


def test_alias_that_never_was_is_unknown(three: Database) -> None:
    with pytest.raises(UnknownAlias):
        back(three)
    with pytest.raises(UnknownAlias):
        do(three, aliases.remove, "production")
    for what in (aliases.roll_back, aliases.remove):
        with pytest.raises(UnknownModel), three.write() as connection:
            what(connection, "x", "production")


def test_random_changes_go_as_a_stack_goes(three: Database) -> None:
    choose = random.Random(5)
    stack: list[int] = []
    for _ in range(60):
        if stack and choose.random() < 0.5:
            below = next((place for place in range(len(stack) - 2, -1, -1) if stack[place] != stack[-1]), None)
            if below is None:
                with pytest.raises(NothingToGoBackTo):
                    back(three)
            else:
                del stack[below + 1 :]
                assert back(three) == stack[-1]
        else:
            version = choose.randrange(1, 4)
            put(three, "production", version)
            if stack[-1:] != [version]:
                stack.append(version)
        assert standing(three) == stack[-1]


def test_version_with_an_alias_stays(three: Database) -> None:
    put(three, "canary", 2)
    put(three, "production", 2)
    with pytest.raises(VersionHasAliases, match="canary, production"):
        do(three, models.remove, 2)
    do(three, models.remove, 1)
    assert resolved(three, 2) == 2


def test_version_that_a_prediction_needs_stays(three: Database) -> None:
    stored_job(three, "p1")
    values = {"kind": "prediction", "model_name": "m", "model_version": 2}
    with three.write() as connection:
        connection.execute(update(job_table).where(job_table.c.id == "p1").values(**values))
    do(three, models.remove, 1)
    with pytest.raises(VersionInUse, match="1 unfinished"):
        do(three, models.remove, 2)
    with three.write() as connection:
        connection.execute(update(job_table).where(job_table.c.id == "p1").values(state=JobState.CANCELLED))
    do(three, models.remove, 2)


def test_numbers_are_not_given_again(three: Database) -> None:
    for version in (3, 2, 1):
        do(three, models.remove, version)
    with three.read() as connection:
        model = models.get_model(connection, "m")
        assert (model.versions, model.newest_version, model.default_version) == ((), None, None)
        with pytest.raises(NoVersionLeft, match="has been deleted"):
            models.resolve(connection, "m")
        with pytest.raises(UnknownVersion):
            models.resolve(connection, "m", 3)
    assert register(three, "j4") == 4
    assert resolved(three) == 4


def stored_hashes(connection: Connection) -> set[str]:
    return set(connection.execute(select(blob_table.c.sha256)).scalars())


def test_files_go_with_the_last_version_that_has_them(database: Database) -> None:
    with database.read() as connection:
        before = stored_hashes(connection)
    for number in (1, 2):
        with database.write() as connection:
            models.register(connection, replace(NEW, job_id=f"j{number}", keras=f"keras {number}".encode()))
    do(database, models.remove, 1)
    with database.read() as connection:
        second = models.get_version(connection, "m", 2)
        assert second.keras_sha256 is not None
        assert stored_hashes(connection) - before == {second.weights_sha256, second.onnx_sha256, second.keras_sha256}
    do(database, models.remove, 2)
    with database.read() as connection:
        assert stored_hashes(connection) == before


def test_blob_stays_while_a_version_or_a_prediction_has_it(database: Database) -> None:
    with database.write() as connection:
        models.register(connection, NEW)
        keras = models.get_version(connection, "m").keras_sha256
        assert keras is not None
        blobs.delete_unused(connection, keras)
        assert blobs.get(connection, keras) == NEW.keras
    stored_job(database, "p1")
    with database.write() as connection:
        result = blobs.put(connection, b"result")
        connection.execute(update(job_table).where(job_table.c.id == "p1").values(result_sha256=result))
        blobs.delete_unused(connection, result)
        assert blobs.get(connection, result) == b"result"


def test_what_was_counted_of_a_version_goes_with_it(database: Database) -> None:
    register(database, "j1")
    with database.write() as connection:
        row = {"name": "m", "version": 1, "process": "p", "counts": {}, "recent": {}}
        connection.execute(insert(input_statistics).values(**row, updated_at=database_time()))
    do(database, models.remove, 1)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(input_statistics)).scalar_one() == 0


def test_aliases_of_everybody_are_told_with_whose_they_are(three: Database) -> None:
    put(three, "production", 2)
    put(three, "canary", 2)
    with three.for_everybody().read() as connection:
        assert aliases.of_everybody(connection) == {(DEFAULT_OWNER, "m"): ["canary", "production"]}


def test_flips_at_once_leave_one_history(three: Database) -> None:
    def flip(number: int) -> None:
        do(three, aliases.put, "production", 1 + number % 3)

    before = revision(three)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(flip, range(30)))
    with three.read() as connection:
        changes = list(reversed(aliases.history(connection, "m", "production")))
    assert [change.previous_version for change in changes] == [None, *(change.version for change in changes[:-1])]
    assert changes[-1].version == standing(three)
    assert revision(three) == before + len(changes)


def test_rollbacks_at_once_go_back_one_after_the_other(database: Database) -> None:
    for number in range(1, 9):
        register(database, f"j{number}")
    put(database, "production", *range(1, 9))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: do(database, aliases.roll_back, "production"), range(7)))
    assert standing(database) == 1


def test_deletion_waits_for_a_flip_to_the_same_version(three: Database) -> None:
    """Either the alias is set and the version stays, or the version goes and the alias is refused."""
    for version, alias in ((1, "a"), (2, "b"), (3, "c")):
        both = threading.Barrier(2)
        failed: list[str] = []

        def run(what: Callable[..., object], *arguments: object) -> None:
            both.wait(10)  # noqa: B023  # the threads end within the turn
            try:
                do(three, what, *arguments)
            except (VersionHasAliases, UnknownVersion) as error:
                failed.append(error.code)  # noqa: B023  # as above

        threads = [
            threading.Thread(target=run, args=(aliases.put, alias, version)),
            threading.Thread(target=run, args=(models.remove, version)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(failed) == 1, failed
        assert (standing(three, alias) is None) == (failed == ["unknown_version"])


def test_flip_is_seen_whole_by_who_is_asked_meanwhile(three: Database) -> None:
    """An alias goes to and fro and the version that it has left is deleted: no reader is ever without a version."""
    ended = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not ended.is_set():
            seen.add(resolved(three, alias="production"))

    put(three, "production", 1)
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(4, 16):
            version = register(three, f"j{number}")
            put(three, "production", version)
            do(three, models.remove, version - 1 if version > 4 else 1)
        ended.set()
        for reader in readers:
            reader.result(30)
    assert seen <= {1, *range(4, 16)}


def test_version_that_a_session_uses_is_not_deleted_under_it(three: Database, database_url: str) -> None:
    """Whoever stores a prediction holds the version until it is stored."""
    impatient = Database(database_url, patience_seconds=0.3).owned_by(DEFAULT_OWNER)
    with three.write() as connection:
        models.resolve(connection, "m", 2, for_use=True)
        with pytest.raises(DATABASE_DOWN):
            do(impatient, models.remove, 2)
    do(impatient, models.remove, 2)
    impatient.close()
