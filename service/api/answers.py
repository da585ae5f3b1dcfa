"""What /predict answers, as JSON text: made from arrays at once, without an object for each number."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import orjson
from numpy.typing import NDArray

from service.use_cases.serving import Served


class Wording:
    """The pieces of an answer that are the same for every request to a version."""

    def __init__(self, served: Served) -> None:
        version = served.version
        head = orjson.dumps({"model": version.name, "version": version.version})
        self.head = head[:-1] + b',"predictions":['
        classes = list(version.outputs.classes)
        self.labels = [orjson.dumps(label) for label in classes]
        self.classes = b'],"classes":' + orjson.dumps(classes) + b',"probabilities":'


_wordings: WeakKeyDictionary[Served, Wording] = WeakKeyDictionary()
"""Of what is in memory: whatever has had to make room is not held by its wording."""


def wording(served: Served) -> Wording:
    """Return the pieces for a version."""
    words = _wordings.get(served)
    if words is None:
        words = _wordings[served] = Wording(served)
    return words


def to_json(
    served: Served, values: NDArray[np.floating], warnings: tuple[str, ...] = (), more: dict[str, Any] | None = None
) -> bytes:
    """Return the answer to rows as a JSON object.

    ``values`` are probabilities, float32 (rows, classes), or predictions, float64 (rows, 1); every number is written
    with as few digits as give the same bits back. ``more`` are further fields.
    """
    words = wording(served)
    if words.labels:
        labels = words.labels
        predictions = b",".join([labels[index] for index in values.argmax(axis=1).tolist()])
        body = words.head + predictions + words.classes + _numbers(values)
    else:
        body = words.head + _numbers(values[:, 0])[1:]
    if warnings:
        body += b',"warnings":' + orjson.dumps(warnings)
    for name, value in (more or {}).items():
        body += b",%b:%b" % (orjson.dumps(name), orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    return body + b"}"


def _numbers(values: NDArray[np.floating]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
