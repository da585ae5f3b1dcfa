"""Log lines: one JSON object each whatever is logged, nothing in them that is a secret, and what they belong to."""

import json
import logging
import subprocess
import sys
import time
from typing import Any

import pytest

from service.logs import MOST_CHARACTERS, REQUEST, JsonLines, TextLines, about, clean

CANARY = "k4nar1enVogel"
HOSTILE = [
    "://a:" * 10**5,
    "key" + "x-" * 10**5,
    "password" * 10**5,
    "secret_-" * 10**5,
    "password  " * 10**5,
    "_KEY" * 10**5,
]


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    exc_info = extra.pop("exc_info", None)
    made = logging.LogRecord("somebody", logging.WARNING, "", 0, message, args, exc_info)
    made.__dict__.update(extra)
    return made


def line(message: str, *args: Any, **extra: Any) -> dict[str, Any]:
    text = JsonLines("api").format(record(message, *args, **extra))
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"{{'authorization': 'Basic {CANARY}='}}",
        f"[(b'authorization', b'Bearer {CANARY}'), (b'accept', b'*/*')]",
        f"Cookie: session={CANARY}; other={CANARY}",
        f"(b'cookie', b'a={CANARY}')",
        f"set-cookie: selfnorm_session={CANARY}; Path=/",
        f"the key sn_{CANARY}_{CANARY} is unknown",
        f"signed with whsec_{CANARY}+/=",
        f"postgresql+psycopg://selfnorm:{CANARY}@db.example/selfnorm cannot be reached",
        f"redis://:{CANARY}/x@cache:6379/0",
        f"connection failed: host=db password={CANARY} user=a",
        f"GET /predict?token={CANARY}&x=1",
        f'{{"password": "{CANARY}", "x": 1}}',
        f"{{'api_key': '{CANARY}'}}",
        f"X-API-Key: {CANARY}",
        f"access_token={CANARY}",
        f"AWS_SECRET_ACCESS_KEY={CANARY}",
        f"{{'aws_secret_access_key': '{CANARY}'}}",
        f"environ({{'POSTGRES_PASSWORD': '{CANARY}', 'HOME': '/'}})",
        f"POSTGRES_PASSWORD={CANARY}",
        f"SELFNORM_API_KEY={CANARY}",
        f"METRICS_KEY={CANARY}",
        f"host=db sslpassword={CANARY}",
        f"https://s3.example/b/k?X-Amz-Signature={CANARY}&x=1",
        f"https://s3.example/b/k?X-Amz-Credential={CANARY}/eu",
        f"https://blob.example/k?sv=1&sig={CANARY}&x=1",
        f"['redis-server', '--requirepass', '{CANARY}']",
        f"requirepass {CANARY}",
        f"masterauth {CANARY}",
        f"ALTER ROLE selfnorm PASSWORD '{CANARY}'",
        f"redis://{CANARY}@cache:6379/0",
        f"private_key: {CANARY}",
    ],
)
def test_secrets_are_left_out(text: str) -> None:
    assert CANARY not in clean(text)
    assert "***" in clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "job 1234 failed: unusable_column: the column secret holds texts",
        "listening on 127.0.0.1, port 8000",
        "GET /jobs/{job_id} 200",
        "see https://example.com:8000/docs/basic",
        "a token of the page",
        "the token, which is read first, and the key, 'a', are not whole",
        "the key of worker 7 is a primary_key=True, the cache_key: 5",
        "there is no key yet, so nobody is let in; make one: selfnorm keys create NAME",
        'password authentication failed for user "selfnorm"',
        "signature: (rows, columns)",
        "keys: 3, design: 4, tokenizer: 5, secretary: 6",
        "https://example.com/@somebody/x and a@b.example",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert clean(text) == text


def test_secrets_in_tracebacks_arguments_and_fields_are_left_out() -> None:
    try:
        raise ValueError(f"Authorization: Bearer {CANARY}\nsecond")
    except ValueError:
        found = line("for %s", f"sn_{CANARY}", exc_info=sys.exc_info(), cookie=CANARY, more={"password": [CANARY]})
    assert CANARY not in json.dumps(found)
    assert found["exception"].startswith("Traceback")
    assert found["cookie"] == found["more"]["password"] == "***"


@pytest.mark.parametrize(
    "hostile", ["\n", "\r\n", "\x00\x1b[31m", "\u2028", "\ud800", "\x85", '"}\n{"level": "error"}']
)
def test_nothing_makes_a_second_line(hostile: str) -> None:
    found = line("from %s", hostile, said=hostile)
    assert found["event"] == f"from {hostile}"
    assert found["said"] == hostile
    text = TextLines().format(record("from %s", hostile, said=hostile))
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_values_that_json_does_not_have_are_said_in_words() -> None:
    found = line("x", number=float("nan"), thing=object, many=[float("inf"), 1.5, None, True])
    assert found["number"] == "nan"
    assert found["many"] == ["inf", 1.5, None, True]


def test_long_texts_are_cut_and_cost_little() -> None:
    began = time.process_time()
    for text in (
        "a" * 10**6,
        "://" * 10**5,
        "cookie" * 10**5,
        "bearer " * 10**5,
        "token_" * 10**5,
        "x-" * 10**5,
        *HOSTILE,
    ):
        assert len(line(text)["event"]) < 2 * MOST_CHARACTERS
    assert time.process_time() - began < 5  # a pattern that is not linear would take hours


def test_message_that_does_not_take_its_values_is_told_all_the_same() -> None:
    assert "two" in line("%d", "two")["event"]


def test_lines_say_what_they_belong_to() -> None:
    state = {"request_id": "r1", "trace_id": "t1", "owner": "alice", "key_id": "k1", "scopes": {"read"}}
    token = REQUEST.set(state)
    try:
        with about(job_id="j1", attempt=2):
            found = line("x")
    finally:
        REQUEST.reset(token)
    told = {"request_id": "r1", "trace_id": "t1", "owner": "alice", "key_id": "k1", "job_id": "j1", "attempt": 2}
    assert told.items() <= found.items()
    assert "scopes" not in found
    assert "job_id" not in line("x")


PROGRAM = """
import logging, sys, threading, warnings
from service import logs
logs.set_up("worker", "{form}", "warning")
logging.getLogger("a").info("not told")
logs.announce(logging.getLogger("a"), "told at every level")
warnings.warn("odd", stacklevel=1)
threading.Thread(target=lambda: 1 / 0, name="mine").start()
raise ValueError("the end: sn_secret123\\nsecond")
"""


def test_whatever_ends_a_process_is_told_in_lines() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form="auto")], capture_output=True, text=True, check=False
    )
    lines = [json.loads(found) for found in done.stderr.splitlines()]
    assert lines[0]["event"] == "told at every level"
    assert "odd" in lines[1]["event"]
    assert "ZeroDivisionError" in lines[2]["exception"]
    assert "the thread mine" in lines[2]["event"]
    assert lines[3]["level"] == "critical"
    assert "sn_***" in lines[3]["exception"]
    assert all(found["process"] == "worker" and found["pid"] for found in lines)


def test_text_is_for_people() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form="text")], capture_output=True, text=True, check=False
    )
    first = done.stderr.splitlines()[0]
    assert first.endswith("INFO a: told at every level")
    assert "secret123" not in done.stderr
