"""An API process while its database is refused, frozen or locked, and while it is asked to end: real processes."""

import itertools
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shutil import copy
from statistics import mean

import httpx2 as httpx
import pytest
from sqlalchemy import text

from service.domain.owners import DEFAULT_OWNER
from service.storage import schema
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN
from service.use_cases.datasets import add_builtin_datasets
from tests.api.support import register_model
from tests.api_process import END_SECONDS, ApiProcess, api_process
from tests.patience import until
from tests.processes import linux_only
from tests.servers import PostgresqlServer, postgresql_server
from tests.stopwatch import Stopwatch, stopwatch

pytestmark = linux_only

CLIENTS = 60
PAUSE_SECONDS = 0.3
BUSY = 0.7
"""The share of its time for which the clients keep the service busy at most, so that nobody waits for other clients."""
WARM_SECONDS = 3.0
OUTAGE_SECONDS = 5.0
ANSWER_SECONDS = 2.5
"""The service promises 2 s; the rest is for sixty clients on the same few cores."""
NOTICED_SECONDS = 1.5
SERVED_SECONDS = 1.0
TRIES = 3
"""A service that answers late does so each time; a machine that had other things to do for a moment does not."""
HALF_OPEN = 50
PREDICT = json.dumps({"model": "m", "instances": [[0.1, 0.2], [1e-300, 3.0], [12345.678, -0.0]]}).encode()
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
SUBMISSION = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"
SUBMISSION += b'{"dataset": "iris"}'
HALF_SENT = SUBMISSION[:-10]
HALF_UPLOAD = (
    b"POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n\r\na,b\n1,"
)


@dataclass(frozen=True)
class Ask:
    """A request."""

    method: str
    path: str
    content: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


SUBMIT = Ask("POST", "/jobs", b'{"dataset": "iris"}', tuple(JSON.items()))
LIST = Ask("GET", "/jobs")
UPLOAD = Ask("POST", "/datasets", b"a,b\n" + b"1,2\n" * 20, tuple(CSV.items()))
READY = Ask("GET", "/readyz")
REFUSED = (LIST, SUBMIT, Ask("GET", "/models"), READY, LIST, SUBMIT, UPLOAD)
PREDICTION = Ask("POST", "/predict", PREDICT, tuple(JSON.items()))
SERVED = (PREDICTION, PREDICTION, Ask("GET", "/healthz"), Ask("GET", "/version"))


@dataclass(frozen=True)
class Answer:
    """What a client saw: when it asked, and how long it took."""

    ask: Ask
    asked_at: float
    seconds: float
    response: httpx.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    def seconds_after(self, moment: float) -> float:
        """How much of the time that it took was after a moment."""
        return self.asked_at + self.seconds - max(self.asked_at, moment)

    def __str__(self) -> str:
        head = f"{self.ask.method} {self.ask.path} took {self.seconds:.2f} s"
        return f"{head}: {self.response.status_code} {self.response.text[:300]}"


@pytest.fixture(scope="module")
def private_server(server_folder: Path) -> Iterator[PostgresqlServer]:
    folder = server_folder / "private"
    folder.mkdir()
    with postgresql_server(folder) as server:
        yield server


@pytest.fixture
def server(private_server: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """PostgreSQL with a fresh database in it, which a test may freeze and kill."""
    url = f"{private_server.url}/postgres"
    execute(url, "DROP DATABASE IF EXISTS selfnorm WITH (FORCE)")
    execute(url, "CREATE DATABASE selfnorm")
    database = Database(url_of(private_server)).owned_by(DEFAULT_OWNER)
    schema.upgrade(database)
    add_builtin_datasets(database)
    register_model(database)
    database.close()
    yield private_server
    if private_server.process is None:
        private_server.start()
    private_server.thaw()


@pytest.fixture
def api(server: PostgresqlServer, tmp_path: Path) -> Iterator[ApiProcess]:
    with api_process(url_of(server), tmp_path) as running:
        yield running


@pytest.fixture
def sqlite_file(stocked_sqlite: Path, tmp_path: Path) -> Path:
    path = tmp_path / "selfnorm.db"
    copy(stocked_sqlite, path)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    register_model(database)
    database.close()
    return path


def url_of(server: PostgresqlServer) -> str:
    return f"{server.url}/selfnorm"


def execute(url: str, statement: str) -> None:
    database = Database(url).owned_by(DEFAULT_OWNER)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))
    database.close()


class Clients:
    """Many clients that ask at once, each one thing at a time and what it likes, until they are told to end.

    How long they pause comes from how long one answer takes here: on a slow machine they ask as much less.
    """

    def __init__(self, api: ApiProcess, asks: tuple[Ask, ...]) -> None:
        self.asks = asks
        self._api = api
        answer_seconds = mean(min(asked(api, ask).seconds for _ in range(3)) for ask in asks)
        self._pause = max(PAUSE_SECONDS, CLIENTS * answer_seconds / BUSY)
        self._over = threading.Event()
        self._answers: list[tuple[Ask, float, float, httpx.Response]] = []
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._watch = Stopwatch()
        self._running = [self._pool.submit(self._run, number) for number in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        """Give them a moment to connect, and the service to open all of its connections."""
        time.sleep(WARM_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        self._watch.stop()

    def answers(self) -> list[Answer]:
        """End, and return what was answered."""
        self.__exit__()
        for client in self._running:
            client.result()
        return [
            Answer(ask, asked_at, self._watch.elapsed(asked_at, answered_at), response)
            for ask, asked_at, answered_at, response in self._answers
        ]

    def _run(self, number: int) -> None:
        likes = Random(number)
        with httpx.Client(base_url=self._api.client.base_url, timeout=30) as connection:
            while not self._over.wait(likes.uniform(0, 2) * self._pause):
                ask = likes.choice(self.asks)
                asked_at = time.monotonic()
                response = connection.request(ask.method, ask.path, content=ask.content, headers=dict(ask.headers))
                self._answers.append((ask, asked_at, time.monotonic(), response))


def asked(api: ApiProcess, ask: Ask) -> Answer:
    with stopwatch() as watch:
        began = time.monotonic()
        response = api.client.request(ask.method, ask.path, content=ask.content, headers=dict(ask.headers))
        return Answer(ask, began, watch.elapsed(began), response)


def in_time(endured: Callable[[], list[Answer]]) -> None:
    """Endure an outage in time; it is repeated where answers came too late, which the function returns."""
    for _ in range(TRIES):
        late = endured()
        if not late:
            return
    raise AssertionError(f"too late in each of {TRIES} outages, in the last one {len(late)} times: {late[0]}")


def is_late(answer: Answer, began: float, noticed_seconds: float = NOTICED_SECONDS) -> bool:
    """Whether an answer took too long; once the outage is noticed nothing that is served waits for its end."""
    if answer.status == 503 or answer.asked_at < began + noticed_seconds:
        return answer.seconds_after(began) >= ANSWER_SECONDS
    return answer.seconds >= SERVED_SECONDS


def check_outage(answers: list[Answer], began: float, prediction: bytes) -> None:
    """What needs the database was refused, predictions were the same to the last bit."""
    assert {answer.ask for answer in answers if answer.asked_at > began} == {*REFUSED, *SERVED}
    for answer in answers:
        if answer.ask == PREDICTION:
            assert answer.response.content == prediction
        if answer.ask in SERVED:
            assert answer.status == 200, answer
        elif answer.asked_at > began:
            assert answer.status == 503, answer
        if answer.status >= 400:
            assert answer.status == 503, answer
            assert int(answer.response.headers["retry-after"]) > 0, answer


def wait_until_well(api: ApiProcess, seconds: float = 30) -> None:
    """The service is well within so long."""
    deadline = time.monotonic() + seconds
    for ask, status in ((READY, 200), (LIST, 200), (SUBMIT, 202), (UPLOAD, 201), (PREDICTION, 200)):
        while (answer := asked(api, ask)).status == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer.status == status, f"{answer}\n{api.log()[-3000:]}"


@pytest.mark.parametrize("outage", ["frozen", "killed"])
def test_guarantee_07_database_down_is_503_in_time_and_predictions_go_on(
    server: PostgresqlServer, api: ApiProcess, outage: str
) -> None:
    begin, end = {"frozen": (server.freeze, server.thaw), "killed": (server.kill, server.start)}[outage]
    prediction = api.client.post("/predict", content=PREDICT, headers=JSON).content

    def endured() -> list[Answer]:
        with Clients(api, (LIST, SUBMIT, PREDICTION)) as clients:
            begin()
            began, clients.asks = time.monotonic(), REFUSED + SERVED
            time.sleep(OUTAGE_SECONDS)
            answers = clients.answers()
            end()
        wait_until_well(api)
        check_outage(answers, began, prediction)
        return [answer for answer in answers if is_late(answer, began)]

    in_time(endured)
    assert api.client.post("/predict", content=PREDICT, headers=JSON).content == prediction
    assert api.process.poll() is None


def test_restarted_database_costs_no_request(server: PostgresqlServer, api: ApiProcess) -> None:
    def refused() -> list[Answer]:
        with Clients(api, (LIST, SUBMIT, PREDICTION)) as clients:
            answers = clients.answers()
        assert {answer.status for answer in answers} <= {200, 202, 503}
        return [answer for answer in answers if answer.status == 503]

    def endured() -> list[Answer]:
        before = refused()
        server.stop()
        server.start()
        wait_until_well(api)
        return before + refused()  # every connection of the pool is stale

    in_time(endured)


def test_api_that_starts_while_the_database_is_frozen_works_when_it_is_not(
    server: PostgresqlServer, tmp_path: Path
) -> None:
    server.freeze()
    with api_process(url_of(server), tmp_path) as api:
        for ask in (LIST, SUBMIT, PREDICTION, READY):
            answer = api.client.request(ask.method, ask.path, content=ask.content, headers=dict(ask.headers))
            assert answer.status_code == 503
        server.thaw()
        wait_until_well(api)


def test_model_that_is_not_loaded_is_503_while_the_database_is_down(server: PostgresqlServer, api: ApiProcess) -> None:
    server.kill()

    def endured() -> list[Answer]:
        answer = asked(api, PREDICTION)
        assert (answer.status, answer.response.json()["code"]) == (503, "database_down")
        return [answer] if answer.seconds >= ANSWER_SECONDS else []

    in_time(endured)


def test_newest_version_is_the_last_known_while_the_database_is_down(server: PostgresqlServer, api: ApiProcess) -> None:
    database = Database(url_of(server)).owned_by(DEFAULT_OWNER)
    assert api.client.post("/predict", content=PREDICT, headers=JSON).json()["version"] == 1
    register_model(database, job_id="j2", weight=2.0)

    def answer_of_the_second() -> httpx.Response | None:
        answer = api.client.post("/predict", content=PREDICT, headers=JSON)
        return answer if answer.json()["version"] == 2 else None

    second = until(answer_of_the_second)
    assert second is not None
    # Where its number is asked for before the database is down, that one is known as well.
    assert api.client.post("/predict", json={**json.loads(PREDICT), "version": 1}).status_code == 200
    database.close()
    server.kill()
    assert api.client.post("/predict", content=PREDICT, headers=JSON).content == second.content
    for version, status in ((1, 200), (2, 200), (3, 503)):
        answer = api.client.post("/predict", json={**json.loads(PREDICT), "version": version})
        assert answer.status_code == status


def test_lock_that_another_session_keeps_on_postgresql_is_503_in_time(
    server: PostgresqlServer, api: ApiProcess
) -> None:
    job = api.client.post("/jobs", json={"dataset": "iris"}).json()
    database = Database(url_of(server)).owned_by(DEFAULT_OWNER)
    with database.write() as connection:  # as a worker that is frozen in the middle of one
        connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": job["id"]})

        def endured() -> list[Answer]:
            answer = asked(api, Ask("POST", f"/jobs/{job['id']}/cancel"))
            assert answer.status == 503
            return [answer] if answer.seconds >= ANSWER_SECONDS else []

        in_time(endured)
        assert api.client.get("/jobs").status_code == 200
    assert api.client.post(f"/jobs/{job['id']}/cancel").status_code == 202
    database.close()


def test_guarantee_07_locked_sqlite_file_is_503_in_time_and_reading_goes_on(sqlite_file: Path, tmp_path: Path) -> None:
    with api_process(sqlite_file, tmp_path) as api, closing(sqlite3.connect(sqlite_file, timeout=60)) as other:
        prediction = api.client.post("/predict", content=PREDICT, headers=JSON).content

        def endured() -> list[Answer]:
            with Clients(api, (LIST, SUBMIT, PREDICTION)) as clients:
                other.execute("BEGIN IMMEDIATE")
                began = time.monotonic()
                clients.asks = (SUBMIT, SUBMIT, SUBMIT, LIST, READY, *SERVED)
                time.sleep(OUTAGE_SECONDS)
                answers = clients.answers()
            # It is read first, which takes time.
            upload = api.client.post("/datasets", content=UPLOAD.content, headers=CSV)
            assert (upload.status_code, upload.headers["retry-after"]) == (503, "5")
            other.rollback()
            for answer in answers:
                if answer.ask == PREDICTION:
                    assert answer.response.content == prediction
                if answer.ask == SUBMIT:
                    assert answer.status == 503 or answer.asked_at < began, answer
                    assert "retry-after" in answer.response.headers
                elif answer.ask in SERVED:
                    assert answer.status == 200, answer
                else:
                    assert answer.status in (200, 503), answer
            wait_until_well(api)
            refused = [answer for answer in answers if answer.status == 503 and answer.ask != SUBMIT]
            return refused + [answer for answer in answers if is_late(answer, began, NOTICED_SECONDS + 1)]

        in_time(endured)


def test_forty_threads_write_to_sqlite_one_after_the_other(sqlite_file: Path) -> None:
    database = Database(f"sqlite:///{sqlite_file}", patience_seconds=60).owned_by(DEFAULT_OWNER)
    asking = itertools.count()
    turns: list[int] = []

    def write(number: int) -> None:
        for _ in range(10):
            mine = next(asking)
            with database.write() as connection:
                turns.append(mine)
                connection.execute(text("UPDATE datasets SET rows = rows + 1 WHERE id = 'iris'"))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(write, range(40)))
    with database.read() as connection:
        assert connection.execute(text("SELECT rows FROM datasets WHERE id = 'iris'")).scalar() == 150 + 400
    database.close()
    overtaken = [sum(later > mine for later in turns[:place]) for place, mine in enumerate(turns)]
    assert max(overtaken) < 150, "somebody is left behind, who would wait for hundreds"


def test_thread_that_waits_for_sqlite_does_not_keep_others_from_reading(sqlite_file: Path) -> None:
    patience_seconds = 5.0
    database = Database(f"sqlite:///{sqlite_file}", patience_seconds).owned_by(DEFAULT_OWNER)

    def write(number: int) -> float:
        began = time.monotonic()
        with pytest.raises(DATABASE_DOWN), database.write():
            pass
        return watch.elapsed(began)

    with (
        closing(sqlite3.connect(sqlite_file, timeout=60)) as other,
        ThreadPoolExecutor(40) as pool,
        stopwatch() as watch,
    ):
        other.execute("BEGIN IMMEDIATE")
        writers = [pool.submit(write, number) for number in range(40)]
        for _ in range(100):
            with database.read() as connection:
                assert connection.execute(text("SELECT count(*) FROM jobs")).scalar() == 0
        assert not any(writer.done() for writer in writers), "they have waited for those who write"
        assert max(writer.result() for writer in writers) < patience_seconds + 0.5
        other.rollback()
    with database.write():  # and all is well again
        pass
    database.close()


@pytest.mark.parametrize("database", ["sqlite", "frozen postgresql"])
def test_guarantee_12_api_ends_in_time_with_half_open_clients(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """The rest of a body that comes after SIGTERM is still served; what never comes is not waited for without end."""
    is_frozen = database.startswith("frozen")
    where = request.getfixturevalue("server" if is_frozen else "sqlite_file")
    with api_process(url_of(where) if is_frozen else where, tmp_path) as api:
        starts = half_requests(api.client.post("/jobs", json={"dataset": "iris"}).json()["id"])
        clients = [(start, connected(api, start)) for _ in range(HALF_OPEN // len(starts) + 1) for start in starts]
        late = connected(api, HALF_SENT)
        for client in (late, *(client for _, client in clients)):
            request.addfinalizer(client.close)
        wait_until_taken(api, [client for start, client in clients if b"event-stream" in start])
        if is_frozen:
            where.freeze()
        with stopwatch() as watch:
            began = time.monotonic()
            api.process.send_signal(signal.SIGTERM)
            time.sleep(2)
            late.sendall(SUBMISSION[len(HALF_SENT) :])
            assert received(late)[:12] == (b"HTTP/1.1 503" if is_frozen else b"HTTP/1.1 202")
            api.process.wait(3 * END_SECONDS)
            assert watch.elapsed(began) < END_SECONDS
        for start, client in clients:
            answer = received(client)
            assert answer[:12] in starts[start]["frozen" if is_frozen else "well"], start
        assert "Traceback" not in api.log()


def half_requests(job_id: str) -> dict[bytes, dict[str, set[bytes]]]:
    """Requests that are under way without end, and how each is answered when the process ends all the same."""
    wait = f"GET /jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    events = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
    nothing, well, refused = {b""}, {b"HTTP/1.1 200"}, {b"HTTP/1.1 503"}
    return {
        HALF_SENT[:10]: {"well": nothing, "frozen": nothing},
        HALF_SENT[:60]: {"well": nothing, "frozen": nothing},
        HALF_SENT: {"well": refused, "frozen": refused},
        HALF_UPLOAD: {"well": refused, "frozen": refused},
        wait: {"well": well, "frozen": well | refused},  # it may just have read the job
        events: {"well": well, "frozen": well},  # its head had been sent before
    }


def wait_until_taken(api: ApiProcess, streams: list[socket.socket]) -> None:
    """Wait until every connection that was made by now has been taken, and every stream has begun."""
    for stream in streams:
        assert stream.recv(1, socket.MSG_PEEK)
    assert received(connected(api, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))


def connected(api: ApiProcess, start: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", api.port), timeout=3 * END_SECONDS)
    client.sendall(start)
    return client


def received(client: socket.socket) -> bytes:
    """Read until the other side has ended."""
    said = b""
    with client, suppress(ConnectionResetError):
        while piece := client.recv(4096):
            said += piece
    return said
