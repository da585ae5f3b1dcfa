"""How the root of the command line shows its commands, and how it ends when what it prints goes nowhere."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from service.cli.printing import FULL, MISUSED, fail, harmless, reason

PIPE_CLOSED = 141
"""What a shell reports of a program that SIGPIPE has ended (128 + 13)."""


class CommandGroup(TyperGroup):
    """Commands under headings, whose order is the object of the context."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List every command, below the heading that it was registered with."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ctx.obj}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if not command.hidden:
                sections[command.rich_help_panel].append((name, command.help.partition("\n")[0]))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Take in the words before a command."""
        with _heard(), _harmless_faults():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names may hold what a terminal's own encoding has not
                stream.reconfigure(errors="backslashreplace")
        with _heard(), _harmless_faults():
            return super().invoke(ctx)


@contextmanager
def _heard() -> Iterator[None]:
    """End in silence where the reader has gone (``selfnorm jobs | head -1``), and in words where a disk is full."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _print_no_more()
        raise typer.Exit(PIPE_CLOSED) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        _print_no_more()
        fail(MISUSED, f"{error.filename or 'what is printed'} cannot be written: {reason(error)}")


def _print_no_more() -> None:
    """Let what is still buffered go nowhere: Python would write it when it ends, and fail again, aloud."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _harmless_faults() -> Iterator[None]:
    """Let no fault say what a terminal would obey: it repeats words of the command line and of files."""
    try:
        yield
    except typer.TyperException as fault:
        if not _is_help(fault):
            fault.message = harmless(fault.message.removeprefix("Value error, "))
        raise


def _is_help(fault: typer.TyperException) -> bool:
    """Whether it only shows help, where no command is named: a text of this program's own, on many lines."""
    context = getattr(fault, "ctx", None)
    return context is not None and fault.message == context.get_help()
