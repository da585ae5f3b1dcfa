"""A socket that is left: who has come is taken, who comes is refused, nobody is cut off."""

import socket

import pytest

from service.listening import HANDSHAKE_SECONDS, accept_all, leave, listen
from tests.processes import linux_only


@linux_only
def test_connections_that_have_begun_are_taken_and_no_more_begin() -> None:
    [listening] = listen("127.0.0.1", 0)
    address = listening.getsockname()
    with listening, socket.create_connection(address) as begun:
        begun.sendall(b"hello")
        leave(listening)
        with socket.socket() as late:
            late.settimeout(HANDSHAKE_SECONDS)
            with pytest.raises(TimeoutError):
                late.connect(address)
        [taken] = accept_all(listening)
        listening.close()
        with taken:
            assert taken.recv(5) == b"hello"
            taken.sendall(b"world")
            assert begun.recv(5) == b"world"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_nothing_is_taken_where_nobody_has_come() -> None:
    [listening] = listen("127.0.0.1", 0)
    with listening:
        assert accept_all(listening) == []
