"""``selfnorm audit``, as whoever runs the service reads it."""

import json
from pathlib import Path

from service.domain.audit import Action, Actor
from service.storage import audit
from service.storage.database import Database
from tests.command_line import CommandLine


def test_operators_read_everybodys_entries_and_choose_among_them(sqlite_database: Database, tmp_path: Path) -> None:
    for owner, action in (("a", Action.JOB_SUBMITTED), ("b", Action.JOB_CANCELLED), ("a", Action.JOB_DELETED)):
        with sqlite_database.owned_by(owner, Actor("key-1", "request-1", "192.0.2.1")).write() as connection:
            audit.record(connection, action, f"\x1b]0;{owner}\x07", model="m")
    cli, url = CommandLine("", tmp_path), str(sqlite_database.engine.url)
    found = json.loads(cli.run("audit", "--json", SELFNORM_DATABASE_URL=url).stdout)
    assert [(entry["owner"], entry["action"]) for entry in found] == [
        ("a", "job.deleted"),
        ("b", "job.cancelled"),
        ("a", "job.submitted"),
    ]
    assert found[0] | {"at": "", "number": 0} == {
        "number": 0,
        "at": "",
        "owner": "a",
        "action": "job.deleted",
        "target": "\x1b]0;a\x07",
        "key_id": "key-1",
        "request_id": "request-1",
        "address": "192.0.2.1",
        "details": {"model": "m"},
    }
    words = ("--owner", "a", "--action", "job.submitted", "--since", "1h", "--data-dir", str(tmp_path))
    done = cli.run("audit", *words)
    assert done.stdout.count("\n") == 2
    assert "job.submitted" in done.stdout
    assert "\x1b" not in done.stdout


def test_lists_are_told_in_words(sqlite_database: Database, tmp_path: Path) -> None:
    with sqlite_database.write() as connection:
        audit.record(connection, Action.KEY_CREATED, "k", scopes=["read", "predict"])
    done = CommandLine("", tmp_path).run("audit", SELFNORM_DATABASE_URL=str(sqlite_database.engine.url))
    assert done.stdout.rstrip().endswith("\tscopes: read and predict")


def test_what_it_cannot_take_is_said(sqlite_database: Database, tmp_path: Path) -> None:
    cli = CommandLine("", tmp_path)
    for words, status, says in (
        (("--action", "job.done"), 2, "job.submitted"),
        (("--since", "yesterday"), 2, "2026-01-31"),
        (("--data-dir", str(tmp_path / "nowhere")), 4, "there is no database"),
    ):
        done = cli.run("audit", *words, SELFNORM_DATABASE_URL=str(sqlite_database.engine.url))
        assert (done.returncode, done.stdout) == (status, "")
        assert says in done.stderr
        assert "Traceback" not in done.stderr
