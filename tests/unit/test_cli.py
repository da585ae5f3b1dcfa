"""The root of the command line: what it loads, what it lists, and what its reference says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from service.cli.main import app

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


def test_help_ends_in_silence_where_nobody_reads_it() -> None:
    line = f"{sys.executable} -m service.cli --help | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


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


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
    )
