"""Which requests take the short way (``hot_path``), and the protocol for uvicorn that knows them."""

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.answers import to_json
from service.api.gate.credentials import token_of
from service.api.gate.security_headers import as_lines
from service.api.hot_path import MAX_BODY_BYTES, HotPath, HotProtocol, Ready, Route
from service.api.protocols import infer_answers
from service.api.protocols.signatures import MATRIX
from service.api.protocols.statistics import Statistics
from service.api.services import Services
from service.api.strict_bodies import LARGE_BODY_BYTES
from service.domain.errors import InvalidRows
from service.domain.keys import Scope
from service.domain.owners import DEFAULT_OWNER
from service.inference.number_bodies import read_rows, read_tensor
from service.inference.strict_rows import read_fields
from service.use_cases.serving import Served, Serving

MOST_CELLS = 16 * 1024
"""So many cells of rows, or numbers of their answers, take a millisecond or so; with more, others would wait."""


_INFER = re.compile(rb"/v2/models/([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:/versions/([1-9][0-9]{0,8}))?/infer")


def protocol(services: Services, statistics: Statistics) -> type[HotProtocol]:
    """Return the protocol for an application on these services, whose ``statistics`` count what protocols are asked."""
    native = partial(predict, services.serving)
    tensors = partial(infer, services.serving, statistics)

    def find(url: bytes) -> Route | None:
        if url == b"/predict":
            return native
        return tensors if url.endswith(b"/infer") else None

    longest = min(MAX_BODY_BYTES, services.max_predict_bytes, services.max_json_bytes)
    headers = as_lines(needs_key=services.authentication)
    hot = HotPath(services.gathering, find, template, longest, _admission(services), _take(services), headers)
    known = {"hot": hot, "bounds": services.bounds, "ending": services.stopping}
    return type("ServingProtocol", (HotProtocol,), known)


def _admission(services: Services) -> Callable[[bytes | None, bytes | None], str | None]:
    """Return what says for whom a request is; whatever cannot be said at once, or is refused, is the application's."""
    hosts = services.hosts
    if not services.authentication:
        return lambda _authorization, host: DEFAULT_OWNER if host is not None and hosts.take(host) else None
    known = services.keys.ring.known

    def admit(authorization: bytes | None, host: bytes | None) -> str | None:
        if authorization is None or host is None or not hosts.take(host):
            return None
        token = token_of(authorization)
        access = None if token is None else known(token)
        return access.owner if access is not None and Scope.PREDICT in access.scopes else None

    return admit


def _take(services: Services) -> Callable[[str], bool] | None:
    rates = services.rates
    return None if rates is None else lambda owner: rates.take(owner) == 0


def template(url: bytes) -> str:
    """Return the route that a request which may take the short way would take otherwise."""
    if url == b"/predict":
        return "/predict"
    return f"/v2/models/{{name}}{'/versions/{version}' if b'/versions/' in url else ''}/infer"


def predict(serving: Serving, owner: str, _path: bytes, body: bytes) -> Ready | None:
    """Read a small request that a loaded model can answer without a word about its rows; None for any other."""
    numbers = read_rows(body, "instances")
    if numbers is not None:
        fields, matrix = numbers
        served = _named(serving, owner, fields)
        if served is not None and served.takes_numbers:
            is_fit = matrix.shape[1] == served.width and _are_few(served, len(matrix)) and served.guard.are_near(matrix)
            return Ready(served, matrix, partial(_write, served)) if is_fit else None
    return _ready_of_any(serving, owner, body) if len(body) <= LARGE_BODY_BYTES else None


def _ready_of_any(serving: Serving, owner: str, body: bytes) -> Ready | None:
    """Do so for rows with names, texts and gaps."""
    fields = read_fields(body)
    if fields is None or type(instances := fields.pop("instances", None)) is not list:
        return None
    served = _named(serving, owner, fields)
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


def _named(serving: Serving, owner: str, fields: dict[str, Any]) -> Served | None:
    """Return the version that the fields beside the rows name, where it is loaded and they hold nothing else."""
    name, version, alias = fields.pop("model", None), fields.pop("version", None), fields.pop("alias", None)
    is_known = type(name) is str and (version is None or type(version) is int) and (alias is None or type(alias) is str)
    if fields or not is_known or (version is not None and alias is not None):
        return None
    return serving.known(owner, name, version, alias)


def _write(served: Served, values: NDArray[np.floating]) -> bytes:
    return to_json(served, values, served.guard.warnings)


def infer(serving: Serving, statistics: Statistics, owner: str, path: bytes, body: bytes) -> Ready | None:
    """Do the same under the Open Inference Protocol, for one tensor of numbers as JSON and all outputs."""
    begun = time.perf_counter_ns()
    address = _INFER.fullmatch(path)
    tensor = read_tensor(body) if address is not None else None
    if address is None or tensor is None or tensor.name != MATRIX or tensor.datatype not in ("FP32", "FP64"):
        return None
    name, version = address.groups()
    served = serving.known(owner, name.decode(), None if version is None else int(version))
    if served is None or not served.takes_numbers or tensor.matrix.shape[1] != served.width:
        return None
    if not (_are_few(served, len(tensor.matrix)) and served.guard.are_near(tensor.matrix)):
        return None
    read = time.perf_counter_ns()

    def write(values: NDArray[np.floating]) -> bytes:
        answered = time.perf_counter_ns()
        text = infer_answers.to_json(served, values, tensor.id, served.guard.warnings)
        statistics.succeeded(served, len(values), begun, read, answered)
        return text

    return Ready(served, tensor.matrix, write)


def _are_few(served: Served, rows: int) -> bool:
    """Whether reading rows and writing their answers keeps others waiting for no more than a moment."""
    outputs = len(served.version.outputs.classes) or 1
    return rows * max(served.width, outputs) <= MOST_CELLS
