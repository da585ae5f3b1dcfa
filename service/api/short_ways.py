"""Which requests take the short way (``hot_path``), and the protocol for uvicorn that knows them."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.answers import to_json
from service.api.dependencies import LARGE_BODY_BYTES, Services
from service.api.hot_path import MAX_BODY_BYTES, HotPath, HotProtocol, Ready, Route
from service.domain.errors import InvalidRows
from service.inference.number_bodies import read_rows
from service.inference.strict_rows import read_fields
from service.use_cases.serving import Served, Serving

MOST_CELLS = 16 * 1024
"""So many cells of rows, or numbers of their answers, take a millisecond or so; with more, others would wait."""


def protocol(services: Services) -> type[HotProtocol]:
    """Return the protocol for an application on these services."""
    native = partial(predict, services.serving)

    def find(url: bytes) -> Route | None:
        return native if url == b"/predict" else None

    longest = min(MAX_BODY_BYTES, services.max_predict_bytes, services.max_json_bytes)
    return type("ServingProtocol", (HotProtocol,), {"hot": HotPath(services.gathering, find, longest)})


def predict(serving: Serving, _path: bytes, body: bytes) -> Ready | None:
    """Read a small request that a loaded model can answer without a word about its rows; None for any other."""
    numbers = read_rows(body, "instances")
    if numbers is not None:
        fields, matrix = numbers
        served = _named(serving, fields)
        if served is not None and served.takes_numbers:
            is_fit = matrix.shape[1] == served.width and _are_few(served, len(matrix)) and served.guard.are_near(matrix)
            return Ready(served, matrix, partial(_write, served)) if is_fit else None
    return _ready_of_any(serving, body) if len(body) <= LARGE_BODY_BYTES else None


def _ready_of_any(serving: Serving, body: bytes) -> Ready | None:
    """Do so for rows with names, texts and gaps."""
    fields = read_fields(body)
    if fields is None or type(instances := fields.pop("instances", None)) is not list:
        return None
    served = _named(serving, fields)
    if served is None or not _are_few(served, len(instances)):
        return None
    try:
        checked = served.reader.check(instances)
    except InvalidRows:
        return None
    encoded = checked.encoded()
    if checked.warnings or not served.guard.are_near(encoded):
        return None
    return Ready(served, encoded, partial(_write, served))


def _named(serving: Serving, fields: dict[str, Any]) -> Served | None:
    """Return the version that the fields beside the rows name, where it is loaded and they hold nothing else."""
    name, version, alias = fields.pop("model", None), fields.pop("version", None), fields.pop("alias", None)
    is_known = type(name) is str and (version is None or type(version) is int) and (alias is None or type(alias) is str)
    if fields or not is_known or (version is not None and alias is not None):
        return None
    return serving.known(name, version, alias)


def _write(served: Served, values: NDArray[np.floating]) -> bytes:
    return to_json(served, values, served.guard.warnings)


def _are_few(served: Served, rows: int) -> bool:
    """Whether reading rows and writing their answers keeps others waiting for no more than a moment."""
    outputs = len(served.version.outputs.classes) or 1
    return rows * max(served.width, outputs) <= MOST_CELLS
