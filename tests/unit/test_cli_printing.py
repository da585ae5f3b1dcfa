"""What a command prints, and what no terminal gets to see."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from service.cli.printing import fail, harmless, note, put, put_facts, put_json, put_table
from service.cli.wording import age, count, duration, measures, names, size

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "over\rwritten",
    "two\nlines",
    "a\ttab",
    "\u202egnp.exe",
    "\u2066isolated",
    "zero\u200bwidth",
    "\u2028separator",
    "bell\x07",
    "\x9b31m",
    "nul\0",
    "lone \ud800 surrogate",
    "\U000e0041tag",
    "[bold red]markup[/]",
    ":smile:",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(text)
    put_facts([(text, text)])
    put_table([text, text], [[text, text]], empty="")
    note(text)
    printed = capsys.readouterr()
    for line in (printed.out + printed.err).splitlines():
        assert line.replace("\t", "").isprintable(), repr(line)
    assert printed.out.count(harmless(text)) == 7


@given(st.text())
def test_harmless_text_is_printable_and_keeps_what_was(text: str) -> None:
    shown = harmless(text)
    assert shown.isprintable()
    assert shown == text or "\\" in shown


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_printable_text_is_shown_as_it_is(text: str) -> None:
    if text.isprintable():
        assert harmless(text) == text


def test_json_is_one_line_of_ascii_that_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"name": HOSTILE})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert re.fullmatch(r"[ -~]+\n", printed)
    assert json.loads(printed) == {"name": HOSTILE}


def test_table_off_a_terminal_is_lines_with_tabs_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    put_table(("id", "name"), [("1", long), ("2", None)], empty="nothing")
    assert capsys.readouterr().out == f"id\tname\n1\t{long}\n2\t\n"


def test_empty_table_prints_nothing_and_says_so_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    put_table(("id",), [], empty="there are none")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "there are none\n")


def test_facts_stand_below_each_other_and_unknown_ones_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    put_facts([("state", "running"), ("best epoch", None), ("id", 7)])
    assert capsys.readouterr().out == "state  running\nid     7\n"


def test_failure_is_one_block_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail(3, "no", "because")
    assert ended.value.exit_code == 3
    assert capsys.readouterr().err == "selfnorm: no\n  because\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0.2, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86_400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_duration_is_said_in_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_age_counts_from_now() -> None:
    assert age(None) == ""
    assert age(datetime.now(UTC) - timedelta(hours=5)) == "5 h ago"


def test_measures_are_said_with_the_figures_that_tell() -> None:
    values = {"epoch": 3, "loss": 0.123456, "r2": None, "r2_not_finite": "nan", "learning_rate": 0.1, "seconds": 2.0}
    assert measures(values) == "loss 0.1235  r2 nan"
    assert measures(None) == ""


def test_sizes_counts_and_names_are_said_as_people_say_them() -> None:
    assert [size(number) for number in (0, 1023, 1536, 3 * 2**20, 5 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3.0 MiB",
        "5120.0 GiB",
    ]
    assert [count(1, "row"), count(2000, "row")] == ["1 row", "2,000 rows"]
    assert names(["a", "b"]) == "a, b"
    assert names(tuple(map(str, range(2000)))) == "0, 1, 2, 3, 4, 5, 6, 7 and 1,992 more"
