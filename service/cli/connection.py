"""The service as a command talks to it: opened with its options, and every refusal said in words."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.cli.printing import MISUSED, REFUSED, UNREACHABLE, fail
from service.cli.wording import count

if TYPE_CHECKING:
    from service.client import ApiError, Client

UNAUTHORIZED = 401
SERVER_ERRORS = 500


@contextmanager
def connected(url: str | None, api_key: str | None, *, retries: int | None = None) -> Iterator[Client]:
    """Open a client; what goes wrong with the service within the block is said and ends the command.

    Raises:
        typer.Exit: what was to be sent is nothing that a service takes (2), the service refused a request (3), or it
            did not answer it (4).
    """
    from service.client import ApiError, Client, ConnectionFailed, UnexpectedAnswer
    from service.client.client import DEFAULT_RETRIES

    try:
        with Client(url, api_key, retries=DEFAULT_RETRIES if retries is None else retries) as client:
            yield client
    except ConnectionFailed as error:
        fail(
            UNREACHABLE,
            f"no service answers at {error.url}: {error.reason}",
            "start one here: selfnorm up",
            "or say where one runs: --url URL, or SELFNORM_URL",
        )
    except UnexpectedAnswer as error:
        fail(UNREACHABLE, error)
    except ApiError as error:
        fail(UNREACHABLE if error.status >= SERVER_ERRORS else REFUSED, *_refusal(error))
    except (TypeError, ValueError) as error:  # the client sends no empty id, no infinite number and no broken address
        fail(MISUSED, error)


def command(url: str | None, *words: str) -> str:
    """Return a command line that talks to the same service."""
    elsewhere = ["--url", url] if url and url != os.environ.get("SELFNORM_URL") else []
    return shlex.join(["selfnorm", *words, *elsewhere])


def _refusal(error: ApiError) -> Iterator[str]:
    """Say what the service refused: its own words, then every violation with its place."""
    request = f", request {error.request_id}" if error.request_id else ""
    said = f"the service refuses this, for {count(len(error.errors), 'reason')}" if error.errors else error.detail
    yield f"{said} ({error.status} {error.code}{request})"
    width = max((len(violation.pointer) for violation in error.errors), default=0)
    for violation in error.errors:
        yield f"{violation.pointer:<{width}}  {violation.detail}"
    yield from getattr(error, "__notes__", ())
    if error.status == UNAUTHORIZED:
        yield "show a key: SELFNORM_API_KEY, or --api-key"
