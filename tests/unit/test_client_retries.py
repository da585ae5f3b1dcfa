import json
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from service.client import answers
from service.client.errors import ApiError, ConnectionFailed, InvalidRequest, NotFound, Unavailable
from service.client.retries import KEY, MAX_PAUSE_SECONDS, MAX_RETRY_AFTER_SECONDS, Patience, backed_off
from service.client.steps import Call, Exchange, Pause

URL = "http://127.0.0.1:8000"
MAKE = Call(Exchange("POST", "/jobs", headers={"Content-Type": "application/json"}), answers.plain, creates=True)
READ = Call(Exchange("GET", "/jobs/1"), answers.plain)
REMOVE = Call(Exchange("DELETE", "/jobs/1"), answers.nothing, removes=True)

Steps = Generator[Exchange | Pause, Any, Any]


def answer(status: int, body: Any = None, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b"" if body is None else json.dumps(body).encode()
    return httpx2.Response(status, headers=named, content=content, request=httpx2.Request("GET", URL))


def seen(retries: int = 4) -> Patience:
    """A client whose service has been there before."""
    patience = Patience(URL, retries)
    patience.is_reached = True
    return patience


def next_exchange(steps: Steps, outcome: httpx2.Response | httpx2.TransportError) -> tuple[Exchange, float]:
    """Let the last exchange come to something; return the next one, and the pause before it."""
    pause = steps.throw(outcome) if isinstance(outcome, httpx2.TransportError) else steps.send(outcome)
    assert isinstance(pause, Pause)
    exchange = next(steps)
    assert isinstance(exchange, Exchange)
    return exchange, pause.seconds


def result_of(steps: Steps, outcome: httpx2.Response) -> Any:
    with pytest.raises(StopIteration) as ended:
        steps.send(outcome)
    return ended.value.value


def test_what_makes_something_carries_one_key_for_all_its_tries() -> None:
    steps = seen().carry_out(MAKE)
    first = next(steps)
    assert isinstance(first, Exchange)
    second, _ = next_exchange(steps, httpx2.ReadError("cut"))
    third, _ = next_exchange(steps, answer(503))
    assert first.headers[KEY] == second.headers[KEY] == third.headers[KEY]
    assert first.headers["Content-Type"] == "application/json"
    assert result_of(steps, answer(202, {"id": "1"})) == {"id": "1"}
    other = next(seen().carry_out(MAKE))
    assert isinstance(other, Exchange)
    assert other.headers[KEY] != first.headers[KEY]


def test_what_reads_carries_no_key() -> None:
    exchange = next(seen().carry_out(READ))
    assert isinstance(exchange, Exchange)
    assert KEY not in exchange.headers


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_is_refused_for_the_moment_is_asked_again_no_sooner_than_the_service_said(status: int) -> None:
    steps = seen().carry_out(READ)
    next(steps)
    _, seconds = next_exchange(steps, answer(status, Retry_After="20"))
    assert seconds == 20
    assert result_of(steps, answer(200, [])) == []


def test_request_that_is_still_running_is_asked_again_and_other_conflicts_are_not() -> None:
    steps = seen().carry_out(MAKE)
    next(steps)
    problem = {"detail": "still being served", "code": "request_still_running"}
    next_exchange(steps, answer(409, problem, Retry_After="1"))
    with pytest.raises(ApiError) as raised:
        steps.send(answer(409, {"detail": "has ended", "code": "job_is_final"}))
    assert raised.value.code == "job_is_final"


def test_request_that_is_still_running_is_waited_for_whatever_the_number_of_retries() -> None:
    steps = seen(retries=1).carry_out(MAKE)
    first = next(steps)
    assert isinstance(first, Exchange)
    next_exchange(steps, httpx2.ReadTimeout("nothing came"))
    problem = {"detail": "still being served", "code": "request_still_running"}
    for _ in range(100):
        exchange, seconds = next_exchange(steps, answer(409, problem, Retry_After="1"))
        assert seconds >= 1
        assert exchange.headers[KEY] == first.headers[KEY]
    assert result_of(steps, answer(201, {"id": "1"})) == {"id": "1"}


@pytest.mark.parametrize("kind", [httpx2.UnsupportedProtocol, httpx2.LocalProtocolError])
def test_what_fails_on_this_machine_is_not_tried_again(kind: type[httpx2.TransportError]) -> None:
    steps = seen().carry_out(READ)
    next(steps)
    with pytest.raises(ConnectionFailed):
        steps.throw(kind("no such thing"))


def test_error_of_a_header_does_not_hold_it() -> None:
    failure = seen().lost(httpx2.LocalProtocolError("Illegal header value b'Bearer secret'"))
    assert "secret" not in str(failure)
    assert failure.__cause__ is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
def test_what_would_only_be_refused_again_is_not_asked_again(status: int) -> None:
    steps = seen().carry_out(READ)
    next(steps)
    with pytest.raises(ApiError) as raised:
        steps.send(answer(status, {"detail": "no", "code": "word", "request_id": "7"}))
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (status, "word", "7")


def test_service_that_asks_for_a_long_pause_is_not_waited_for() -> None:
    steps = seen().carry_out(READ)
    next(steps)
    seconds = MAX_RETRY_AFTER_SECONDS + 1
    with pytest.raises(Unavailable) as raised:
        steps.send(answer(503, Retry_After=f"{seconds:.0f}"))
    assert raised.value.retry_after_seconds == seconds


def test_retries_come_to_an_end() -> None:
    steps = seen(retries=2).carry_out(READ)
    next(steps)
    for _ in range(2):
        next_exchange(steps, httpx2.ReadTimeout("nothing came"))
    with pytest.raises(ConnectionFailed, match="nothing came") as raised:
        steps.throw(httpx2.ReadTimeout("nothing came"))
    assert URL in str(raised.value)
    assert "selfnorm up" in str(raised.value)


def test_service_that_has_never_been_there_is_asked_twice_and_no_more() -> None:
    steps = Patience(URL, retries=10).carry_out(READ)
    next(steps)
    next_exchange(steps, httpx2.ConnectError("refused"))
    with pytest.raises(ConnectionFailed):
        steps.throw(httpx2.ConnectError("refused"))


def test_service_whose_connections_break_is_there() -> None:
    steps = Patience(URL, retries=10).carry_out(READ)
    next(steps)
    for _ in range(10):
        next_exchange(steps, httpx2.ReadError("reset"))
    with pytest.raises(ConnectionFailed):
        steps.throw(httpx2.ReadError("reset"))


def test_what_an_earlier_try_has_removed_is_found_gone_only_by_a_later_one() -> None:
    steps = seen().carry_out(REMOVE)
    next(steps)
    next_exchange(steps, httpx2.ReadError("cut"))
    assert result_of(steps, answer(404, {"detail": "none"})) is None
    steps = seen().carry_out(REMOVE)
    next(steps)
    with pytest.raises(NotFound):
        steps.send(answer(404, {"detail": "none"}))


@pytest.mark.parametrize("failure", [httpx2.ConnectError("refused"), answer(503), answer(429)])
def test_what_was_never_there_is_not_taken_for_removed_after_a_try_that_was_not_served(failure: Any) -> None:
    steps = seen().carry_out(REMOVE)
    next(steps)
    next_exchange(steps, failure)
    with pytest.raises(NotFound):
        steps.send(answer(404, {"detail": "none"}))


@pytest.mark.parametrize("failure", [httpx2.ReadTimeout("nothing came"), answer(502), answer(504)])
def test_what_a_try_may_have_removed_is_taken_for_removed(failure: Any) -> None:
    steps = seen().carry_out(REMOVE)
    next(steps)
    next_exchange(steps, failure)
    assert result_of(steps, answer(404, {"detail": "none"})) is None


def test_pauses_grow_are_bounded_and_are_each_clients_own() -> None:
    drawn = [[backed_off(failures) for failures in range(1, 12)] for _ in range(50)]
    assert all(0 < pause <= MAX_PAUSE_SECONDS for pauses in drawn for pause in pauses)
    assert max(pauses[0] for pauses in drawn) < min(pauses[4] for pauses in drawn)
    assert len({pauses[0] for pauses in drawn}) > 1


def test_error_says_every_violation_with_its_pointer() -> None:
    problem = {
        "detail": "#/network/units: must be between 1 and 65536; got 0; and 1 more",
        "code": "invalid",
        "request_id": "5f2c",
        "errors": [
            {"pointer": "#/network/units", "detail": "must be between 1 and 65536; got 0"},
            {"pointer": "#/training/epochs", "detail": "must be between 1 and 100000; got -1"},
        ],
    }
    error = answers.error_of(answer(422, problem))
    assert isinstance(error, InvalidRequest)
    assert str(error).splitlines() == [
        "2 thing(s) to change (422 invalid, request 5f2c)",
        "  #/network/units: must be between 1 and 65536; got 0",
        "  #/training/epochs: must be between 1 and 100000; got -1",
    ]
    assert [item.pointer for item in error.errors] == ["#/network/units", "#/training/epochs"]


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"error": "no detail"}'])
def test_answer_that_is_no_problem_is_an_error_all_the_same(body: bytes) -> None:
    found = httpx2.Response(502, content=body, request=httpx2.Request("GET", URL))
    error = answers.error_of(found)
    assert isinstance(error, Unavailable)
    assert (body.decode() or URL) in str(error)
