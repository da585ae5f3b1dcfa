"""How a page is made: a template, the policy that browsers hold it to, errors as people read them."""

import json
import math
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import JSONResponse

from service.api.dashboard import assets, drawing, measures
from service.api.gate.credentials import SIGNED_IN
from service.api.gate.scopes import ScopedRoute
from service.domain.key_errors import MissingScope, NoKey
from service.domain.wording import JSON_WORDS
from service.use_cases.plots import are_drawn

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        # Text goes into a page as text: every way to have a string read as markup or as a script is shut.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}

DASH = "\N{EN DASH}"
"""What stands where there is nothing."""

templates = Environment(
    loader=PackageLoader("service.api.dashboard"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.policies["json.dumps_kwargs"] = {}  # the order of keys may mean something, as of columns
templates.globals.update(
    asset=assets.address,
    version=version("selfnorm"),
    histogram=drawing.histogram,
    headline=measures.headline,
    has_plots=are_drawn(),
)


def number(value: float | None, digits: int = 4) -> str:
    """Write a number as people read it; a dash where there is none."""
    if value is None:
        return DASH
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    places = digits - len(f"{abs(value):.0f}") if abs(value) >= 1 else digits - math.ceil(math.log10(abs(value) or 1))
    text = f"{round(value, places):,.{max(0, places)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float | None) -> str:
    """Write seconds in the unit that suits them; a dash where there are none."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{number(round(seconds, 1))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def cell(value: str | float | bool | None) -> str:
    """Write a cell of a table, or a class."""
    if value is None or isinstance(value, bool):
        return JSON_WORDS[value]
    return value if isinstance(value, str) else number(value, 6)


def moment(value: datetime | None) -> str:
    """Write a time as <time> elements hold it; scripts show it in the reader's zone."""
    return "" if value is None else value.astimezone(UTC).isoformat(timespec="seconds")


templates.filters.update(number=number, duration=duration, size=size, moment=moment, cell=cell)


def page(name: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    """Return a page, held to the policy."""
    content = templates.get_template(name).render(owner=SIGNED_IN.get(), **values)
    return HTMLResponse(content, status, {**(headers or {}), **HEADERS})


class PageRoute(ScopedRoute):
    """A route whose errors are pages too, with the words and the status that the API gives them; it answers HEAD."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.methods and "GET" in self.methods:
            self.methods.add("HEAD")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001  # the application's handlers say which it was
                return await _error_page(request, error)

        return handle

    async def refuse(self, request: Request, error: MissingScope | NoKey) -> Response:
        """Return the page that says that a key does not open this one."""
        return await _error_page(request, error)


async def _error_page(request: Request, error: Exception) -> Response:
    handlers = request.app.exception_handlers
    answer = await next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)(request, error)
    assert isinstance(answer, JSONResponse)
    problem = json.loads(bytes(answer.body))
    kept = {name: value for name, value in answer.headers.items() if name in ("retry-after", "allow", "x-request-id")}
    return page("error.html", answer.status_code, kept, problem=problem)
