"""What the description of the API says of keys: which scopes a route takes, and what it answers without them."""

from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute

from service.api.gate.scopes import ScopedRoute, contexts, needed
from service.domain.keys import Scope

SCHEME = "key"
DESCRIBED = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "sn_ID_SECRET",
    "description": "A key that `selfnorm keys create` has made",
}


def with_security(routes: Iterable[BaseRoute], schema: dict[str, Any]) -> dict[str, Any]:
    """Say of every operation which scopes open it; any one of those that are named does."""
    schema.setdefault("components", {}).setdefault("securitySchemes", {})[SCHEME] = DESCRIBED
    for found in contexts(routes):
        if not isinstance(found.original_route, ScopedRoute) or found.endpoint is None:
            continue
        for method in found.methods or ():
            operation = schema["paths"].get(found.path_format, {}).get(method.lower())
            if operation is not None:
                _describe(operation, needed(found.endpoint))
    return schema


def _describe(operation: dict[str, Any], scopes: frozenset[Scope]) -> None:
    words = [scope.value for scope in Scope if scope in scopes]
    operation["security"] = [{SCHEME: [word]} for word in words]
    if not words:
        return
    said = operation["responses"].get("default", {}).get("content", {})
    operation["responses"].setdefault("401", {"description": "No key, or one that opens nothing", "content": said})
    refused = {"description": f"The key has not the scope {' or '.join(words)}", "content": said}
    operation["responses"].setdefault("403", refused)
