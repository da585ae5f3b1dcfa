"""The description of the API at /openapi.json, written once: making its text takes so long that others would wait."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Description:
    """Answers with what an application says of itself, which is asked for once."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe
        self._text: asyncio.Future[bytes] | None = None

    def route(self, path: str) -> Route:
        """Return a route that answers; it notes itself in the request as FastAPI's own do, so that it is counted."""

        async def answer(request: Request) -> Response:
            request.scope["route"] = route
            return await self.answer(request)

        route = Route(path, answer, include_in_schema=False)
        return route

    async def answer(self, _request: Request) -> Response:
        """Answer; those that come while it is made the first time wait together."""
        if self._text is None:
            self._text = asyncio.ensure_future(run_in_threadpool(self._written))
        try:
            return Response(await asyncio.shield(self._text), media_type="application/json")
        except Exception:  # whatever it was: whoever asks next has it made again, and this one is told
            self._text = None
            raise

    def _written(self) -> bytes:
        return json.dumps(self._describe(), ensure_ascii=False, separators=(",", ":")).encode()
