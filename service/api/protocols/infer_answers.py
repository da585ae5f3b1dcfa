"""Answers of the Open Inference Protocol, written from arrays without an object for each number."""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import orjson
from numpy.typing import NDArray

from service.api.protocols.binary_tensors import NUMBERS, write_texts
from service.api.protocols.infer_requests import Wanted
from service.api.protocols.signatures import LABEL, Tensor, signature_of
from service.inference.rows import RowReader
from service.use_cases.serving import Served


class Wording:
    """The pieces of an answer that are the same for every request to a version."""

    def __init__(self, served: Served) -> None:
        version, signature = served.version, signature_of(served)
        head = orjson.dumps({"model_name": version.name, "model_version": str(version.version)})
        self.head = head[1:-1]
        self.outputs = {tensor.name: tensor for tensor in signature.outputs}
        self.heads = {tensor.name: _head(tensor.name, tensor.datatype) for tensor in signature.outputs}
        self.classification_heads = {tensor.name: _head(tensor.name, "BYTES") for tensor in signature.outputs}
        classes = list(version.outputs.classes)
        self.class_texts = signature.label_texts
        self.class_json = [
            orjson.dumps(text if self.outputs[LABEL].datatype == "BYTES" else label)
            for label, text in zip(classes, signature.label_texts, strict=True)
        ]
        self.write_labels = _label_writer(self.outputs[LABEL], classes, signature.label_texts) if classes else None


_wordings: WeakKeyDictionary[RowReader, Wording] = WeakKeyDictionary()


def wording_of(served: Served) -> Wording:
    """Return the pieces for a version."""
    wording = _wordings.get(served.reader)
    if wording is None:
        wording = _wordings[served.reader] = Wording(served)
    return wording


def to_json(
    served: Served, values: NDArray[np.floating], request_id: str | None = None, warnings: Sequence[str] = ()
) -> bytes:
    """Return the answer to rows with every output as JSON.

    ``values`` are probabilities, float32 (rows, classes), or predictions, float64 (rows, 1).
    """
    words = wording_of(served)
    outputs = [words.heads[tensor.name] + _json_rest(words, tensor, values) for tensor in words.outputs.values()]
    return _whole(words, outputs, request_id, warnings)


def to_parts(
    served: Served,
    values: NDArray[np.floating],
    wanted: Sequence[Wanted],
    request_id: str | None = None,
    warnings: Sequence[str] = (),
) -> list[bytes]:
    """Return the answer to rows as its JSON text, followed by the bytes of every binary output."""
    words = wording_of(served)
    outputs: list[bytes] = []
    binary: list[bytes] = []
    for output in wanted:
        tensor = words.outputs[output.name]
        if output.classes:
            texts = _classification(words, values, output.classes)
            outputs.append(words.classification_heads[tensor.name] + _texts_rest(texts, len(values), output, binary))
        elif output.is_binary:
            raw = _binary(words, tensor, values)
            binary.append(raw)
            outputs.append(words.heads[tensor.name] + _binary_rest(len(values), tensor.width, len(raw)))
        else:
            outputs.append(words.heads[tensor.name] + _json_rest(words, tensor, values))
    return [_whole(words, outputs, request_id, warnings), *binary]


def _head(name: str, datatype: str) -> bytes:
    return orjson.dumps({"name": name, "datatype": datatype})[:-1] + b',"shape":['


def _whole(words: Wording, outputs: Sequence[bytes], request_id: str | None, warnings: Sequence[str]) -> bytes:
    head = words.head if request_id is None else b'"id":%b,%b' % (orjson.dumps(request_id), words.head)
    if warnings:
        head += b',"parameters":{"warnings":%b}' % orjson.dumps("; ".join(warnings))
    return b'{%b,"outputs":[%b]}' % (head, b",".join(outputs))


def _json_rest(words: Wording, tensor: Tensor, values: NDArray[np.floating]) -> bytes:
    if tensor.name == LABEL:
        data = b"[%b]" % b",".join([words.class_json[index] for index in values.argmax(axis=1).tolist()])
    else:
        data = orjson.dumps(np.ascontiguousarray(values).reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)
    return b'%d,%d],"data":%b}' % (len(values), tensor.width, data)


def _binary_rest(rows: int, width: int, size: int) -> bytes:
    return b'%d,%d],"parameters":{"binary_data_size":%d}}' % (rows, width, size)


def _texts_rest(texts: Sequence[str], rows: int, output: Wanted, binary: list[bytes]) -> bytes:
    width = len(texts) // rows
    if not output.is_binary:
        return b'%d,%d],"data":%b}' % (rows, width, orjson.dumps(texts))
    raw = write_texts([text.encode() for text in texts])
    binary.append(raw)
    return _binary_rest(rows, width, len(raw))


def _binary(words: Wording, tensor: Tensor, values: NDArray[np.floating]) -> bytes:
    if tensor.name == LABEL:
        assert words.write_labels is not None
        return words.write_labels(values.argmax(axis=1))
    return np.ascontiguousarray(values, NUMBERS[tensor.datatype]).tobytes()


def _label_writer(
    tensor: Tensor, classes: Sequence[object], texts: Sequence[str]
) -> Callable[[NDArray[np.intp]], bytes]:
    """Return what writes labels as bytes."""
    if tensor.datatype == "BYTES":
        pieces = [write_texts([text.encode()]) for text in texts]
        return lambda places: b"".join([pieces[place] for place in places.tolist()])
    labels = np.array(classes, np.uint8 if tensor.datatype == "BOOL" else NUMBERS[tensor.datatype])
    return lambda places: labels[places].tobytes()


def _classification(words: Wording, values: NDArray[np.floating], count: int) -> list[str]:
    """Return the highest values of every row, as ``value:place:class``."""
    places = np.argsort(-values, axis=1, kind="stable")[:, :count]
    highest = np.take_along_axis(values, places, axis=1)
    endings = [f":{text}" for text in words.class_texts] or [""]
    return [
        f"{value:.6f}:{place}{endings[place]}"
        for value, place in zip(highest.ravel().tolist(), places.ravel().tolist(), strict=True)
    ]
