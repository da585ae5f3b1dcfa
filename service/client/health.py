"""The service itself: which version it is, and whether it can do its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from service.client import answers
from service.client.steps import Call, Exchange, Steps

if TYPE_CHECKING:
    from service.api.views.health import ServiceVersionView


def version() -> Call[ServiceVersionView]:
    """Say which version of the service this is."""
    from service.api.views.health import ServiceVersionView

    return Call(Exchange("GET", "/version"), answers.view(ServiceVersionView))


def ready() -> Steps[bool]:
    """Whether the service answers and every part of it is fit; asked once, so that it answers soon."""
    try:
        answer = yield Exchange("GET", "/readyz")
    except httpx2.TransportError:
        return False
    return bool(answer.is_success)
