"""The short way within one turn of the event loop: what several connections bring is answered together."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from uvicorn.server import ServerState

from service.api.gathering import Gathering
from service.api.hot_path import HotPath, HotProtocol, Ready, Route
from service.inference.sessions import ServedNetwork
from service.use_cases.serving import Served
from tests.raw_http import prediction
from tests.served import inverse, served

BY_THE_APPLICATION = b"by the application"


class Counting(ServedNetwork):
    """A network that notes how many rows each call had."""

    def __init__(self, graph: bytes) -> None:
        super().__init__(graph)
        self.calls: list[int] = []

    def run(self, rows: NDArray[np.float64]) -> NDArray[np.floating]:
        self.calls.append(len(rows))
        return super().run(rows)


class Wire(asyncio.Transport):
    """What a client would see of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_open = True

    def write(self, data: Any) -> None:
        assert self.is_open, "nothing is written to what is closed"
        self.written += data

    def is_closing(self) -> bool:
        return not self.is_open

    def close(self) -> None:
        self.is_open = False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def bodies(self) -> list[bytes]:
        """The bodies of all answers; each ends where the next head begins."""
        return [part.partition(b"\r\n\r\n")[2] for part in self.written.split(b"HTTP/1.1 200 OK")[1:]]


class Service:
    """A protocol for one network on one event loop, whose application answers everything alike."""

    def __init__(self, write: Callable[[NDArray[np.floating]], bytes] = lambda values: b"%r" % values.tolist()) -> None:
        new = inverse("m")
        self.network = Counting(new.onnx)
        self.served: Served = served(new)
        self.served.network = self.network
        self.write = write
        self.state = ServerState()
        self.gathering = Gathering()
        self.config = uvicorn.Config(self._application, log_config=None, interface="asgi3")
        self.ending = threading.Event()
        hot = HotPath(self.gathering, self._find, lambda _: "/predict")
        self.kind = type("Protocol", (HotProtocol,), {"hot": hot, "ending": self.ending})
        self.wires: list[Wire] = []

    def connect(self) -> HotProtocol:
        protocol: HotProtocol = self.kind(self.config, self.state, {}, asyncio.get_running_loop())
        self.wires.append(Wire())
        protocol.connection_made(self.wires[-1])
        return protocol

    async def settle(self) -> list[list[bytes]]:
        """Let everything end; return what each connection was answered."""
        for _ in range(20):
            await asyncio.sleep(0)
        self.gathering.close()
        for wire in self.wires:
            wire.close()
        return [wire.bodies() for wire in self.wires]

    def _find(self, url: bytes) -> Route | None:
        return self._read if url == b"/predict" else None

    def _read(self, _owner: str, _path: bytes, body: bytes) -> Ready | None:
        return Ready(self.served, np.array([[float(body)]]), self.write) if body != b"odd" else None

    async def _application(self, _scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        message = {"body": b"", "more_body": True}
        body = b""
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        content = BY_THE_APPLICATION + b" " + body
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def request(body: bytes) -> bytes:
    return prediction(body)


def test_connections_of_one_turn_share_a_call_and_each_gets_its_own_answer() -> None:
    async def ask() -> None:
        service = Service()
        connections = [service.connect() for _ in range(4)]
        for value, connection in zip((b"1", b"2", b"4", b"8"), connections, strict=True):
            connection.data_received(request(value))
        assert await service.settle() == [[b"[[1.0]]"], [b"[[0.5]]"], [b"[[0.25]]"], [b"[[0.125]]"]]
        assert service.network.calls == [4]
        assert service.state.total_requests == 4

    asyncio.run(ask())


def test_row_without_an_answer_goes_to_the_application_and_spoils_no_other() -> None:
    async def ask() -> None:
        service = Service()
        connections = [service.connect() for _ in range(3)]
        for value, connection in zip((b"1", b"0", b"4"), connections, strict=True):
            connection.data_received(request(value))
        assert await service.settle() == [[b"[[1.0]]"], [BY_THE_APPLICATION + b" 0"], [b"[[0.25]]"]]

    asyncio.run(ask())


@pytest.mark.parametrize("together", [True, False])
def test_answers_come_in_the_order_of_their_requests_whichever_way_each_takes(together: bool) -> None:
    values = [b"1", b"0", b"2", b"odd", b"0", b"4"]

    async def ask() -> None:
        service = Service()
        connection = service.connect()
        for piece in [b"".join(map(request, values))] if together else map(request, values):
            connection.data_received(piece)
        [given] = await service.settle()
        assert given[0] == b"[[1.0]]"
        # Those that have to wait for their turn do so in the application.
        assert given[1:] == [BY_THE_APPLICATION + b" " + value for value in values[1:]]
        assert service.state.tasks == set()

    asyncio.run(ask())


def test_client_that_has_gone_is_written_nothing() -> None:
    async def ask() -> None:
        service = Service()
        for piece in (request(b"1"), request(b"0"), request(b"1") + request(b"2"), request(b"1")[:-1]):
            connection = service.connect()
            connection.data_received(piece)
            service.wires[-1].close()
            connection.connection_lost(None)
        staying = service.connect()
        staying.data_received(request(b"2"))
        assert await service.settle() == [[], [], [], [], [b"[[0.5]]"]]
        assert service.state.connections == {staying}

    asyncio.run(ask())


def test_answer_that_cannot_be_written_is_the_applications() -> None:
    def fail(_: NDArray[np.floating]) -> bytes:
        raise ValueError("out of order")

    async def ask() -> None:
        service = Service(fail)
        service.connect().data_received(request(b"1"))
        service.connect().data_received(request(b"2"))
        assert await service.settle() == [[BY_THE_APPLICATION + b" 1"], [BY_THE_APPLICATION + b" 2"]]

    asyncio.run(ask())


def test_connection_that_waits_for_its_next_request_keeps_nothing_of_the_last() -> None:
    async def ask() -> None:
        service = Service()
        connection = service.connect()
        connection.data_received(request(b"1"))
        waiting = weakref.ref(connection.cycle)
        for _ in range(5):
            await asyncio.sleep(0)
        assert service.wires[0].bodies() == [b"[[1.0]]"]
        assert waiting() is None  # at once: nothing refers to itself that only a collection would find
        await service.settle()

    gc.disable()
    try:
        asyncio.run(ask())
    finally:
        gc.enable()


def test_connection_that_is_to_end_says_so_with_its_last_answer() -> None:
    async def ask() -> None:
        service = Service()
        connection = service.connect()
        connection.data_received(request(b"1"))
        connection.shutdown()
        half = service.connect()
        half.data_received(request(b"2")[:-1])
        half.shutdown()
        half.data_received(b"2")
        assert await service.settle() == [[b"[[1.0]]"], [BY_THE_APPLICATION + b" 2"]]
        assert all(b"connection: close\r\n" in wire.written for wire in service.wires)

    asyncio.run(ask())


def test_connection_that_rests_when_it_is_to_end_is_told_so_by_its_next_answer() -> None:
    async def ask() -> None:
        service = Service()
        asked = [request(b"2"), request(b"2").replace(b"\r\n", b"\r\nX-Other: 1\r\n", 1)]
        connections = [service.connect() for _ in asked]
        for connection in connections:
            connection.data_received(request(b"1"))
        for _ in range(5):
            await asyncio.sleep(0)
        for connection in connections:
            connection.shutdown()
        assert [wire.is_open for wire in service.wires] == [True, True]
        assert all(b"connection: close" not in wire.written for wire in service.wires)
        for connection, again in zip(connections, asked, strict=True):
            connection.data_received(again)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [wire.is_open for wire in service.wires] == [False, False]
        assert await service.settle() == [[b"[[1.0]]", b"[[0.5]]"], [b"[[1.0]]", BY_THE_APPLICATION + b" 2"]]
        assert all(wire.written.count(b"connection: close\r\n") == 1 for wire in service.wires)

    asyncio.run(ask())


def test_connection_that_comes_while_the_process_ends_is_answered_once() -> None:
    async def ask() -> None:
        service = Service()
        service.ending.set()
        service.connect().data_received(request(b"1"))
        assert await service.settle() == [[b"[[1.0]]"]]
        assert b"connection: close\r\n" in service.wires[0].written

    asyncio.run(ask())


def test_answer_that_has_begun_when_the_connection_is_to_end_is_not_the_last() -> None:
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def stream(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        begun.set()
        await may_go_on.wait()
        await send({"type": "http.response.body", "body": b"told"})

    async def ask() -> None:
        service = Service()
        connection = service.connect()
        connection.app = stream
        connection.data_received(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await begun.wait()
        connection.shutdown()
        may_go_on.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert service.wires[0].is_open  # nothing in it has said that it ends
        connection.data_received(request(b"2"))
        assert await service.settle() == [[b"told", b"[[0.5]]"]]
        assert service.wires[0].written.count(b"connection: close\r\n") == 1

    asyncio.run(ask())
