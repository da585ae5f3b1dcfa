"""What a client does, step by step, without saying how it is sent: one account for programs that wait and that await.

A use of the service is a generator that yields calls and pauses and returns what its user gets. Whoever runs it carries
each step out and sends back what came of it: ``Sender`` blocks, ``AsyncSender`` awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class Work(Generic[Result]):
    """Do what takes long on this machine, such as writing a large table, where it holds up no event loop."""

    do: Callable[[], Result]

    def __iter__(self) -> Steps[Result]:
        result: Result = yield self
        return result


@dataclass(frozen=True)
class Exchange:
    """Send one request, once, and take its answer in: into memory, or where it is good into the file ``into``."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | BinaryIO | None = None
    """A file is sent from its beginning, piece by piece."""
    into: Path | None = None
    wait_seconds: float = 0
    """How long the service may hold its answer back on purpose."""


@dataclass(frozen=True)
class Call(Generic[Result]):
    """Ask the service for one thing, again and again while that makes sense, and read what it answers.

    Iterated over it is a use of the service by itself, so that other uses can ``yield from`` it.
    """

    exchange: Exchange
    read: Callable[[httpx2.Response], Result]
    creates: bool = False
    """It makes something, so that it carries a key of its own under which nothing is made twice."""
    removes: bool = False
    """What it is about is gone afterwards, so that it may be found gone where it is asked again."""

    def __iter__(self) -> Steps[Result]:
        result: Result = yield self
        return result


Step = Call[Any] | Exchange | Pause | Work[Any]
Steps = Generator[Step, Any, Result]


class Use(Protocol[Result_co]):
    """A use of the service: a call, or a generator of steps."""

    def __iter__(self) -> Generator[Step, Any, Result_co]:
        """Begin it."""


@dataclass(frozen=True)
class Listing(Generic[Result]):
    """A list that comes in pages: ``page`` asks for the one behind a token and returns its items and the next token."""

    page: Callable[[str | None], Call[tuple[list[Result], str | None]]]
