"""Answers as text: CSV and NDJSON with one line a row, and JSON; numbers with as few digits as give back their bits."""

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import orjson

from service.api.answers import to_json, wording
from service.api.formats.pieces import Values, piece_rows, pieces
from service.domain.models import ClassLabel
from service.domain.wording import JSON_WORDS
from service.use_cases.predict import Answer
from service.use_cases.serving import Served

PROBABILITY = "probability: "
"""What the names of columns of probabilities begin with; the class follows."""


def write_json(served: Served, answered: Answer) -> Iterator[bytes]:
    """Write the same object as for JSON rows."""
    values, words = answered.values, wording(served)
    if len(values) <= piece_rows(values):
        yield to_json(served, values, answered.warnings)
        return
    yield words.head
    for number, piece in enumerate(pieces(values)):
        yield b"," * (number > 0) + b",".join(_predictions(words.labels, piece))
    if words.labels:
        yield words.classes
        for number, piece in enumerate(pieces(values)):
            yield (b"," if number else b"[") + _numbers(piece)[1:-1]
    yield b"]"
    if answered.warnings:
        yield b',"warnings":' + orjson.dumps(answered.warnings)
    yield b"}"


def write_ndjson(served: Served, answered: Answer) -> Iterator[bytes]:
    """Write an object a row: its prediction and, of a classification, the probabilities in the order of the classes."""
    labels = wording(served).labels
    form = b'{"prediction":%b,"probabilities":[%b]}\n' if labels else b'{"prediction":%b}\n'
    for piece in pieces(answered.values):
        predictions = _predictions(labels, piece)
        cells = zip(predictions, _rows(piece), strict=True) if labels else zip(predictions, strict=True)
        yield b"".join(map(bytes.__mod__, repeat(form), cells))


def write_csv(served: Served, answered: Answer, *, header: bool = True) -> Iterator[bytes]:
    """Write a line a row: its prediction and, of a classification, a probability for every class."""
    classes = served.version.outputs.classes
    labels = [_cell(text) for text in map(label_text, classes)]
    if header:
        names = [_cell(PROBABILITY + label_text(label)) for label in classes]
        yield b",".join([b"prediction", *names]) + b"\n"
    for piece in pieces(answered.values):
        predictions = _predictions(labels, piece)
        lines = map(b",".join, zip(predictions, _rows(piece), strict=True)) if labels else predictions
        yield b"\n".join(lines) + b"\n"


def label_text(label: ClassLabel) -> str:
    """Return a class as text, as JSON would have it."""
    if isinstance(label, bool):
        return JSON_WORDS[label]
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def _predictions(labels: list[bytes], piece: Values) -> list[bytes]:
    """Return the predictions of a piece as text, with ``labels`` for classes, which a regression has none of."""
    if labels:
        return [labels[index] for index in piece.argmax(axis=1).tolist()]
    return _numbers(piece[:, 0])[1:-1].split(b",")


def _rows(piece: Values) -> list[bytes]:
    """Return the numbers of every row, with commas between them."""
    return _numbers(piece)[2:-2].split(b"],[")


def _numbers(piece: Values) -> bytes:
    return orjson.dumps(np.ascontiguousarray(piece), option=orjson.OPT_SERIALIZE_NUMPY)


def _cell(text: str) -> bytes:
    """Return text as a cell of CSV, in quotes where it could be taken for something else."""
    is_plain = text and text == text.strip() and not any(mark in text for mark in ',"\r\n')
    return (text if is_plain else '"' + text.replace('"', '""') + '"').encode()
