"""Requests of one turn of the event loop share a call of the network, and each gets its own answer."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.api.gathering import LOOP_WORK, Gathering
from service.domain.models import NewVersion
from service.inference.sessions import CHUNK_ROWS, ServedNetwork
from service.use_cases.serving import Served
from tests.served import LARGE_PARAMETERS, classifier, inverse, mixed, numbers, served

Values = NDArray[np.floating] | None


class Watched(ServedNetwork):
    """A network that notes how many rows each call had, and which thread called."""

    def __init__(self, graph: bytes) -> None:
        super().__init__(graph)
        self.calls: list[int] = []
        self.threads: set[str] = set()

    def run(self, rows: NDArray[np.float64]) -> NDArray[np.floating]:
        self.calls.append(len(rows))
        self.threads.add(threading.current_thread().name)
        return super().run(rows)


class Broken(ServedNetwork):
    """A network that fails."""

    def run(self, rows: NDArray[np.float64]) -> NDArray[np.floating]:
        raise RuntimeError(f"out of order; got {len(rows)} rows")


def watched(new: NewVersion) -> tuple[Served, Watched]:
    found = served(new)
    network = Watched(new.onnx)
    found.network = network
    return found, network


@pytest.fixture
def gathering() -> Iterator[Gathering]:
    made = Gathering()
    yield made
    made.close()


def answers(gathering: Gathering, *asked: tuple[Served, list[list[float]]]) -> list[Any]:
    """Ask everything in one turn; return the answers as lists, None where there is none."""

    async def ask() -> list[Any]:
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[Values]] = [loop.create_future() for _ in asked]
        for (found, rows), future in zip(asked, waiting, strict=True):
            gathering.add(found, np.array(rows, np.float64), future.set_result)
        return [None if values is None else values.tolist() for values in await asyncio.gather(*waiting)]

    return asyncio.run(ask())


def test_requests_of_one_turn_share_a_call_and_each_gets_its_own_rows(gathering: Gathering) -> None:
    found, network = watched(numbers("m"))
    other, others_network = watched(numbers("other", weight=10.0))
    given = answers(
        gathering, (found, [[1, 2]]), (other, [[1, 1]]), (found, [[3, 4], [5, 6]]), (found, [[7, 8]]), (other, [[2, 2]])
    )
    assert given == [[[3.0]], [[20.0]], [[7.0], [11.0]], [[15.0]], [[40.0]]]
    assert (network.calls, others_network.calls) == ([4], [2])
    assert found.guard.rows == 4
    assert answers(gathering, (found, [[1, 1]])) == [[[2.0]]]
    assert network.calls == [4, 1]


def test_next_turn_has_a_call_of_its_own(gathering: Gathering) -> None:
    found, network = watched(numbers("m"))

    async def ask() -> list[float]:
        loop = asyncio.get_running_loop()
        given: list[float] = []
        last = loop.create_future()

        def go_on(values: Values) -> None:
            assert values is not None
            given.append(float(values[0, 0]))
            if len(given) == 3:
                last.set_result(None)
            else:
                gathering.add(found, np.array([[len(given), 0.0]]), go_on)

        gathering.add(found, np.array([[0.0, 0.0]]), go_on)
        await last
        return given

    assert asyncio.run(ask()) == [0.0, 1.0, 2.0]
    assert network.calls == [1, 1, 1]


def test_what_a_row_is_answered_depends_on_no_other_row(gathering: Gathering) -> None:
    found = served(classifier("m", width=13, classes=10))
    rows = np.random.default_rng(3).normal(size=(CHUNK_ROWS + 100, 13))
    alone = [found.network.run(rows[place : place + 1]).tobytes() for place in range(len(rows))]
    for size in (2, 3, 5, 16, 31, 64, 257, CHUNK_ROWS, len(rows)):
        for start in range(0, len(rows), size):
            values = found.network.run(rows[start : start + size])
            assert [value.tobytes() for value in values] == alone[start : start + size]
    given = answers(gathering, *((found, [row]) for row in rows[:50].tolist()))
    assert [np.array(values, np.float32).tobytes() for values in given] == alone[:50]


def test_rows_without_an_answer_do_not_spoil_those_of_others(gathering: Gathering) -> None:
    found, network = watched(inverse("m"))
    given = answers(gathering, (found, [[2]]), (found, [[1], [0]]), (found, [[4], [8]]), (found, [[0]]))
    assert given == [[[0.5]], None, [[0.25], [0.125]], None]
    assert network.calls == [6, 1, 2, 2, 1]
    assert found.guard.rows == 3  # what has no answer is not taken for a row that was answered


def test_network_that_fails_is_told_to_everybody_who_asked_it(gathering: Gathering) -> None:
    broken, found = served(numbers("broken")), served(numbers("m"))
    broken.network = Broken(numbers("broken").onnx)
    assert answers(gathering, (broken, [[1, 1]]), (found, [[1, 1]]), (broken, [[2, 2]])) == [None, [[2.0]], None]


@pytest.mark.parametrize("parameters", [10, LARGE_PARAMETERS])
def test_answer_that_cannot_be_given_keeps_nobody_else_from_theirs(gathering: Gathering, parameters: int) -> None:
    found = served(numbers("m", parameters=parameters))

    async def ask() -> Any:
        waiting: asyncio.Future[Values] = asyncio.get_running_loop().create_future()

        def fail(_: Values) -> None:
            raise ValueError("the connection has gone")

        on_answer: list[Callable[[Values], None]] = [fail, waiting.set_result]
        for told in on_answer:
            gathering.add(found, np.array([[1.0, 1.0]]), told)
        return await waiting

    assert asyncio.run(ask()).tolist() == [[2.0]]


def test_what_takes_long_is_done_in_threads_and_told_on_the_loop(gathering: Gathering) -> None:
    found, network = watched(numbers("m", parameters=LOOP_WORK // 10))
    here = threading.current_thread().name

    async def ask(rows: int) -> str:
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def tell(values: Values) -> None:
            assert values is not None
            assert len(values) == rows
            waiting.set_result(threading.current_thread().name)

        gathering.add(found, np.zeros((rows, 2)), tell)
        return await waiting

    assert asyncio.run(ask(10)) == here
    assert network.threads == {here}
    assert asyncio.run(ask(11)) == here
    assert len(network.threads) == 2
    checked = found.reader.check([[0, 0]] * 11)
    network.threads.clear()
    assert len(asyncio.run(gathering.answer(found, checked)).values) == 11
    assert here not in network.threads


def test_rows_with_categories_count_for_the_share_of_unseen_ones(gathering: Gathering) -> None:
    found = served(mixed("m"))
    encoded = found.reader.check([["Paris", 1, True]]).encoded().tolist()
    answers(gathering, *[(found, encoded)] * 30)
    found.guard.take(np.array(encoded))
    found.guard.take_unseen(10, {"city": 10})
    found.guard.digest()
    assert found.guard.recent.unseen_share == {"city": 0.25}


def test_large_bodies_are_let_in_few_at_a_time_and_small_ones_always(gathering: Gathering) -> None:
    inside: list[str] = []

    async def stay(length: str | None, over: asyncio.Event) -> None:
        async with gathering.room_for(length):
            inside.append(str(length))
            await over.wait()

    async def ask() -> None:
        over = asyncio.Event()
        lengths = ["5000000", None, "6000000", "x", "10", "20", "30"]
        staying = [asyncio.create_task(stay(length, over)) for length in lengths]
        for _ in range(10):
            await asyncio.sleep(0)
        assert sorted(inside) == ["10", "20", "30", "5000000", "None"]
        over.set()
        await asyncio.gather(*staying)
        assert sorted(inside) == sorted(map(str, lengths))

    asyncio.run(ask())
