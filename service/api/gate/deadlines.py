"""How long a request may take: its body to come, and its answer to begin."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import Message, Receive, Send

from service.api.metering.refusals import SlowPart, slow_client_closed


def within(receive: Receive, seconds: float) -> Receive:
    """Give a body so many seconds from when it is first asked for; what comes after it may take as long as it will."""
    until: float | None = None
    is_whole = False

    async def receiving() -> Message:
        nonlocal until, is_whole
        if is_whole:
            return await receive()
        until = asyncio.get_running_loop().time() + seconds if until is None else until
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise _too_slow(f"the body did not come within {seconds:g} s; send less at once") from None
        is_whole = not message.get("more_body", False)
        return message

    return receiving


def flowing(receive: Receive, seconds: float, bytes_per_second: float) -> Receive:
    """Let a body take as long as it will, while so many bytes a second come, on average over so many seconds.

    Only the time counts in which this service waits for the client.
    """
    waited = 0.0
    came = 0
    is_whole = False

    async def receiving() -> Message:
        nonlocal waited, came, is_whole
        if is_whole:
            return await receive()
        clock = asyncio.get_running_loop().time
        begun = clock()
        message: Message | None = None
        while message is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds - waited):
                    message = await receive()
            now = clock()
            waited, begun = waited + now - begun, now
            came += len(message.get("body", b"")) if message else 0
            if waited >= seconds:
                if came < seconds * bytes_per_second:
                    detail = f"{came:,} bytes came within {seconds:g} s; send at least {bytes_per_second:,g} a second"
                    raise _too_slow(detail)
                waited, came = 0.0, 0
        is_whole = not message.get("more_body", False)
        return message

    return receiving


class AnswerDeadline:
    """Answers in place of an application that has not begun to within its time; what it says later goes nowhere."""

    def __init__(self, send: Send, seconds: float | None, answer_late: Callable[[Send], Awaitable[None]]) -> None:
        """Take where answers go, and what answers when the time is over; None gives as long as it takes."""
        self._send = send
        self._seconds = seconds
        self._answer_late = answer_late
        self._timer: asyncio.TimerHandle | None = None
        self._application = asyncio.current_task()
        self._answering: asyncio.Task[None] | None = None
        self.has_begun = False

    @property
    def is_over(self) -> bool:
        """Whether the time was over before the application began to answer."""
        return self._answering is not None

    def start(self) -> None:
        """Begin to wait, or begin anew."""
        self.stop()
        if self._seconds is not None and not self.has_begun and not self.is_over:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def stop(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()

    async def send(self, message: Message) -> None:
        """Send what the application says, if it is not too late."""
        if not self.is_over:
            self.has_begun = True
            self.stop()
            await self._send(message)

    async def answered(self) -> None:
        """Wait until the late answer has been sent."""
        if self._answering is not None:
            await self._answering

    def _end(self) -> None:
        self._answering = asyncio.ensure_future(self._answer_late(self._send))
        if self._application is not None:
            self._application.cancel()  # a thread that works for it is left to end by itself


def _too_slow(detail: str) -> HTTPException:
    slow_client_closed(SlowPart.BODY)
    return HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"})
