"""The result of a comparison as tables of texts, which the page shows, and its script as soon as they change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.api.dashboard.pages import number
from service.domain.comparison_arms import ArmResult, Measured
from service.domain.comparison_levels import LevelReached
from service.domain.comparison_results import ComparisonResult
from service.domain.comparison_verdicts import ArmTest, sentence

DIGITS = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table."""

    text: str
    more: str | None = None
    """Below it, smaller."""
    badge: str | None = None
    """The kind of badge that it is shown as."""


NOTHING = Cell(number(None))


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; the first column names the rows, and all but the last ``words`` of the others are numbers."""

    id: str
    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 0
    is_wide: bool = False
    """Whether it needs all the room that there is."""
    is_folded: bool = False
    """Whether it is less important, and opened only by who wants it."""


def tables_of(result: ComparisonResult) -> list[Table]:
    """Return everything that a result tells in numbers."""
    names = list(dict.fromkeys(name for arm in result.arms for name in arm.metrics))
    test, validation = ([name for name in names if name.startswith("val_") is of_part] for of_part in (False, True))
    found = [
        _tests("tests", "Who is better", [test for test in result.tests if test.metric == result.metric]),
        _metrics("test", "On the test part", result.arms, test),
        _metrics("validation", "On the validation part, in the best epoch", result.arms, validation),
        _speed(result) if any(arm.succeeded for arm in result.arms) else None,
        _claims(result),
        _ranks(result),
        _tests("others", "On the other metrics", [test for test in result.tests if test.metric != result.metric]),
    ]
    return [table for table in found if table is not None and table.rows]


def measured(value: Measured, unit: float = 1.0, ending: str = "") -> Cell:
    """Write a mean with its deviation, and where it lies for certain below it."""
    if value.mean is None:
        return NOTHING
    text = _number(value.mean * unit)
    if value.standard_deviation is not None:
        text += f" ± {_number(value.standard_deviation * unit, 2)}"
    if value.confidence_interval is None:
        return Cell(text + ending)
    low, high = (_number(end * unit) for end in value.confidence_interval)
    return Cell(text + ending, f"{low} to {high}")


def _metrics(table_id: str, title: str, arms: Iterable[ArmResult], names: Sequence[str]) -> Table | None:
    if not names:
        return None
    rows = [
        [_arm(arm), *(measured(arm.metrics[name]) if name in arm.metrics else NOTHING for name in names)]
        for arm in arms
    ]
    note = "Mean ± deviation over the seeds, and below it where the mean lies with 95 % confidence."
    return Table(table_id, title, note, ["Arm", *(name.removeprefix("val_") for name in names)], rows)


def _arm(arm: ArmResult) -> Cell:
    failed = f", {arm.failed} failed or cancelled" if arm.failed else ""
    return Cell(arm.arm, f"{arm.succeeded} of {_seeds(arm.succeeded + arm.failed)}{failed}" if failed else None)


def _speed(result: ComparisonResult) -> Table:
    levels = [f"epochs to {_number(level, 4)}" for level in result.levels]
    rows = [
        [
            _arm(arm),
            measured(arm.best_epoch),
            NOTHING if arm.epochs_saved is None else measured(arm.epochs_saved, 100, " %"),
            *map(_level, arm.epochs_to_level),
            measured(arm.seconds),
            Cell(_verdicts(arm)),
        ]
        for arm in result.arms
    ]
    note = (
        f"Levels are of {result.level_metric}; epochs saved are those until the best one, against the reference. "
        "An arm that has learned nothing is at its best in its first epoch, and saves none."
    )
    head = ["Arm", "best epoch", "epochs saved", *levels, "seconds", "self-normalization"]
    return Table("speed", "How fast, and how it kept its signal", note, head, rows, words=1, is_wide=True)


def _level(level: LevelReached) -> Cell:
    seeds = len(level.by_seed)
    if level.mean is not None:
        return Cell(_number(level.mean))
    return Cell(NOTHING.text, f"{level.reached} of {seeds} seeds reached it") if seeds else NOTHING


def _verdicts(arm: ArmResult) -> str:
    said = [verdict["status"] for verdict in arm.verdicts.values() if verdict]
    return ", ".join(f"{status} {said.count(status)} of {len(said)}" for status in dict.fromkeys(said)) or NOTHING.text


def _tests(table_id: str, title: str, tests: Sequence[ArmTest]) -> Table:
    rows = [
        [
            Cell(f"{test.arm} against {test.reference}", test.metric),
            Cell(
                _number(test.difference),
                None if test.confidence_interval is None else " to ".join(map(_number, test.confidence_interval)),
            ),
            Cell(_number(test.p, 2)),
            Cell(_number(test.corrected_p, 2)),
            Cell(str(test.seeds)),
            Cell(*_finding(test)),
        ]
        for test in tests
    ]
    note = (
        "A paired test over the seeds, corrected for rows that seeds share (Nadeau and Bengio) and, by Holm's method, "
        "for the number of arms. Below the difference its 95 % interval, of that arm alone."
    )
    head = ["Arms and metric", "difference", "p", "corrected p", "seeds", "what it says"]
    return Table(table_id, title, note, head, rows, words=1, is_wide=True, is_folded=table_id == "others")


def _finding(test: ArmTest) -> tuple[str, str, str]:
    """Say what a test shows: in few words, in a sentence, and as which kind of badge."""
    if test.better is not None:
        return f"{test.better} is better", sentence(test), "pass" if test.better == test.arm else "warn"
    if test.waiting:
        return "not decided yet", sentence(test), ""
    if test.p is None:
        return "nothing can be said", sentence(test), ""
    return "no significant difference", sentence(test), ""


def _ranks(result: ComparisonResult) -> Table | None:
    ranks = result.ranks
    if ranks is None:
        return None
    apart = (
        "With one seed no ranks are told apart."
        if ranks.critical_difference is None
        else f"Ranks that differ by less than {_number(ranks.critical_difference)} are not told apart (Nemenyi, 5 %)."
    )
    note = f"On {result.metric}, over {_seeds(ranks.seeds)}; 1 is the best. {apart} For orientation: the tests decide."
    rows = [[Cell(arm), Cell(_number(rank))] for arm, rank in sorted(ranks.average.items(), key=lambda item: item[1])]
    return Table("ranks", "Mean ranks", note, ["Arm", "mean rank"], rows)


def _claims(result: ComparisonResult) -> Table | None:
    if result.claims is None:
        return None
    rows = [
        [
            Cell(claim.claim, claim.detail),
            Cell(_number(claim.claimed)),
            Cell(_number(claim.measured)),
            Cell(*_held(claim.holds)),
        ]
        for claim in result.claims
    ]
    note = "It holds where what was measured is at least as much as the article claims."
    head = ["Claim", "claimed", "measured", "here"]
    return Table("claims", "What the article claims", note, head, rows, words=1, is_wide=True)


def _held(holds: bool | None) -> tuple[str, None, str]:
    if holds is None:
        return "nothing measured yet", None, ""
    return ("holds", None, "pass") if holds else ("does not hold", None, "warn")


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _number(value: float | None, digits: int = DIGITS) -> str:
    """Write a number with few digits that count, or whole where it has more before the point."""
    return number(round(value)) if value is not None and 999.5 <= abs(value) < 1e6 else number(value, digits)
