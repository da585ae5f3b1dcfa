"""The root of the command line: what it loads, what it lists, and what its reference says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from service.cli.main import app
from service.cli.reports import headers_for
from service.client import Client

ROOT = Path(__file__).parents[2]
SLOW = {"pydantic", "numpy", "httpx2", "sqlalchemy", "rich", "plotext", "pyarrow", "service.client", "service.settings"}
LOADED = f"import sys; import service.cli.main; print(sorted({SLOW} & sys.modules.keys()))"


def test_importing_the_command_line_loads_nothing_slow() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command_under_a_heading() -> None:
    done = run("--help")
    headings = re.findall(r"^(\w.*):$", done.stdout, re.MULTILINE)
    assert headings == ["Options", "Train", "Jobs", "Models", "Data", "The service"]
    for name in commands():
        assert re.search(rf"^  {name.split()[0]} ", done.stdout, re.MULTILINE), name


def test_unknown_command_is_a_usage_error_that_names_the_near_one() -> None:
    done = run("trian")
    assert done.returncode == 2
    assert "Did you mean 'train'?" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("words", [(), ("keys",), ("webhooks",), ("blobs",)])
def test_command_that_is_left_out_is_answered_with_the_help_as_it_is(words: tuple[str, ...]) -> None:
    assert run(*words).stderr.splitlines() == run(*words, "--help").stdout.splitlines()


def test_word_that_is_none_of_a_few_is_answered_with_these() -> None:
    done = run("keys", "create", "x", "--scope", "foo")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "Error: Invalid value for '--scope': 'foo' is not one of 'read', 'submit', 'predict', 'admin'.\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("\x1b[2J\u202e",),
        ("--\x1b[2J\u202e",),
        ("predict", "flats", "rows.csv", "--format", "\x1b[2J\u202e"),
        ("train", "iris", "--set", "\x1b[2J\u202e"),
        ("train", "--spec", "\x1b[2J\u202e.json"),
    ],
)
def test_usage_errors_reach_no_terminal_as_they_are(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.replace("\n", "").isprintable()
    assert "\\x1b[2J\\u202e" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--url", "http://127.0.0.1:9", "rm", "iris2"),
        ("--api-key", "k", "show", "iris"),
        ("--json", "show", "iris"),
        ("--limit", "50", "add", "pyproject.toml"),
    ],
)
def test_options_before_a_subcommand_are_refused(words: tuple[str, ...]) -> None:
    done = run("datasets", *words, SELFNORM_URL="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{words[0]} stands before" in done.stderr


@pytest.mark.parametrize(
    ("command", "package", "extras"),
    [
        ("api", "fastapi", "api"),
        ("api", "uvicorn", "api"),
        ("worker", "keras", "worker"),
        ("up", "fastapi", "api,worker"),
        ("demo", "tensorflow", "api,worker"),
    ],
)
def test_missing_extra_is_said_with_what_to_install(command: str, package: str, extras: str, tmp_path: Path) -> None:
    # Of a module that is None here, Python says that there is none.
    line = f"import sys; sys.modules[{package!r}] = None; from service.cli.main import app; app([{command!r}])"
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, cwd=tmp_path, env=known)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"not installed: {package}" in done.stderr
    assert f"pip install '.[{extras}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_ends_in_silence_where_nobody_reads_it() -> None:
    line = f"{sys.executable} -m service.cli --help | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


@pytest.mark.parametrize("words", ["--help", "jobs --help", "version"])
def test_full_disk_is_said(words: str) -> None:
    line = f"{sys.executable} -m service.cli {words} > /dev/full"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "selfnorm: what is printed cannot be written: No space left on device\n"


def test_reference_names_every_command_and_every_option() -> None:
    reference = (ROOT / "docs/cli.md").read_text().replace("\\|", "|")
    for name, command in commands().items():
        assert f"`selfnorm {name}" in reference, name
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                if option.startswith("--") and option not in ("--help", "--show-completion"):
                    assert option in reference, (name, option)


def test_reference_names_nothing_that_there_is_not() -> None:
    reference = (ROOT / "docs/cli.md").read_text()
    known = {
        option
        for command in commands().values()
        for each in command.params
        for option in [*each.opts, *each.secondary_opts]
    }
    named = set(re.findall(r"`(--[a-z-]+)", reference))
    assert named <= known | {"--install-completion"}
    first_words = {name.split()[0] for name in commands()}
    assert set(re.findall(r"`selfnorm ([a-z]+)", reference)) <= first_words


def commands() -> dict[str, Any]:
    """Return every command by its name, those of a group with the name of the group before."""
    return dict(_below(typer.main.get_command(app), ""))


def _below(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{before}{name}", command
        if hasattr(command, "commands"):
            yield from _below(command, f"{before}{name} ")


def run(*words: str, **known: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", **known},
    )


def test_what_to_type_next_shows_no_key_but_where_it_is() -> None:
    json_only = "-H 'Content-Type: application/json'"
    with Client("http://localhost:1") as stranger, Client("http://localhost:1", "sn_123456789abc_secret") as known:
        assert headers_for(stranger) == json_only
        assert headers_for(known) == f'-H "Authorization: Bearer $SELFNORM_API_KEY" {json_only}'
