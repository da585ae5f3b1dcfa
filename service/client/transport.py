"""Carries out the steps of a use of the service, and blocks until they are done."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.request import getproxies

import httpx2

from service.client.errors import InvalidSettings
from service.client.retries import Patience
from service.client.steps import Call, Exchange, Pause, Result, Step, Use, Work

DEFAULT_URL = "http://127.0.0.1:8000"
PIECE_BYTES = 256 * 1024


class Connection:
    """Where the service is, and what every request to it carries.

    Raises:
        InvalidSettings: the address or the key can be none.
    """

    def __init__(self, url: str | None, api_key: str | None, timeout_seconds: float, retries: int) -> None:
        self.url = _address(url or os.environ.get("SELFNORM_URL") or DEFAULT_URL)
        key = _key(api_key or os.environ.get("SELFNORM_API_KEY") or "")
        self.headers = {"User-Agent": f"selfnorm-python/{version('selfnorm')}"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self.tls = _tls(self.url)
        self.timeout_seconds = timeout_seconds
        self.patience = Patience(self.url, retries)

    def request(self, client: httpx2.Client | httpx2.AsyncClient, exchange: Exchange, content: Any) -> httpx2.Request:
        """Build a request whose body is ``content``, and whose answer may be held back as long as it says."""
        headers = dict(exchange.headers)
        if exchange.body is not None and not isinstance(exchange.body, bytes):
            headers["Content-Length"] = str(_length(exchange.body))
        timeout = httpx2.Timeout(self.timeout_seconds, read=self.timeout_seconds + exchange.wait_seconds)
        return client.build_request(
            exchange.method, exchange.path, params=exchange.params, headers=headers, content=content, timeout=timeout
        )


class Sender:
    """Sends requests one after the other; may be used by several threads."""

    def __init__(self, connection: Connection, transport: httpx2.BaseTransport | None = None) -> None:
        self.connection = connection
        self.http = httpx2.Client(
            base_url=connection.url, headers=connection.headers, verify=connection.tls, transport=transport
        )

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        """Close what nobody has closed, as in notebooks."""
        with suppress(Exception):  # the interpreter may have ended, or the constructor failed
            self.http.close()

    def close(self) -> None:
        """Close every connection."""
        self.http.close()

    def run(self, use: Use[Result]) -> Result:
        """Carry out the steps of a use, one after the other, and return what it returns."""
        steps = iter(use)
        answer: Any = None
        failure: Exception | None = None
        try:
            while True:
                try:
                    step = steps.send(answer) if failure is None else steps.throw(failure)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                answer = failure = None
                try:
                    answer = self._carry_out(step)
                except Exception as error:  # noqa: BLE001  # the use decides what to do about it
                    failure = error
        finally:
            steps.close()

    def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.do()
        if isinstance(step, Call):
            return self.run(self.connection.patience.carry_out(step))
        if step.into is not None:
            return self._save(step, step.into)
        return self.http.send(self._request(step))

    @contextmanager
    def stream(self, exchange: Exchange) -> Iterator[httpx2.Response]:
        """Send a request and give its answer before its body has come."""
        answer = self.http.send(self._request(exchange), stream=True)
        try:
            yield answer
        finally:
            answer.close()

    def _save(self, exchange: Exchange, path: Path) -> httpx2.Response:
        with self.stream(exchange) as answer:
            if not answer.is_success:
                answer.read()
                return answer
            with path.open("wb") as file:
                file.writelines(answer.iter_bytes(PIECE_BYTES))
            return answer

    def _request(self, exchange: Exchange) -> httpx2.Request:
        body = exchange.body
        content = body if body is None or isinstance(body, bytes) else _pieces(body)
        return self.connection.request(self.http, exchange, content)


def _address(url: str) -> str:
    """Return an address without what stands round it."""
    found = url.strip().rstrip("/")
    try:
        parsed = httpx2.URL(found)
    except httpx2.InvalidURL as error:
        raise InvalidSettings(f"url {url!r} is no address: {error}; pass one such as {DEFAULT_URL}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 < (parsed.port or 1) < 2**16:
        raise InvalidSettings(
            f"url {url!r} is no address of a service: it must begin with http:// or https:// and name a host, and "
            f"a port is between 1 and 65535; pass one such as {DEFAULT_URL}"
        )
    return found


def _key(key: str) -> str:
    """Return a key without the white space round it, which files that hold keys end with."""
    found = key.strip()
    if any(not "!" <= letter <= "~" for letter in found):
        raise InvalidSettings(
            "the API key holds white space or characters that no key has; keys are visible ASCII. Look at api_key= "
            "or SELFNORM_API_KEY"
        )
    return found


def _tls(url: str) -> ssl.SSLContext | bool:
    """Return whom to trust: the system's authorities (0.1 s to read), or nobody where nothing is encrypted."""
    is_plain = url.startswith("http://") and not getproxies()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else True


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    yield from iter(lambda: file.read(PIECE_BYTES), b"")


def _length(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
