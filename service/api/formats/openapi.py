"""What /openapi.json says of the formats of /predict beside JSON; the route adds it to what FastAPI finds itself."""

from typing import Any

from service.api.formats.negotiation import ARROW, CSV, NDJSON, NPY
from service.domain.bounds import NAME_PATTERN
from service.domain.models import MAX_VERSION

_BINARY: dict[str, Any] = {}
"""OpenAPI 3.1 has no schema for bytes: what is not JSON is described by its media type alone."""
_TEXT = {"type": "string"}

QUERY_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "model",
        "in": "query",
        "description": "The model's name; required where the body is not JSON",
        "schema": {"type": "string", "pattern": NAME_PATTERN},
    },
    {
        "name": "version",
        "in": "query",
        "description": "Which version, where the body is not JSON; else what `production` stands for, else the newest",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_VERSION},
    },
    {
        "name": "alias",
        "in": "query",
        "description": "Which alias, instead of a version, where the body is not JSON",
        "schema": {"type": "string", "pattern": NAME_PATTERN},
    },
]
REQUEST_CONTENT: dict[str, Any] = {ARROW: {"schema": _BINARY}, NPY: {"schema": _BINARY}} | {
    CSV: {"schema": {**_TEXT, "description": "The model's columns by name, or in its order with ;header=absent"}},
    NDJSON: {"schema": {**_TEXT, "description": "One row a line, an array or an object by column name"}},
}
"""Entries for ``requestBody.content``."""
RESPONSE_CONTENT: dict[str, Any] = {ARROW: {"schema": _BINARY}, NPY: {"schema": _BINARY}} | {
    CSV: {"schema": {**_TEXT, "description": "prediction, and for classes a column `probability: CLASS` each"}},
    NDJSON: {"schema": {**_TEXT, "description": 'One object a line: {"prediction", "probabilities"}'}},
}
"""Entries for the content of the response 200."""
RESPONSE_HEADERS: dict[str, Any] = {
    "Selfnorm-Model": {"description": "The model, where the answer is not JSON", "schema": {"type": "string"}},
    "Selfnorm-Version": {"description": "Its version, where the answer is not JSON", "schema": {"type": "integer"}},
    "Selfnorm-Warnings": {
        "description": "How many warnings there are, where the answer is not JSON; JSON and Arrow have their text",
        "schema": {"type": "integer"},
    },
    "Selfnorm-Classes": {
        "description": "The classes in the order of the columns, as a JSON array, where the answer is .npy and they "
        "take at most 4,096 bytes",
        "schema": {"type": "string"},
    },
}
NOT_ACCEPTABLE: dict[str, Any] = {"description": "None of the formats in Accept can be given; the text names all"}
"""The response 406."""
