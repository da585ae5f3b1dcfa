"""What the shell completes: names and ids that the service knows, where it answers at once, and nothing otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from service.client import Client

TIMEOUT_SECONDS = 1.0
MOST = 50
HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
"""Shells evaluate what a completion prints; nothing else reaches one."""

Known = Iterator[tuple[str, str]]


def complete_dataset(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the id of a data set; its name stands beside it."""
    return _asked(context, incomplete, lambda client: ((each.id, each.name) for each in client.datasets.list()))


def complete_job(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the id of a job; its state and its data set stand beside it."""
    return _asked(
        context,
        incomplete,
        lambda client: ((each.id, f"{each.state} on {each.spec.dataset}") for each in client.jobs.list()),
    )


def complete_model(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a model."""
    return _asked(context, incomplete, lambda client: ((each.name, "") for each in client.models.list()))


def complete_alias(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete an alias of the model that stands before it."""

    def aliases(client: Client) -> Known:
        return (
            (name, f"version {version}") for name, version in client.models.get(context.params["model"]).aliases.items()
        )

    return _asked(context, incomplete, aliases)


def _asked(
    context: typer.Context, incomplete: str, known: Callable[[Client], Iterable[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """Ask the service once, for the first of what it knows; whatever goes wrong, nothing is completed."""
    from service.client import Client, SelfnormError

    options = context.params
    try:
        with Client(options.get("url"), options.get("api_key"), timeout_seconds=TIMEOUT_SECONDS, retries=0) as client:
            found = list(islice(known(client), MOST))
    except (SelfnormError, KeyError):
        return []
    return [
        (value, beside if HARMLESS.fullmatch(beside) else "")
        for value, beside in found
        if value.startswith(incomplete) and HARMLESS.fullmatch(value)
    ]
