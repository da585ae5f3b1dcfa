"""The short way of small predictions: what it answers is what the application answers, in order and to the byte."""

import json
import re
import select
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from service.domain.encoders import CategoricalEncoder
from service.domain.owners import DEFAULT_OWNER
from service.storage import aliases
from service.storage.database import Database
from tests.api_process import ApiProcess, api_process
from tests.patience import PATIENCE_SECONDS, until
from tests.processes import linux_only
from tests.raw_http import RawAnswer, RawConnection, connected, prediction
from tests.served import LARGE_PARAMETERS, SLOW_ROWS, classifier, inverse, mixed, numbers, register, slow, version

pytestmark = linux_only

PLAIN: dict[str, Any] = {"network": {"kind": "mlp"}}
"""Of other networks it is said when many rows in a row are unlike the training rows, which is not meant here."""
LONG = "X-Other: 1"
"""A header that the short way does not know."""
TRIES = 5


@pytest.fixture(scope="module")
def sqlite_file(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hot") / "selfnorm.db"
    copy(stocked_sqlite, path)
    database = Database(f"sqlite:///{path}").owned_by(DEFAULT_OWNER)
    register(
        database,
        numbers("numbers", weight=2.0, spec=PLAIN),
        numbers("numbers", spec=PLAIN),
        classifier("kinds", spec=PLAIN),
        mixed("mixed", spec=PLAIN),
        mixed("mixed-kinds", classes=2, spec=PLAIN),
        version("cities", (CategoricalEncoder("city", ("Zürich", "São Paulo")),), numbers("", 2).onnx, spec=PLAIN),
        numbers("drifting"),
        mixed("unseen", spec=PLAIN),
        inverse("inverse", spec=PLAIN),
        numbers("large", parameters=LARGE_PARAMETERS, spec=PLAIN),
        classifier("wide", 1, 200, spec=PLAIN),
        slow("slow", spec=PLAIN),
    )
    with database.write() as connection:
        aliases.put(connection, "numbers", "old", 1)
    database.close()
    return path


@pytest.fixture(scope="module")
def api(sqlite_file: Path) -> Iterator[ApiProcess]:
    with api_process(sqlite_file, sqlite_file.parent) as running:
        yield running
        assert "Traceback" not in running.log(), running.log()[running.log().index("Traceback") - 300 :][:6000]


@pytest.fixture
def connection(api: ApiProcess) -> Iterator[RawConnection]:
    with connected(api.port) as opened:
        yield opened


def request(model: str, *rows: Any, **fields: Any) -> bytes:
    return prediction({"model": model, **fields, "instances": list(rows)})


def longer(short: bytes) -> bytes:
    """The same request, so that it takes the way through the application."""
    return short.replace(b"\r\n", b"\r\n" + LONG.encode() + b"\r\n", 1)


def are_short(*answers: RawAnswer) -> bool:
    """Whether answers came the short way: their ids begin alike and count up."""
    ids = [str(answer.header("x-request-id")) for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{16}", found) for found in ids)
    return len({found[:8] for found in ids}) == 1 and [found[8:] for found in ids] == sorted(found[8:] for found in ids)


def took_short_way(connection: RawConnection, asked: bytes) -> bool:
    return are_short(connection.ask(request("numbers", [1, 2])), connection.ask(asked))


def lasting(answer: RawAnswer) -> Any:
    """An answer without what is another each time, the request's id in the body of an error included."""
    status, headers, body = answer.lasting
    return status, sorted(headers), body.replace(str(answer.header("x-request-id")).encode(), b"")


SAME = [
    ("numbers", [[1, 2]], {}),
    ("numbers", [[1.5, -2.25e-3], [0, 0], [-0.0, 1e-300], [7.999999999999, -7]], {}),
    ("numbers", [{"c1": 2, "c0": 1}, {"c0": 0.1, "c1": 0.2}], {}),
    ("numbers", [[1, 2], {"c0": 1, "c1": 2}], {}),
    ("numbers", [[1, 2]], {"version": 1}),
    ("numbers", [[1, 2]], {"alias": "old"}),
    ("numbers", [[1, 2]], {"version": None, "alias": None}),
    ("numbers", [[1, 2]] * 500, {}),
    ("kinds", [[1, 2, -1, 0.5]], {}),
    ("kinds", [[0.1 * place, 0, 1, -1] for place in range(50)], {}),
    ("kinds", [{"c3": 1, "c2": 2, "c1": 0, "c0": 1}], {}),
    ("mixed", [["Paris", 3, True]], {}),
    ("mixed", [["Rome", None, False], ["Paris", -2.5, 1]], {}),
    ("mixed", [{"member": False, "city": "Rome", "age": 7}, {"member": True, "city": "Paris"}], {}),
    ("mixed-kinds", [["Paris", 3, True], ["Rome", 0, 0]], {}),
    ("mixed-kinds", [{"member": False, "city": "Rome", "age": None}], {}),
    ("cities", [["Zürich"], ["São Paulo"]], {}),
    ("large", [[1, 2], [3, 4]], {}),
]


@pytest.mark.parametrize(("model", "rows", "fields"), SAME)
def test_both_ways_answer_the_same(
    connection: RawConnection, model: str, rows: list[Any], fields: dict[str, Any]
) -> None:
    content = {"model": model, **fields, "instances": rows}
    written = [json.dumps(content, ensure_ascii=False), json.dumps(dict(reversed(content.items())), indent=1)]
    escaped = json.dumps(content)
    for text in (*written, escaped):
        short = prediction(text.encode())
        first = connection.ask(longer(short))
        assert first.status == 200, first.body
        answers = [connection.ask(short), connection.ask(longer(short)), connection.ask(short)]
        assert are_short(answers[0], answers[2]) or "\\" in text
        assert not are_short(*answers)
        assert {json.dumps(lasting(answer), default=repr) for answer in answers} == {
            json.dumps(lasting(first), default=repr)
        }


TENSOR = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [0.1, 0.2]}
TENSORS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("numbers", {}, {}, True),
    ("numbers", {"datatype": "FP32"}, {"id": "été"}, True),
    ("numbers", {"shape": [3, 2], "data": [1, 2, 3, 4, 5, 6]}, {"id": ""}, True),
    ("kinds", {"shape": [1, 4], "data": [1, 2, 0.5, -1]}, {"id": "a"}, True),
    ("numbers", {"data": [[0.1, 0.2]]}, {}, False),
    ("numbers", {"data": [1, 200]}, {}, False),
    ("numbers", {"shape": [2, 1]}, {}, False),
    ("numbers", {"shape": [1, 3]}, {}, False),
    ("numbers", {"data": [True, 1]}, {}, False),
    ("numbers", {"datatype": "INT64", "data": [1, 2]}, {}, False),
    ("numbers", {"name": "z"}, {}, False),
    ("numbers", {}, {"id": 5}, False),
    ("numbers", {}, {"outputs": [{"name": "y"}]}, False),
    ("nothing", {}, {}, False),
]


@pytest.mark.parametrize(("model", "tensor", "fields", "is_short"), TENSORS)
def test_both_ways_answer_tensors_the_same(
    connection: RawConnection, model: str, tensor: dict[str, Any], fields: dict[str, Any], is_short: bool
) -> None:
    for known in ("numbers", "kinds"):
        connection.ask(request(known, [1] * (2 if known == "numbers" else 4)))
    asked = prediction({"inputs": [{**TENSOR, **tensor}], **fields}, path=f"/v2/models/{model}/infer")
    answer = connection.ask(asked)
    assert lasting(answer) == lasting(connection.ask(longer(asked)))
    assert answer.status == (200 if is_short else answer.status), answer.body
    assert took_short_way(connection, asked) == is_short


def test_answers_are_right(connection: RawConnection) -> None:
    connection.ask(request("numbers", [1, 2], version=1))
    connection.ask(request("numbers", [1, 2]))
    answer = connection.ask(request("numbers", [1, 2.5], [4, -1]))
    assert answer.json() == {"model": "numbers", "version": 2, "predictions": [3.5, 3.0]}
    answer = connection.ask(request("numbers", [1, 2.5], alias="old"))
    assert answer.json() == {"model": "numbers", "version": 1, "predictions": [7.0]}
    answer = connection.ask(request("kinds", [1, 2, 3, 4]))
    body = answer.json()
    assert body["classes"] == ["kind 0", "kind 1", "kind 2"]
    assert body["predictions"] == [f"kind {max(range(3), key=body['probabilities'][0].__getitem__)}"]
    assert sum(body["probabilities"][0]) == pytest.approx(1, abs=1e-6)


def test_headers_are_those_of_every_answer_and_each_has_an_id_of_its_own(connection: RawConnection) -> None:
    connection.ask(request("numbers", [1, 2]))
    answers = [connection.ask(request("numbers", [1, 2])) for _ in range(300)]
    assert are_short(*answers)
    assert len({answer.header("x-request-id") for answer in answers}) == 300
    for answer in answers:
        assert [name for name, _ in answer.headers] == [
            "date",
            "x-content-type-options",
            "referrer-policy",
            "cross-origin-resource-policy",
            "x-frame-options",
            "content-type",
            "content-length",
            "x-request-id",
        ]
        assert answer.header("content-length") == str(len(answer.body))
        assert answer.header("content-type") == "application/json"
        assert abs(parsedate_to_datetime(str(answer.header("date"))).timestamp() - time.time()) < 60


ROW = b'{"model": "numbers", "instances": [[1, 2]]}'
ODD: dict[str, tuple[bytes, int]] = {
    "unknown model": (request("nothing", [1, 2]), 404),
    "unknown version": (request("numbers", [1, 2], version=9), 404),
    "unknown alias": (request("numbers", [1, 2], alias="none"), 404),
    "version and alias": (request("numbers", [1, 2], version=1, alias="old"), 422),
    "version as a text": (request("numbers", [1, 2], version="1"), 422),
    "version as true": (request("numbers", [1, 2], version=True), 422),
    "no rows": (request("numbers"), 422),
    "rows that are none": (prediction({"model": "numbers", "instances": {"a": 1}}), 422),
    "a row too narrow": (request("numbers", [1, 2], [1]), 422),
    "a row too wide": (request("numbers", [1, 2, 3]), 422),
    "a gap": (request("numbers", [1, None]), 422),
    "a text": (request("numbers", [1, "2"]), 422),
    "a number beyond float32": (request("numbers", [1, 1e39]), 422),
    "a column that is unknown": (request("numbers", {"c0": 1, "c1": 2, "c2": 3}), 422),
    "an array in a row": (request("numbers", [1, [2]]), 422),
    "a further field": (request("numbers", [1, 2], other=1), 422),
    "no model": (prediction({"instances": [[1, 2]]}), 422),
    "a far value": (request("numbers", [1, 2], [1, 100]), 200),
    "an unseen category": (request("mixed", ["Berlin", 1, True]), 200),
    "no finite answer": (request("inverse", [1], [0]), 422),
    "rows whose answers are many numbers": (request("wide", *[[1]] * 100), 200),
    "a field twice": (prediction(b'{"model": "x", "model": "numbers", "instances": [[1, 2]]}'), 400),
    "NaN": (prediction(b'{"model": "numbers", "instances": [[1, NaN]]}'), 400),
    "an infinite number": (prediction(b'{"model": "numbers", "instances": [[1, 1e999]]}'), 400),
    "half a body": (prediction(ROW[:-2]), 400),
    "no body": (prediction(b""), 400),
    "an array": (prediction(b"[[1, 2]]"), 422),
    "no UTF-8": (prediction(ROW.replace(b"numbers", b"\xff\xfe")), 400),
    "another type": (prediction(ROW, "Content-Type: text/plain"), 415),
    "two types": (prediction(ROW, "Content-Type: text/plain", "Content-Type: application/json"), 415),
    "a type with a charset": (prediction(ROW, "Content-Type: application/json; charset=utf-8"), 200),
    "several formats": (prediction(ROW, "Accept: application/json, */*"), 200),
    "a query": (prediction(ROW, path="/predict?a=1"), 200),
    "another path": (prediction(ROW, path="/predict/"), 307),
    "another method": (prediction(ROW).replace(b"POST", b"PUT", 1), 405),
    "an expected answer": (prediction(ROW, "Expect: 100-continue"), 200),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_requests_are_answered_as_the_application_answers_them(connection: RawConnection, what: str) -> None:
    odd, status = ODD[what]
    for model in ("numbers", "mixed", "inverse", "wide"):  # so that they are in memory
        connection.ask(request(model, {"numbers": [1, 2], "mixed": ["Paris", 1, True]}.get(model, [1])))
    answer = connection.ask(odd)
    assert answer.status == status, answer.body
    assert lasting(connection.ask(longer(odd))) == lasting(answer)
    assert not took_short_way(connection, odd)
    assert took_short_way(connection, request("numbers", [1, 2]))


def test_chunked_bodies_are_read(connection: RawConnection) -> None:
    head = prediction(b"", "Transfer-Encoding: chunked")
    chunks = b"%x\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n" % (len(ROW) - 5, ROW[:-5], ROW[-5:])
    assert lasting(connection.ask(head + chunks)) == lasting(connection.ask(prediction(ROW)))


@pytest.mark.parametrize(
    "last", [prediction(ROW, version="1.0"), prediction(ROW, "Connection: close"), prediction(ROW, "connection: Close")]
)
def test_connections_that_are_to_end_do(api: ApiProcess, last: bytes) -> None:
    with connected(api.port) as connection:
        expected = connection.ask(prediction(ROW))
        answer = connection.ask(last)
        assert (answer.status, answer.body) == (200, expected.body)
        assert answer.header("connection") == "close"
        assert connection.rest() == b""


def test_bodies_may_come_in_many_pieces(connection: RawConnection) -> None:
    short = request("numbers", [1, 2], [3, 4])
    whole = connection.ask(short)
    for size in (1, 7, 100, short.index(b"\r\n\r\n") + 4):
        for start in range(0, len(short), size):
            connection.send(short[start : start + size])
        answer = connection.read()
        assert lasting(answer) == lasting(whole)
        assert are_short(whole, answer)


def test_pipelined_requests_are_answered_in_order(connection: RawConnection) -> None:
    short = [request("numbers", [place, 0.5]) for place in range(8)]
    connection.ask(short[0])
    slow_one = request("slow", *[[place % 8] for place in range(SLOW_ROWS // 8)])
    parts = [
        [short[1], short[2]],
        short,
        [longer(short[1]), short[2]],
        [short[1], longer(short[2])],
        [short[1], prediction(b"{"), short[2], longer(short[3]), short[4], request("nothing", [1]), short[5]],
        [slow_one, short[1], short[2]],
        [short[1], slow_one, short[2], slow_one, longer(short[3])],
        [longer(slow_one), short[1], longer(short[2])],
        [request("inverse", [0]), short[1], request("inverse", [0]), longer(short[2]), request("inverse", [2])],
    ]
    for together in parts:
        alone = [lasting(connection.ask(one)) for one in together]
        connection.send(*together)
        assert [lasting(connection.read()) for _ in together] == alone
        for one in together:  # each in a piece of its own, before the first answer may have come
            connection.send(one)
        assert [lasting(connection.read()) for _ in together] == alone
        assert took_short_way(connection, short[0])


def test_request_that_is_cut_off_by_the_next_segment_is_answered_in_order(connection: RawConnection) -> None:
    first, second = request("numbers", [1, 1]), request("numbers", [2, 2])
    for cut in (5, len(second) - 30, len(second) - 1):
        connection.send(first, second[:cut])
        assert connection.read().json()["predictions"] == [2.0]
        connection.send(second[cut:], first)
        assert [connection.read().json()["predictions"] for _ in range(2)] == [[4.0], [2.0]]


def test_client_that_goes_away_before_its_answer_harms_nobody(api: ApiProcess, connection: RawConnection) -> None:
    for model in ("numbers", "slow", "inverse"):
        connection.ask(request(model, [1, 2] if model == "numbers" else [1]))
    asked = (
        request("numbers", [1, 2]),
        request("slow", *[[1]] * SLOW_ROWS),
        request("inverse", [0]),
        request("numbers", [1, 2]) * 20,
        request("numbers", [1, 2])[:-5],
        longer(request("slow", *[[1]] * SLOW_ROWS)) + request("numbers", [1, 2]),
    )
    for sent in asked:
        for _ in range(3):
            gone = socket.create_connection(("127.0.0.1", api.port))
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # as one that has crashed
            gone.sendall(sent)
            gone.close()
        assert connection.ask(request("numbers", [1, 2])).json()["predictions"] == [3.0]
    assert "Traceback" not in api.log()


def test_large_network_holds_up_nobody_who_asks_a_small_one(api: ApiProcess, connection: RawConnection) -> None:
    connection.ask(request("slow", [1]))
    connection.ask(request("numbers", [1, 2]))
    for _ in range(TRIES):
        with connected(api.port) as other:
            other.send(request("slow", *[[1]] * SLOW_ROWS))
            connection.ask(request("numbers", [1, 2]))
            is_first = not select.select([other.socket], [], [], 0)[0]
            assert other.read().json()["predictions"] == [1.0] * SLOW_ROWS
        if is_first:
            return
    pytest.fail("every time, the small request was answered after the large one")


def test_next_request_waits_for_the_answer_that_is_under_way(connection: RawConnection) -> None:
    connection.ask(request("slow", [1]))
    connection.send(request("slow", *[[7]] * SLOW_ROWS))
    for place in range(3):
        connection.send(request("numbers", [place, 1]))
    connection.send(longer(request("numbers", [9, 1])))
    assert connection.read().json()["predictions"] == [7.0] * SLOW_ROWS
    assert [connection.read().json()["predictions"] for _ in range(4)] == [[1.0], [2.0], [3.0], [10.0]]


def asked(place: int, value: float) -> bytes:
    """One of four kinds of requests, by the place of its connection."""
    match place % 4:
        case 0:
            return request("numbers", [value, 0.5])
        case 1:
            return request("numbers", [value, 0], [0, value])
        case 2:
            return request("inverse", [0 if place % 8 == 2 else 8 / (1 + place)])
        case _:
            return request("mixed", ["Rome", value, False])


def expected(place: int, value: float) -> list[float] | None:
    """Its answer; None where it has none."""
    inverse = None if place % 8 == 2 else [1 / (8 / (1 + place))]
    return ([value + 0.5], [value, value], inverse, [0.5 * (1 + value)])[place % 4]


def test_two_hundred_connections_each_get_their_own_answers(api: ApiProcess) -> None:
    with connected(api.port) as opened:
        opened.ask(request("numbers", [0, 0]))
        opened.ask(request("inverse", [1]))
        opened.ask(request("mixed", ["Paris", 1, True]))
    connections = [RawConnection(api.port) for _ in range(200)]
    for turn in range(5):
        for place, opened in enumerate(connections):
            opened.send(asked(place, (place + 1000 * turn) / 1024))
        for place, opened in enumerate(connections):
            answer, wanted = opened.read(), expected(place, (place + 1000 * turn) / 1024)
            if wanted is None:
                assert answer.status == 422
                assert "row 0 has values too far" in answer.json()["errors"][0]["detail"]
            else:
                assert answer.json()["predictions"] == wanted
    for opened in connections:
        opened.close()


def test_many_threads_of_clients_ask_many_models(api: ApiProcess) -> None:
    def ask(number: int) -> None:
        with connected(api.port) as connection:
            for place in range(60):
                value = (number * 100 + place) / 1024  # so that sums are exact
                assert connection.ask(request("numbers", [value, 1])).json()["predictions"] == [value + 1]
                assert connection.ask(request("large", [value, 1])).json()["predictions"] == [value + 1]
                answer = connection.ask(longer(request("mixed", ["Rome", value, True])))
                assert answer.json()["predictions"] == [0.5 * (2 + value)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_warnings_of_drift_come_with_both_ways_and_go_again(connection: RawConnection) -> None:
    def warnings(way: bytes) -> list[str] | None:
        found: list[str] | None = connection.ask(way).json().get("warnings")
        return found

    odd = request("drifting", *[[3, 3]] * 200)
    usual = request("drifting", *[[1, -1], [-1, 1]] * 250)
    connection.ask(odd)
    found = until(lambda: warnings(odd))
    assert found is not None
    assert found[0].startswith("the last ")
    assert warnings(longer(odd)) is not None
    assert took_short_way(connection, odd)
    until(lambda: warnings(usual) is None)
    assert warnings(longer(usual)) is None


def test_share_of_unseen_categories_counts_the_rows_that_came_the_short_way(connection: RawConnection) -> None:
    usual, odd = request("unseen", *[["Paris", 1, True]] * 40), request("unseen", ["Berlin", 1, True])
    for _ in range(25):
        connection.ask(usual)
    for _ in range(10):
        connection.ask(odd)
    until(lambda: _inputs(connection, "unseen").get("recent", {}).get("rows", 0) >= 1000)
    found = _inputs(connection, "unseen")
    assert found["recent"]["unseen_share"]["city"] == pytest.approx(0.01, rel=0.1)
    assert (found["rows"], found["unseen"], found["warnings"]) == (1010, {"city": 10}, [])


def _inputs(connection: RawConnection, model: str) -> Any:
    return connection.ask(f"GET /models/{model}/versions/1/inputs HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).json()


@pytest.mark.parametrize("way", ["short", "long"])
def test_process_that_is_told_to_end_finishes_what_is_under_way(sqlite_file: Path, tmp_path: Path, way: str) -> None:
    with api_process(sqlite_file, tmp_path) as api, connected(api.port) as large, connected(api.port) as idle:
        large.ask(request("slow", [1]))
        idle.ask(request("numbers", [1, 2]))
        asked = request("slow", *[[1]] * SLOW_ROWS)
        large.send(asked if way == "short" else longer(asked))
        assert idle.ask(request("numbers", [1, 2])).status == 200  # so the process has begun with the other one
        api.process.send_signal(signal.SIGTERM)
        answer = large.read()
        assert answer.json()["predictions"] == [1.0] * SLOW_ROWS
        assert (large.rest(), idle.rest()) == (b"", b"")
        api.process.wait(PATIENCE_SECONDS)
        assert "Traceback" not in api.log()


def test_process_that_is_told_to_end_waits_for_the_rest_of_a_small_body(sqlite_file: Path, tmp_path: Path) -> None:
    with api_process(sqlite_file, tmp_path) as api, connected(api.port) as connection:
        asked = request("numbers", [1, 2])
        connection.ask(asked)
        connection.send(asked[:-5])
        with connected(api.port) as other:  # which is answered after the first part has been read
            other.ask(asked)
            api.process.send_signal(signal.SIGTERM)
            assert other.rest() == b""
        connection.send(asked[-5:])
        answer = connection.read()
        assert answer.json()["predictions"] == [3.0]
        assert (answer.header("connection"), connection.rest()) == ("close", b"")
        api.process.wait(PATIENCE_SECONDS)


def test_smaller_limits_hold_on_the_short_way_too(sqlite_file: Path, tmp_path: Path) -> None:
    with (
        api_process(sqlite_file, tmp_path, SELFNORM_MAX_PREDICT_BYTES="500") as api,
        connected(api.port) as connection,
    ):
        assert connection.ask(request("numbers", [1, 2])).status == 200
        assert took_short_way(connection, request("numbers", [1, 2]))
        assert connection.ask(request("numbers", *[[1, 2]] * 100)).status == 413
