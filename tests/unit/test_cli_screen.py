"""What is drawn on a terminal of some width."""

import pytest
from rich.cells import cell_len
from rich.console import ConsoleDimensions

from service.cli import curves
from service.cli.curves import drawn
from service.cli.following import Story
from service.cli.live import Picture
from service.cli.screen import Screen, show_table

HEADINGS = ("id", "name", "nothing", "figure")
ROWS = [("0123456789abcdef0123", "a name of some length [red]here[/]", "", "12"), ("00", "数据集", "", "1,000")]


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    show_table(HEADINGS, ROWS)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [22, 30, 45, 60, 200])
def test_table_is_no_wider_than_the_terminal_and_keeps_the_first_column(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(width, monkeypatch, capsys)
    assert len(lines) == 3
    assert all(cell_len(line) <= width for line in lines)
    assert lines[1].startswith(ROWS[0][0])


def test_wide_terminal_shows_everything_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(200, monkeypatch, capsys)
    assert ROWS[0][1] in lines[1]
    assert lines[2].rstrip().endswith("1,000")


def test_column_without_cells_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing" not in shown(200, monkeypatch, capsys)[0]


def test_narrow_terminal_cuts_wide_cells_before_it_leaves_columns_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(48, monkeypatch, capsys)
    assert lines[0].split() == ["id", "name", "figure"]
    assert "…" in lines[1]


EPOCHS = [
    {"epoch": epoch, "loss": 1 / epoch, "val_loss": None if epoch == 2 else 1.5 / epoch} for epoch in range(1, 31)
]


@pytest.mark.parametrize("colours", [True, False])
def test_curves_fill_their_room_and_fall(colours: bool) -> None:
    text = drawn(EPOCHS, 60, 12, colours=colours)
    assert text is not None
    lines = Screen().render_str(text).plain.splitlines() if not colours else text.splitlines()
    assert len(lines) == 12
    assert ("\x1b[38;5;6m" in text) is colours
    assert ("•" in text) is not colours


def test_curves_are_not_drawn_where_there_is_nothing_to_see_or_no_room() -> None:
    assert drawn(EPOCHS[:1], 60, 12, colours=False) is None
    assert drawn([], 60, 12, colours=False) is None
    assert drawn(EPOCHS, 30, 12, colours=False) is None
    assert drawn(EPOCHS, 60, 5, colours=False) is None
    assert drawn([{"epoch": 1, "loss": None}, {"epoch": 2, "loss": None}], 60, 12, colours=False) is None


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_picture_of_a_job_fits_its_terminal(width: int) -> None:
    story = Story("running", 50)
    story.epochs += EPOCHS
    story.remark = "\x1b[2J"
    screen = Screen()
    screen.size = ConsoleDimensions(width, 30)
    with screen.capture() as captured:
        screen.print(Picture(story, screen).now())
    lines = captured.get().splitlines()
    assert len(lines) <= 30
    assert all(cell_len(line) <= width for line in lines)
    assert "\x1b[2J" not in captured.get()
    assert "30/50" in captured.get()


def test_curves_are_drawn_anew_when_an_epoch_has_come() -> None:
    story = Story("running", 50)
    story.epochs += EPOCHS[:10]
    screen = Screen()
    screen.size = ConsoleDimensions(80, 30)
    picture = Picture(story, screen)
    picture.now()
    first = picture._curves
    picture.now()
    assert picture._curves is first
    story.epochs.append(EPOCHS[10])
    picture.now()
    assert picture._curves is not first


def test_many_epochs_are_thinned_to_the_width_and_keep_their_peaks() -> None:
    peak = (7_003.0, 9.0)
    points = [(float(epoch), peak[1] if epoch == peak[0] else 1 / epoch) for epoch in range(1, 10_001)]
    thinned = curves._thinned(points, 60)
    assert len(thinned) <= 2 * 60 + 1
    assert thinned == sorted(set(thinned))
    assert peak in thinned
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    assert curves._thinned(points[:120], 60) == points[:120]
