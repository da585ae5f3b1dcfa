"""The proxy does what its methods say, seen from both ends."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import HOST, RESET_ON_CLOSE, Proxy

SHORT_SECONDS = 0.3


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it gets, and ends a connection after its client has."""
    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=accept_all, args=[server], daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)  # wakes the thread


def accept_all(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=[connection], daemon=True).start()


def echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while block := connection.recv(1 << 16):
            connection.sendall(block)


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy(echo_port) as started:
        yield started


@contextlib.contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, proxy.port), timeout=5) as client:
        yield client


def says(client: socket.socket, content: bytes) -> bytes:
    client.sendall(content)
    return receive(client, len(content))


def receive(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (block := client.recv(size - len(got))):
        got += block
    return got


def test_bytes_pass_in_both_directions(proxy: Proxy) -> None:
    content = bytes(range(256)) * 4096
    with connected(proxy) as one, connected(proxy) as other:
        threading.Thread(target=one.sendall, args=[content]).start()
        assert receive(one, len(content)) == content
        assert says(other, b"hello") == b"hello"


def test_end_of_a_stream_is_passed_on(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 10) == b"last words"
        assert client.recv(1) == b""


def test_cut_resets_what_is_open_and_takes_new_connections(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert says(client, b"before") == b"before"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connected(proxy) as client:
        assert says(client, b"after") == b"after"


def test_frozen_connection_is_silent_and_loses_nothing(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert says(client, b"before") == b"before"
        proxy.freeze()
        client.sendall(b"held")
        client.settimeout(SHORT_SECONDS)
        with pytest.raises(TimeoutError):
            client.recv(4)
        with connected(proxy) as late:
            late.sendall(b"too")
            late.settimeout(SHORT_SECONDS)
            with pytest.raises(TimeoutError):
                late.recv(3)
            proxy.thaw()
            for each, words in ((client, b"held"), (late, b"too")):
                each.settimeout(5)
                assert receive(each, len(words)) == words


def test_frozen_connection_can_be_cut(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert says(client, b"before") == b"before"
        proxy.freeze()
        client.sendall(b"held")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(4)


def test_refused_connections_leave_open_ones_alone(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert says(client, b"before") == b"before"
        proxy.refuse()
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError), connected(proxy):
            pass
        assert says(client, b"still") == b"still"
        proxy.accept()
        proxy.accept()
        with connected(proxy) as again:
            assert says(again, b"again") == b"again"


def test_dead_target_resets_the_client() -> None:
    with socket.create_server((HOST, 0)) as dead:
        port = dead.getsockname()[1]
    with Proxy(port) as nowhere, pytest.raises(ConnectionResetError), connected(nowhere) as client:
        client.recv(1)  # connecting itself may see the reset already


def test_target_that_resets_is_passed_on() -> None:
    server = socket.create_server((HOST, 0))
    with server, Proxy(server.getsockname()[1]) as proxy, connected(proxy) as client:
        there, _ = server.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        there.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_end_cuts_what_is_open(echo_port: int) -> None:
    with Proxy(echo_port) as proxy:
        port = proxy.port
        client = socket.create_connection((HOST, port), timeout=5)
        assert says(client, b"before") == b"before"
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), timeout=5)
