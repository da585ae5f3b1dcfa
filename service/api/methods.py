"""Which methods an address takes, for ``Allow``: Starlette names those of the first route that has it only."""

from functools import cached_property
from typing import Any

from fastapi import FastAPI

from service.api.gate.scopes import contexts


class Methods:
    """Looks through every route of an application; asked for where a method is not allowed."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def of(self, path: str) -> set[str]:
        """Return the methods that an address takes by any of its routes."""
        return {method for found in self._routes if found.path_regex.match(path) for method in found.methods}

    @cached_property
    def _routes(self) -> list[Any]:
        """What takes every address that is left only refuses it, and allows none of its methods."""
        return [found for found in contexts(self._app.routes) if found.methods and ":path}" not in (found.path or "")]
