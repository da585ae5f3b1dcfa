"""Schedules are drawn from their seed, and everything that can be drawn can be done."""

from itertools import islice

from tests.chaos.faults import KINDS, PAUSE_SECONDS, draw
from tests.chaos.injector import SIGNALS, Injector
from tests.chaos.run import Plan


def test_equal_seeds_draw_equal_faults() -> None:
    one, same, other = (list(islice(draw(seed, "sqlite"), 50)) for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_everything_is_drawn_in_the_end_and_within_its_bounds() -> None:
    for database in ("sqlite", "postgresql"):
        drawn = list(islice(draw(1, database, longest=9.0), 3000))
        assert {fault.name for fault in drawn} == {kind.name for kind in KINDS if kind.only in (None, database)}
        for fault in drawn:
            assert PAUSE_SECONDS[0] <= fault.pause <= PAUSE_SECONDS[1]
            assert 0 <= fault.choice < 1
            assert 0 <= fault.seconds <= 9.0
            assert bool(fault.seconds) == bool(fault.kind.lasts)


def test_every_fault_can_be_done() -> None:
    for kind in KINDS:
        assert hasattr(Injector, f"_{kind.name}") or kind.name.partition("_")[0] in SIGNALS, kind.name


def test_schedule_ends_as_planned() -> None:
    assert sum(fault.is_kill for fault in Plan("sqlite", 3, kills=10).schedule()) == 10
    assert len(Plan("sqlite", 3, faults=10).schedule()) == 10
    assert 60 <= sum(fault.pause for fault in Plan("sqlite", 3, seconds=60).schedule()) <= 60 + PAUSE_SECONDS[1]
