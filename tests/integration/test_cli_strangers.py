"""The command line against what is no service, or one that it should not trust."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.answers import EMPTY_DATASET
from tests.command_line import CONTROL, HOSTILE, CommandLine

ODD = {**EMPTY_DATASET, "id": "odd", "name": HOSTILE}


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine("http://127.0.0.1:9", tmp_path)


def test_service_that_is_not_there_is_said_with_what_to_do(cli: CommandLine) -> None:
    done = cli.run("jobs", "--json")
    assert (done.returncode, done.stdout) == (4, "")
    assert "no service answers at http://127.0.0.1:9" in done.stderr
    assert "selfnorm up" in done.stderr
    version = cli.run("version", "--json")
    assert version.returncode == 0
    assert json.loads(version.stdout)["service"] is None


class Stranger(BaseHTTPRequestHandler):
    """A service that lets in whoever knows the word, and has one data set with odd names."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == "Bearer s3cret"
        body = json.dumps(
            {"items": [ODD], "next_page_token": None} if is_known else {"detail": HOSTILE, "code": "no_key"}
        )
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Type", "application/json" if is_known else "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def strangers_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_key_is_asked_for_and_shown(cli: CommandLine, strangers_url: str) -> None:
    refused = cli.run("datasets", SELFNORM_URL=strangers_url)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "show a key: SELFNORM_API_KEY" in refused.stderr
    assert refused.stderr.replace("\n", "").isprintable()
    taken = cli.run("datasets", "--json", SELFNORM_URL=strangers_url, SELFNORM_API_KEY="s3cret")
    assert json.loads(taken.stdout) == [ODD]
    assert taken.stdout.isascii()


def test_names_that_a_service_gives_reach_no_terminal_as_they_are(cli: CommandLine, strangers_url: str) -> None:
    known = {"SELFNORM_URL": strangers_url, "SELFNORM_API_KEY": "s3cret"}
    lines = cli.run("datasets", **known).stdout.replace("\t", "").splitlines()
    drawn = CONTROL.sub("", cli.on_terminal("datasets", width=200, known=known)).splitlines()
    for line in lines[1], drawn[1]:
        assert line.isprintable()
        assert "\\x1b]0;taken\\x07\\u202e[red]\\r:skull:" in line
