"""The client for programs that await: the same names and the same steps as ``Client``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import httpx2

from service.client import health, predict, training
from service.client.client import DEFAULT_RETRIES, DEFAULT_TIMEOUT_SECONDS
from service.client.methods import AsyncResource, awaited
from service.client.steps import Call, Exchange, Pause, Result, Step, Use, Work
from service.client.transport import PIECE_BYTES, Connection

if TYPE_CHECKING:
    from service.client.comparisons import AsyncComparisons
    from service.client.datasets import AsyncDatasets
    from service.client.jobs import AsyncJobs
    from service.client.models import AsyncModels
    from service.client.predictions import AsyncPredictions
    from service.client.webhooks import AsyncWebhooks


class AsyncSender:
    """Sends requests without holding up the event loop."""

    def __init__(self, connection: Connection, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.connection = connection
        self.http = httpx2.AsyncClient(
            base_url=connection.url, headers=connection.headers, verify=connection.tls, transport=transport
        )

    async def close(self) -> None:
        """Close every connection."""
        await self.http.aclose()

    async def run(self, use: Use[Result]) -> Result:
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
                    answer = await self._carry_out(step)
                except Exception as error:  # noqa: BLE001  # the use decides what to do about it
                    failure = error
        finally:
            steps.close()

    async def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.do)
        if isinstance(step, Call):
            return await self.run(self.connection.patience.carry_out(step))
        if step.into is not None:
            return await self._save(step, step.into)
        return await self.http.send(self._request(step))

    @asynccontextmanager
    async def stream(self, exchange: Exchange) -> AsyncIterator[httpx2.Response]:
        """Send a request and give its answer before its body has come."""
        answer = await self.http.send(self._request(exchange), stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _save(self, exchange: Exchange, path: Path) -> httpx2.Response:
        async with self.stream(exchange) as answer:
            if not answer.is_success:
                await answer.aread()
                return answer
            with path.open("wb") as file:
                async for piece in answer.aiter_bytes(PIECE_BYTES):
                    await asyncio.to_thread(file.write, piece)
            return answer

    def _request(self, exchange: Exchange) -> httpx2.Request:
        body = exchange.body
        content = body if body is None or isinstance(body, bytes) else _pieces(body)
        return self.connection.request(self.http, exchange, content)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    file.seek(0)
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


class AsyncClient(AsyncResource):
    """A service, to be asked by a program that awaits every answer; the parameters are those of ``Client``."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = DEFAULT_RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(AsyncSender(Connection(url, api_key, timeout_seconds, retries), transport))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        """Say where the service is, and nothing of the key."""
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._sender.connection.url

    @property
    def has_key(self) -> bool:
        """Whether requests show a key."""
        return "Authorization" in self._sender.connection.headers

    async def close(self) -> None:
        """Close every connection."""
        await self._sender.close()

    train = awaited(training.train)
    probe = awaited(training.probe)
    predict = awaited(predict.predict)
    version = awaited(health.version)
    ready = awaited(health.ready)

    # As in ``Client``, what follows is imported when it is first asked for.

    @cached_property
    def datasets(self) -> AsyncDatasets:
        """Data sets."""
        from service.client.datasets import AsyncDatasets

        return AsyncDatasets(self._sender)

    @cached_property
    def jobs(self) -> AsyncJobs:
        """Trainings."""
        from service.client.jobs import AsyncJobs

        return AsyncJobs(self._sender)

    @cached_property
    def models(self) -> AsyncModels:
        """Models with their versions and aliases."""
        from service.client.models import AsyncModels

        return AsyncModels(self._sender)

    @cached_property
    def predictions(self) -> AsyncPredictions:
        """Predictions over stored data sets."""
        from service.client.predictions import AsyncPredictions

        return AsyncPredictions(self._sender)

    @cached_property
    def comparisons(self) -> AsyncComparisons:
        """Comparisons of networks."""
        from service.client.comparisons import AsyncComparisons

        return AsyncComparisons(self._sender)

    @cached_property
    def webhooks(self) -> AsyncWebhooks:
        """Addresses that are told what happens."""
        from service.client.webhooks import AsyncWebhooks

        return AsyncWebhooks(self._sender)
