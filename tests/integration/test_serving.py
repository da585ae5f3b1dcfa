"""The models that a process serves: loaded on demand, following the registry, bounded in memory; on both databases."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from service.api.answers import to_json
from service.domain.errors import CorruptBlob
from service.domain.model_errors import ModelNotReady, UnknownAlias, UnknownModel, UnknownVersion
from service.domain.owners import DEFAULT_OWNER
from service.storage import aliases, inputs, models
from service.storage.database import Database, database_time
from service.storage.faults import DATABASE_DOWN, DATABASE_FAULTS
from service.storage.object_store import ObjectStore, ObjectStoreDown
from service.storage.tables import blob_parts, blobs, input_statistics, model_versions
from service.use_cases.inputs import read_inputs
from service.use_cases.predict import answer
from service.use_cases.serving import Served, Serving
from tests.factories import stored_job
from tests.patience import until
from tests.served import classifier, mixed, numbers, register
from tests.servers import free_port

THREADS = 16


@contextmanager
def following(url: str, **options: Any) -> Iterator[Serving]:
    """What another process would be: its own connection, its own memory, its own thread."""
    database = Database(url).owned_by(DEFAULT_OWNER)
    serving = Serving(database, **options)
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()
        database.close()


def put(database: Database, alias: str, version: int, name: str = "m") -> None:
    with database.write() as connection:
        aliases.put(connection, name, alias, version)


def ask(found: Served, *rows: Any) -> list[float]:
    return [float(value) for value in answer(found, found.reader.check(list(rows))).values[:, 0]]


def numbers_of(serving: Serving) -> set[tuple[str, int]]:
    return {(served.version.name, served.version.version) for served in serving.loaded()}


@pytest.fixture
def serving(database: Database) -> Serving:
    """One that follows when it is told to."""
    return Serving(database)


def test_versions_are_loaded_when_they_are_first_asked_for(database: Database, serving: Serving) -> None:
    register(database, numbers("m"), numbers("m", weight=2.0), numbers("other"))
    assert serving.known(DEFAULT_OWNER, "m") is None
    assert serving.loaded() == []
    assert ask(serving.find(DEFAULT_OWNER, "m", 1), [1, 2]) == [3.0]
    assert numbers_of(serving) == {("m", 1)}
    newest = serving.find(DEFAULT_OWNER, "m")
    assert (newest, newest) == (serving.known(DEFAULT_OWNER, "m"), serving.find(DEFAULT_OWNER, "m", 2))
    assert ask(newest, [1, 2]) == [6.0]
    assert numbers_of(serving) == {("m", 1), ("m", 2)}


def test_what_there_is_not_is_said(database: Database, serving: Serving) -> None:
    register(database, numbers("m"))
    with pytest.raises(UnknownModel):
        serving.find(DEFAULT_OWNER, "x")
    with pytest.raises(UnknownVersion):
        serving.find(DEFAULT_OWNER, "m", 2)
    with pytest.raises(UnknownAlias):
        serving.find(DEFAULT_OWNER, "m", alias="production")
    job_id = stored_job(database, model="waiting")
    with pytest.raises(ModelNotReady, match=job_id):
        serving.find(DEFAULT_OWNER, "waiting")
    assert serving.loaded() == []


def test_default_is_what_production_stands_for_or_else_the_newest(database: Database, serving: Serving) -> None:
    register(database, numbers("m"), numbers("m"), numbers("m"))
    assert serving.find(DEFAULT_OWNER, "m").version.version == 3
    put(database, "production", 2)
    put(database, "canary", 1)
    serving.follow()
    assert serving.find(DEFAULT_OWNER, "m").version.version == 2
    assert serving.find(DEFAULT_OWNER, "m", alias="canary").version.version == 1
    assert serving.find(DEFAULT_OWNER, "m", alias="production") is serving.find(DEFAULT_OWNER, "m")


def test_every_process_follows_the_registry_without_being_restarted(database: Database, database_url: str) -> None:
    register(database, numbers("m"), numbers("m", weight=2.0))
    put(database, "production", 1)
    with ExitStack() as stack:
        both = [stack.enter_context(following(database_url)) for _ in range(2)]

        def serve(version: int | None) -> bool:
            """Whether both serve a version, or nothing, as the default."""
            known = [serving.known(DEFAULT_OWNER, "m") for serving in both]
            return [found and found.version.version for found in known] == [version, version]

        until(lambda: serve(1))
        put(database, "production", 2)
        until(lambda: serve(2))
        with database.write() as connection:
            aliases.roll_back(connection, "m", "production")
        until(lambda: serve(1))
        with database.write() as connection:
            aliases.remove(connection, "m", "production")
        until(lambda: serve(2))
        register(database, numbers("m", weight=3.0))
        until(lambda: serve(3))
        with database.write() as connection:
            models.remove(connection, "m", 3)
        until(lambda: serve(2))
        until(lambda: not any(("m", 3) in numbers_of(serving) for serving in both))
        for serving in both:
            with pytest.raises(UnknownVersion):
                serving.find(DEFAULT_OWNER, "m", 3)


def test_no_other_version_answers_while_an_alias_moves(database: Database, database_url: str) -> None:
    register(database, *(numbers("m", weight=float(number)) for number in (1, 2, 3)))
    put(database, "production", 1)
    wrong: list[float] = []
    over = threading.Event()
    with following(database_url) as serving, ThreadPoolExecutor(4) as pool:
        until(lambda: serving.known(DEFAULT_OWNER, "m") is not None)

        def ask_on() -> None:
            while not over.is_set():
                wrong.extend(
                    value for value in ask(serving.find(DEFAULT_OWNER, "m"), [1, 1]) if value not in (2.0, 4.0)
                )

        asking = [pool.submit(ask_on) for _ in range(4)]
        for version in (2, 1, 2, 1, 2):
            put(database, "production", version)
            until(lambda version=version: serving.find(DEFAULT_OWNER, "m").version.version == version)  # type: ignore[misc]  # mypy cannot type a default
        over.set()
        for asked in asking:
            asked.result()
    assert wrong == []


def test_deleted_version_is_forgotten_even_where_no_name_leads_to_it(database: Database, serving: Serving) -> None:
    register(database, numbers("m"), numbers("m"))
    put(database, "canary", 1)
    serving.find(DEFAULT_OWNER, "m", alias="canary")
    with database.write() as connection:
        aliases.remove(connection, "m", "canary")
    serving.follow()
    assert serving.known(DEFAULT_OWNER, "m", alias="canary") is None
    with database.write() as connection:
        models.remove(connection, "m", 1)
    serving.follow()
    assert serving.loaded() == []


def test_aliased_versions_are_warm_before_anybody_asks(database: Database, database_url: str) -> None:
    register(database, numbers("m"), numbers("m"), numbers("m"), numbers("cold"), numbers("damaged", weight=7.0))
    put(database, "production", 2)
    put(database, "canary", 1)
    put(database, "production", 1, "damaged")
    _damage(database, "damaged", 1)
    with following(database_url) as serving:
        until(lambda: numbers_of(serving) == {("m", 1), ("m", 2)})
        until(
            lambda: None not in (serving.known(DEFAULT_OWNER, "m"), serving.known(DEFAULT_OWNER, "m", alias="canary"))
        )
        with pytest.raises(CorruptBlob):
            serving.find(DEFAULT_OWNER, "damaged")


def test_what_is_in_memory_answers_while_the_database_is_down(
    database: Database, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    register(database, numbers("m"), numbers("m", weight=2.0), numbers("cold"))
    put(database, "canary", 1)
    serving = Serving(database)
    assert ask(serving.find(DEFAULT_OWNER, "m"), [1, 1]) == [4.0]
    assert ask(serving.find(DEFAULT_OWNER, "m", alias="canary"), [1, 1]) == [2.0]
    with _down(database, database_url, tmp_path, request):
        with pytest.raises(DATABASE_DOWN):
            serving.follow()
        with pytest.raises(DATABASE_DOWN):
            serving.store_inputs()
        assert ask(serving.find(DEFAULT_OWNER, "m"), [1, 1]) == [4.0]
        assert ask(serving.find(DEFAULT_OWNER, "m", alias="canary"), [1, 1]) == [2.0]
        assert ask(serving.find(DEFAULT_OWNER, "m", 1), [1, 1]) == [2.0]  # never asked for by its number before
        with pytest.raises(DATABASE_DOWN):
            serving.find(DEFAULT_OWNER, "cold")
    put(database, "production", 1)
    serving.follow()
    assert ask(serving.find(DEFAULT_OWNER, "m"), [1, 1]) == [2.0]
    report = read_inputs(database, serving, "m", 1)
    assert report.rows == 4  # those of the time when nothing could be stored among them


def test_version_that_is_damaged_is_an_alarm_and_keeps_nobody_else_back(database: Database, serving: Serving) -> None:
    names = [f"m{number}" for number in range(8)]
    for number, name in enumerate(names):
        register(database, numbers(name), numbers(name, weight=10.0 + number))
        put(database, "production", 1, name)
        serving.find(DEFAULT_OWNER, name)
    for name in names:
        put(database, "production", 2, name)
    _damage(database, "m3", 2)
    serving.follow()
    for number, name in enumerate(names):
        if name != "m3":
            assert ask(serving.find(DEFAULT_OWNER, name), [1, 1]) == [20.0 + 2 * number]
    with pytest.raises(CorruptBlob):
        serving.find(DEFAULT_OWNER, "m3")
    put(database, "production", 1, "m3")
    serving.follow()
    assert ask(serving.find(DEFAULT_OWNER, "m3"), [1, 1]) == [2.0]


def test_store_that_is_down_is_told_once_and_without_a_traceback(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    database = sqlite_database
    register(database, numbers("m"), numbers("m", weight=2.0))
    put(database, "production", 1)
    _put_away(database, 2)
    nowhere = ObjectStore(f"s3://b/x?region=us-east-1&endpoint=http://127.0.0.1:{free_port()}", request_seconds=0.3)
    far = Database(database.engine.url.render_as_string(), store=nowhere)
    serving = Serving(far)
    serving.find(DEFAULT_OWNER, "m")
    put(database, "production", 2)
    for _ in range(3):
        serving.follow()
    with pytest.raises(ObjectStoreDown):
        serving.find(DEFAULT_OWNER, "m")
    told = [record for record in caplog.records if "could not be loaded" in record.getMessage()]
    assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)]
    put(database, "production", 1)
    serving.follow()
    assert serving.find(DEFAULT_OWNER, "m").version.version == 1
    far.close()


def _put_away(database: Database, version: int) -> None:
    """Let the graph of a version be in an object store."""
    with database.write() as connection:
        of_it = select(model_versions.c.onnx_sha256).where(model_versions.c.version == version)
        sha256 = connection.execute(of_it).scalar_one()
        connection.execute(delete(blob_parts).where(blob_parts.c.sha256 == sha256))
        connection.execute(update(blobs).where(blobs.c.sha256 == sha256).values(object_key="k"))


def test_least_recently_used_makes_room_and_is_loaded_again(database: Database) -> None:
    register(database, numbers("a"), numbers("b"), numbers("c"))
    size = Serving(database).find(DEFAULT_OWNER, "a").network.memory_bytes
    serving = Serving(database, memory_bytes=int(2.5 * size))
    for name in "abab":
        ask(serving.find(DEFAULT_OWNER, name), [1, 1])
    ask(serving.find(DEFAULT_OWNER, "a"), [1, 1])
    ask(serving.find(DEFAULT_OWNER, "c"), [1, 1])
    assert numbers_of(serving) == {("a", 1), ("c", 1)}
    assert serving.known(DEFAULT_OWNER, "b") is None
    assert ask(serving.find(DEFAULT_OWNER, "b"), [1, 1]) == [2.0]
    assert numbers_of(serving) == {("b", 1), ("c", 1)}


def test_one_that_is_larger_than_all_room_is_served_alone(database: Database) -> None:
    register(database, numbers("a"), numbers("b"))
    serving = Serving(database, memory_bytes=0)
    for name in "abba":
        assert ask(serving.find(DEFAULT_OWNER, name), [1, 1]) == [2.0]
        assert numbers_of(serving) == {(name, 1)}


def test_what_has_made_room_is_let_go_of_whoever_answered_with_it(database: Database) -> None:
    register(database, classifier("a"), numbers("b"))
    serving = Serving(database, memory_bytes=0)
    found = serving.find(DEFAULT_OWNER, "a")
    to_json(found, answer(found, found.reader.check([[1, 1, 1, 1]])).values)
    gone = weakref.ref(found)
    del found
    serving.find(DEFAULT_OWNER, "b")
    gc.collect()
    assert gone() is None


def test_names_and_memory_agree_after_changes_for_which_there_is_not_room_enough(database: Database) -> None:
    register(database, numbers("m"), numbers("m", weight=2.0), numbers("m", weight=3.0))
    for alias in ("production", "canary", "old"):
        put(database, alias, 1)
    size = Serving(database).find(DEFAULT_OWNER, "m").network.memory_bytes
    serving = Serving(database, memory_bytes=int(1.5 * size))
    names = (None, "canary", "old")
    for name in names:
        serving.find(DEFAULT_OWNER, "m", alias=name)
    put(database, "production", 2)
    put(database, "canary", 3)
    serving.follow()
    assert len(serving.loaded()) == 1
    known = [serving.known(DEFAULT_OWNER, "m", alias=name) for name in names]
    assert all(found is None or found in serving.loaded() for found in known)
    assert [ask(serving.find(DEFAULT_OWNER, "m", alias=name), [1, 1]) for name in names] == [[4.0], [6.0], [2.0]]


def test_many_who_ask_for_one_model_at_once_load_it_once(database: Database, serving: Serving) -> None:
    register(database, numbers("m"), numbers("m"))
    put(database, "production", 1)
    together = threading.Barrier(THREADS)

    def find(number: int) -> Served:
        together.wait()
        return serving.find(DEFAULT_OWNER, "m", *((None, None), (1, None), (None, "production"))[number % 3])

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(find, range(THREADS)))
    assert len(set(found)) == 1
    assert len(serving.loaded()) == 1


def test_counts_of_all_processes_add_up(database: Database, database_url: str) -> None:
    register(database, mixed("m"))
    other_database = Database(database_url).owned_by(DEFAULT_OWNER)
    one, other = Serving(database), Serving(other_database)
    near, far = ["Paris", 0.0, False], ["Berlin", 900.0, True]
    assert read_inputs(database, one, "m", 1).updated_at is None
    for serving, rows in ((one, [near, far]), (other, [far, far, near]), (one, [near])):
        ask(serving.find(DEFAULT_OWNER, "m"), *rows)
        serving.store_inputs()
    report = read_inputs(database, one, "m", 1)
    assert (report.rows, report.far_rows, report.far, report.unseen) == (6, 3, {"age": 3}, {"city": 3})
    assert report.recent.rows == 6
    assert report.recent.unseen_share == {"city": 0.5}
    assert report.recent.columns == one.find(DEFAULT_OWNER, "m").version.inputs.encoded
    ages = [0.0, 900.0, 900.0, 900.0, 0.0, 0.0]
    place = report.recent.columns.index("age")
    mean = sum(ages) / 6
    assert report.recent.mean[place] == pytest.approx(mean)
    assert report.recent.variance[place] == pytest.approx(sum((age - mean) ** 2 for age in ages) / 6)
    assert report == read_inputs(other_database, other, "m", 1)
    assert report.updated_at is not None
    assert abs((datetime.now(UTC) - report.updated_at).total_seconds()) < 60
    for name, number in (("m", 2), ("x", 1)):
        with pytest.raises((UnknownVersion, UnknownModel)):
            read_inputs(database, one, name, number)
    other_database.close()


def test_drift_is_seen_over_the_rows_of_all_processes(database: Database, database_url: str) -> None:
    register(database, numbers("m"))
    other_database = Database(database_url).owned_by(DEFAULT_OWNER)
    one, other = Serving(database), Serving(other_database)
    for serving in (one, other):  # too few in each to say anything
        ask(serving.find(DEFAULT_OWNER, "m"), *([[1.0, 1.0]] * 60))
        serving.store_inputs()
        assert serving.find(DEFAULT_OWNER, "m").guard.warnings == ()
    [warning] = read_inputs(database, one, "m", 1).warnings
    assert warning.startswith("the last 120 rows, standardized as in training, have mean 1 and variance 0;")
    other_database.close()


def test_counts_of_a_version_that_made_room_are_not_lost(database: Database) -> None:
    register(database, numbers("a"), numbers("b"))
    serving = Serving(database, memory_bytes=0)
    for turn in range(1, 4):
        for name in "ab":
            ask(serving.find(DEFAULT_OWNER, name), [1, 1], [1, 100])
        if turn == 2:
            serving.store_inputs()
    for name in "ab":
        report = read_inputs(database, serving, name, 1)
        assert (report.rows, report.far) == (6, {"c1": 3})


def test_counts_are_stored_when_the_process_ends(database: Database, database_url: str) -> None:
    register(database, numbers("m"))
    with following(database_url) as serving:
        ask(serving.find(DEFAULT_OWNER, "m"), [1, 1])
    assert read_inputs(database, Serving(database), "m", 1).rows == 1


def test_counts_of_processes_that_ended_long_ago_are_kept_together(database: Database) -> None:
    register(database, mixed("m"), numbers("other"))
    for _ in range(3):
        serving = Serving(database)
        ask(serving.find(DEFAULT_OWNER, "m"), ["Berlin", 900.0, True])
        ask(serving.find(DEFAULT_OWNER, "other"), [1, 1])
        serving.store_inputs()
    _make_older(database)
    still_there = Serving(database)
    ask(still_there.find(DEFAULT_OWNER, "m"), ["Paris", 0.0, True])
    still_there.store_inputs()
    before = read_inputs(database, Serving(database), "m", 1)
    for _ in range(2):
        with database.write() as connection:
            inputs.purge(connection)
        after = read_inputs(database, Serving(database), "m", 1)
        assert (after.rows, after.far, after.unseen) == (before.rows, before.far, before.unseen)
        assert (after.rows, after.recent.rows) == (4, 1)
        assert read_inputs(database, Serving(database), "other", 1).rows == 3
        with database.read() as connection:
            assert len(inputs.read(connection, "m", 1)) == 2
            assert len(inputs.read(connection, "other", 1)) == 1


def test_process_that_was_asked_nothing_for_long_is_not_counted_twice(database: Database) -> None:
    register(database, numbers("m"))
    serving = Serving(database)
    ask(serving.find(DEFAULT_OWNER, "m"), [1, 1], [1, 2])
    serving.store_inputs()
    _make_older(database)
    with database.write() as connection:
        inputs.purge(connection)
    ask(serving.find(DEFAULT_OWNER, "m"), [1, 1])
    assert read_inputs(database, serving, "m", 1).rows == 3


def test_counts_of_a_deleted_version_go_with_it(database: Database, serving: Serving) -> None:
    register(database, numbers("m"), numbers("m"))
    ask(serving.find(DEFAULT_OWNER, "m", 1), [1, 1])
    ask(serving.find(DEFAULT_OWNER, "m", 2), [1, 1])
    serving.store_inputs()
    ask(serving.find(DEFAULT_OWNER, "m", 1), [1, 1])
    with database.write() as connection:
        models.remove(connection, "m", 1)
    serving.store_inputs()
    with database.read() as connection:
        assert connection.execute(select(input_statistics.c.version)).scalars().all() == [2]


def test_what_could_not_be_stored_is_stored_the_next_time(database: Database, serving: Serving) -> None:
    register(database, numbers("m"))
    ask(serving.find(DEFAULT_OWNER, "m"), [1, 1])
    with _table_missing(database), pytest.raises(DATABASE_FAULTS):
        serving.store_inputs()
    serving.store_inputs()
    assert read_inputs(database, Serving(database), "m", 1).rows == 1


def test_many_may_store_at_once(database: Database, serving: Serving) -> None:
    register(database, numbers("m"))
    found = serving.find(DEFAULT_OWNER, "m")

    def do(_: int) -> None:
        ask(found, [1, 1])
        serving.store_inputs()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(do, range(40)))
    assert read_inputs(database, Serving(database), "m", 1).rows == 40


@contextmanager
def _table_missing(database: Database) -> Iterator[None]:
    with database.write() as connection:
        connection.execute(text("ALTER TABLE input_statistics RENAME TO away"))
    yield
    with database.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO input_statistics"))


def _make_older(database: Database) -> None:
    with database.write() as connection:
        moment = database_time(-2 * inputs.KEPT_SECONDS)
        connection.execute(update(input_statistics).values(updated_at=moment))


def _damage(database: Database, name: str, version: int) -> None:
    """Lose the bytes of a version's graph; other versions with the same weights have the same."""
    mine = select(model_versions.c.onnx_sha256).where(
        model_versions.c.name == name, model_versions.c.version == version
    )
    with database.write() as connection:
        connection.execute(delete(blob_parts).where(blob_parts.c.sha256.in_(mine)))


@contextmanager
def _down(database: Database, url: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the database away for a while, connections that were open included."""
    if database.dialect == "sqlite":
        database.engine.dispose()
        away = folder.rename(folder.with_name(f"{folder.name}-away"))
        yield
        away.rename(folder)
        return
    administration = request.getfixturevalue("stocked_postgresql")
    name = url.rpartition("/")[2]
    administration.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"))
    administration.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
    yield
    administration.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"))
