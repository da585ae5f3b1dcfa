"""What reaches a terminal: results on stdout, words on stderr, and nothing in either that a terminal would obey."""

import errno
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TextIO

import typer

OK = 0
ENDED_BADLY = 1
"""The job failed or was cancelled, or `doctor` found a problem."""
MISUSED = 2
REFUSED = 3
UNREACHABLE = 4
INTERRUPTED = 130

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says of a file that takes no more."""
NARROWEST = 20


def harmless(text: object) -> str:
    r"""Return a text in which a terminal finds nothing to obey; ``\x1b`` stands for an escape character.

    Names come from files and from other people. A control character in one could move the cursor or change the title,
    and one that turns the direction of writing could make a name look like another.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def put(*lines: object) -> None:
    """Print lines of a result."""
    write(sys.stdout, *map(harmless, lines))


def put_json(value: Any, *, as_line: bool = False) -> None:
    """Print a result as JSON on a line of its own; set out for reading where it is a document and goes to a terminal.

    It is ASCII: a reader gets every character back, and a terminal none to obey.
    """
    indent = 2 if sys.stdout.isatty() and not as_line else None
    write(sys.stdout, json.dumps(value, indent=indent, allow_nan=False))


def note(*lines: object) -> None:
    """Say something to whoever sits there, beside the result."""
    write(sys.stderr, *map(harmless, lines))


def fail(status: int, *lines: object) -> NoReturn:
    """Say what went wrong, and end with a status."""
    first, *others = lines
    note(f"selfnorm: {first}", *(f"  {line}" for line in others))
    raise typer.Exit(status)


def reason(error: Exception) -> str:
    """Say what went wrong, of a file without its number and its name, which stand beside it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def put_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print what is known of a thing, a line each; what is None is left out."""
    known = [(name, value) for name, value in facts if value is not None]
    width = max((len(harmless(name)) for name, _ in known), default=0)
    room = shutil.get_terminal_size().columns - width - 2 if can_draw() else 0
    for name, value in known:
        first, *others = _wrapped(harmless(value), room)
        put(f"{harmless(name):<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in others))


def put_table(headings: Sequence[str], rows: Iterable[Iterable[object]], *, empty: str) -> None:
    """Print a table: set out to the width of a terminal, else a line a row, cells divided by tabs, nothing cut.

    The first columns are the ones that a narrow terminal keeps; ``empty`` is said where there are no rows.
    """
    cells = [[harmless("" if cell is None else cell) for cell in row] for row in rows]
    headings = [harmless(heading) for heading in headings]
    if not cells:
        note(empty)
    elif can_draw():
        from service.cli.screen import show_table

        show_table(headings, cells)
    else:
        write(sys.stdout, *("\t".join(row) for row in [headings, *cells]))


def _wrapped(text: str, width: int) -> list[str]:
    """Cut a text into lines between its words; one of a terminal that is hardly wider than a word is left as it is."""
    if width < NARROWEST or len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def can_draw(stream: TextIO | None = None) -> bool:
    """Whether a stream, stdout where none is named, is a terminal that can be drawn on."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"


def write(stream: TextIO, *lines: str) -> None:
    """Write lines as they are, at once."""
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()
