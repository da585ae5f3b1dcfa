"""Makes the methods of both clients from one account of what they do: one that blocks, one that is awaited.

What a method does, its parameters and its docstring are written once, as a function that returns a use of the service;
``sent`` and ``awaited`` turn it into the method of a class whose objects have a sender.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, get_args

from service.client.steps import Listing, Result, Use

if TYPE_CHECKING:
    from service.client.asynchronous import AsyncSender
    from service.client.transport import Sender

P = ParamSpec("P")
Method = TypeVar("Method", bound=Callable[..., Any])


class Resource:
    """A part of a client that blocks."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class AsyncResource:
    """A part of a client that is awaited."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender


def sent(use: Callable[P, Use[Result]]) -> Callable[Concatenate[Resource, P], Result]:
    """Return the method that carries out a use and waits for it."""

    @wraps(use)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self._sender.run(use(*args, **kwargs))

    return _described(method, use, None)


def awaited(use: Callable[P, Use[Result]]) -> Callable[Concatenate[AsyncResource, P], Awaitable[Result]]:
    """Return the method that carries out a use and is awaited."""

    @wraps(use)
    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return await self._sender.run(use(*args, **kwargs))

    return _described(method, use, None)


def listed(listing: Callable[P, Listing[Result]]) -> Callable[Concatenate[Resource, P], Iterator[Result]]:
    """Return the method that goes through a list, page by page as they are needed."""

    @wraps(listing)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Result]:
        ask, token = listing(*args, **kwargs).page, None
        while True:
            items, token = self._sender.run(ask(token))
            yield from items
            if token is None:
                return

    return _described(method, listing, Iterator)


def listed_async(
    listing: Callable[P, Listing[Result]],
) -> Callable[Concatenate[AsyncResource, P], AsyncIterator[Result]]:
    """Return the method that goes through a list with ``async for``."""

    @wraps(listing)
    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Result]:
        ask, token = listing(*args, **kwargs).page, None
        while True:
            items, token = await self._sender.run(ask(token))
            for item in items:
                yield item
            if token is None:
                return

    return _described(method, listing, AsyncIterator)


def _described(method: Method, use: Callable[..., Any], container: Any) -> Method:
    """Give a method the signature that ``help`` and notebooks show: that of its use, and what it really returns."""
    signature = inspect.signature(use)
    owner = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    result = _result(signature.return_annotation)
    returned = result if container is None else container[result]
    parameters = [owner, *signature.parameters.values()]
    shown = signature.replace(parameters=parameters, return_annotation=returned)
    method.__signature__ = shown  # type: ignore[attr-defined]  # what inspect looks for
    return method


def _result(returned: Any) -> Any:
    """Return what a use gives, from what it says that it returns: ``Call[JobView]``, as a type or as text."""
    if isinstance(returned, str):
        return returned.partition("[")[2].removesuffix("]") or returned
    return (get_args(returned) or (returned,))[-1]
