import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.outbound import MOST_LOOKING, NotPublic, NotSent, Outbound, UnknownName, is_public
from tests.receiver import Receiver, certified, receiving

PUBLIC = "93.184.216.34"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # an address that is looked at, not one to listen on
        "10.0.0.1",
        "100.64.0.1",
        "168.63.129.16",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "no address",
        "",
    ],
)
def test_near_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_others_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "xn--mnchen-3ya.localhost",
        f"{'a' * 64}.example",
    ],
)
def test_no_spelling_leads_to_this_machine(receiver: Receiver, host: str) -> None:
    with pytest.raises(NotSent):
        Outbound().post(f"http://{host}:{receiver.port}/", {}, b"{}")
    assert receiver.taken == []


def test_one_near_address_among_others_is_enough_to_refuse(receiver: Receiver) -> None:
    with pytest.raises(NotPublic):
        Outbound(resolve=lambda _host, _port: [PUBLIC, "127.0.0.1"]).post(receiver.url, {}, b"{}")
    assert receiver.taken == []


def test_a_name_that_stands_for_something_else_the_second_time_leads_nowhere(receiver: Receiver) -> None:
    answers = [[PUBLIC], ["127.0.0.1"]]
    outbound = Outbound(resolve=lambda _host, _port: answers.pop(0))
    outbound.check("rebinding.example", receiver.port)
    with pytest.raises(NotPublic):
        outbound.post(f"http://rebinding.example:{receiver.port}/", {}, b"{}")
    assert (receiver.taken, answers) == ([], [])


def test_the_connection_is_made_to_the_address_that_was_looked_at(receiver: Receiver) -> None:
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    outbound = Outbound(allow_private=True, resolve=resolve)
    assert outbound.post(f"http://nobody-knows.example:{receiver.port}/a?b=c", {"x-y": "z"}, b"body") == 204
    assert asked == [("nobody-knows.example", receiver.port)]
    [taken] = receiver.taken
    assert (taken.path, taken.body, taken.headers["x-y"]) == ("/a?b=c", b"body", "z")
    assert taken.headers["host"] == f"nobody-knows.example:{receiver.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(receiver: Receiver) -> None:
    outbound = Outbound(allow_private=True, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    assert outbound.post(f"http://two.example:{receiver.port}/", {}, b"") == 204


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.statuses.append(302)
    receiver.location = receiver.url
    assert Outbound(allow_private=True).post(receiver.url, {}, b"") == 302
    assert len(receiver.taken) == 1


def test_proxies_of_the_environment_are_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert Outbound(allow_private=True).post(receiver.url, {}, b"") == 204
        assert proxy.taken == []


def test_certificates_are_held_against_the_name(tmp_path: Path) -> None:
    server, client = certified(tmp_path, "hooks.example")
    with receiving(server) as receiver:
        known = Outbound(allow_private=True, resolve=lambda _host, _port: ["127.0.0.1"], tls=client)
        assert known.post(f"https://hooks.example:{receiver.port}/", {}, b"") == 204
        with pytest.raises(NotSent, match="certificate cannot be trusted"):
            known.post(f"https://other.example:{receiver.port}/", {}, b"")
        with pytest.raises(NotSent, match="certificate cannot be trusted"):
            Outbound(allow_private=True).post(f"https://localhost:{receiver.port}/", {}, b"")
        assert len(receiver.taken) == 1


def test_an_answer_that_does_not_come_is_not_waited_for(receiver: Receiver) -> None:
    receiver.gate.clear()
    with pytest.raises(NotSent, match=r"within 0\.3 s"):
        Outbound(allow_private=True, total_seconds=0.3).post(receiver.url, {}, b"")


def test_an_answer_that_drips_is_not_waited_for() -> None:
    """Each of its bytes comes soon enough; a bound on single waits would never end it."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"a: b\r\n")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(NotSent, match=r"within 0\.5 s"):
            Outbound(allow_private=True, total_seconds=0.5).post(
                f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b""
            )
        stop.set()
        thread.join(10)


def test_what_is_no_http_and_what_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with pytest.raises(NotSent, match="did not answer in HTTP"):
            Outbound(allow_private=True).post(f"http://127.0.0.1:{port}/", {}, b"")
        thread.join(10)
    with pytest.raises(NotSent, match="no connection could be made"):
        Outbound(allow_private=True).post(f"http://127.0.0.1:{port}/", {}, b"")
    with pytest.raises(NotSent, match="not known"):
        Outbound(resolve=nobody).post("https://selfnorm.invalid/", {}, b"")


def nobody(_host: str, _port: int) -> list[str]:
    raise UnknownName


def near(_host: str, _port: int) -> list[str]:
    return ["10.0.0.1"]


def test_nobody_hears_which_names_there_are_nearby() -> None:
    said = set()
    for resolve in (nobody, near):
        with pytest.raises(NotPublic) as early:
            Outbound(resolve=resolve).check("inner.example", 443)
        with pytest.raises(NotPublic) as late:
            Outbound(resolve=resolve).post("https://inner.example/", {}, b"")
        said |= {str(early.value), str(late.value)}
    assert len(said) == 1
    with pytest.raises(NotPublic):
        Outbound().check(f"{'a' * 64}.example", 443)


def test_a_name_that_cannot_be_looked_up_now_is_taken() -> None:
    def broken(_host: str, _port: int) -> list[str]:
        raise NotSent("the host's name could not be looked up")

    Outbound(resolve=broken).check("slow.example", 443)
    Outbound(resolve=nobody, allow_private=True).check("inner.example", 443)  # names of one's own may come later


def test_slow_resolvers_hold_so_many_threads_and_no_more() -> None:
    hanging, asked = threading.Event(), []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        hanging.wait(60)
        return ["10.0.0.1"]

    outbound = Outbound(resolve=resolve)
    for number in range(MOST_LOOKING + 3):
        outbound.check(f"{number}.example", 443, seconds=0.01)
    assert len(asked) == MOST_LOOKING
    hanging.set()
    for _ in range(MOST_LOOKING):
        assert outbound.looking.acquire(timeout=30)
    for _ in range(MOST_LOOKING):
        outbound.looking.release()
    with pytest.raises(NotPublic):
        outbound.check("again.example", 443)


def test_a_resolver_that_hangs_holds_nobody_up() -> None:
    hanging = threading.Event()

    def resolve(_host: str, _port: int) -> list[str]:
        hanging.wait(60)
        return ["127.0.0.1"]

    Outbound(resolve=resolve).check("slow.example", 443, seconds=0.05)
    hanging.set()
