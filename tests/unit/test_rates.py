"""Requests are counted in periods, by name, and by several processes together."""

import asyncio
from collections.abc import Mapping

import pytest

from service.api.gate.credentials import address_of
from service.api.gate.rates import MOST_NAMES, OTHERS, Rates
from service.domain.quotas import Rate


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 600.0

    def __call__(self) -> float:
        return self.now


class Shared:
    """What processes share, without a Redis."""

    def __init__(self) -> None:
        self.counts: dict[tuple[int, str], int] = {}

    def add(self, period: int, _seconds: int, new: Mapping[str, int]) -> Mapping[str, int]:
        for name, count in new.items():
            self.counts[period, name] = self.counts.get((period, name), 0) + count
        return {name: self.counts[period, name] for name in new}


def rates(clock: Clock, amount: int = 3) -> Rates:
    return Rates(Rate(amount, 60), clock)


def test_as_many_are_let_in_as_may_be_until_the_next_period() -> None:
    clock = Clock()
    counted = rates(clock)
    clock.now = 619.5
    assert [counted.take("a") for _ in range(5)] == [0, 0, 0, 41, 41]
    assert counted.take("b") == 0
    assert (counted.left("a"), counted.left("b"), counted.left("c")) == (0, 2, 3)
    clock.now = 659.99
    assert counted.take("a") == 1
    clock.now = 660
    assert counted.left("a") == 3
    assert [counted.take("a") for _ in range(4)] == [0, 0, 0, 60]


def test_more_names_than_can_be_told_apart_are_counted_together() -> None:
    counted = rates(Clock(), 2)
    for name in range(MOST_NAMES):
        counted.take(str(name))
    assert [counted.take(f"new {name}") for name in range(3)] == [0, 0, 60]
    assert counted.take("0") == 0, "who was told apart still is"
    assert counted.left(OTHERS) == 0


def test_processes_let_in_as_many_together_as_one() -> None:
    async def ask() -> None:
        clock, shared = Clock(), Shared()
        first, second = rates(clock, 10), rates(clock, 10)
        for _ in range(4):
            assert first.take("a") == 0
        await first.share(shared.add)
        assert second.take("a") == 0
        await second.share(shared.add)
        assert second.left("a") == 5
        assert first.left("a") == 6, "it has heard nothing since"
        first.take("a")
        await first.share(shared.add)
        assert first.left("a") == second.left("a") - 1 == 4
        await second.share(shared.add)
        assert shared.counts == {(10, "a"): 6}, "nothing is told twice"

    asyncio.run(ask())


def test_what_comes_while_counts_are_shared_is_not_lost() -> None:
    async def ask() -> None:
        clock, shared = Clock(), Shared()
        counted = rates(clock, 10)
        counted.take("a")

        def add(period: int, seconds: int, new: Mapping[str, int]) -> Mapping[str, int]:
            counted.take("a")
            return shared.add(period, seconds, new)

        await counted.share(add)
        assert counted.left("a") == 8
        await counted.share(shared.add)
        assert shared.counts == {(10, "a"): 2}

    asyncio.run(ask())


def test_answer_that_comes_in_the_next_period_changes_nothing() -> None:
    async def ask() -> None:
        clock = Clock()
        counted = rates(clock)
        counted.take("a")

        def add(_period: int, _seconds: int, _new: Mapping[str, int]) -> Mapping[str, int]:
            clock.now = 660
            counted.take("a")
            return {"a": 100}

        await counted.share(add)
        assert counted.left("a") == 2

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("", 5), "unknown"),
        (None, "unknown"),
    ],
)
def test_address_of_a_stranger_is_what_it_cannot_change_at_will(client: object, expected: str) -> None:
    assert address_of({"client": client}) == expected


@pytest.mark.parametrize(
    "text", ["", "60", "60/fortnight", "0/minute", "-1/minute", "1.5/minute", "60 / minute", "6e1/hour"]
)
def test_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 600/minute"):
        Rate.of(text)


def test_rate_is_read_as_it_is_written() -> None:
    assert Rate.of("1200/hour") == Rate(1200, 3600)
    assert str(Rate(1200, 3600)) == "1,200 a hour"
