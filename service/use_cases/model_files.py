"""The files of a version: its graph, its Keras file, and the description of its encoders, made when it is asked for."""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from service.domain.encoders import to_json
from service.domain.model_errors import FileNotKept
from service.domain.models import ModelVersion
from service.storage import blobs, models
from service.storage.database import Connection, Database
from service.use_cases.stored_files import copy_out

FileName = Literal["model.keras", "model.onnx", "encoder.json"]
FORMAT_VERSION = 1
RECIPE = """\
This file says how a row becomes the numbers that model.onnx and model.keras of this version take.

1. Encode the features in the order of "features"; write what each of them gives side by side, in 64-bit floats. The
   result has a number for each entry of "columns", in that order. Where "takes_raw_rows" is true, every feature is a
   number that goes through unchanged: the row itself is the result.
2. Do not standardize: the graph and the Keras file do, in 64 bits, as (number - mean) / scale, with what "columns" says
   for whoever writes the network anew.
3. Give the rows to input "x" of model.onnx, or to the Keras model as model(rows); model.predict(rows) would round them
   to 32 bits first. A classification answers a probability for each of "classes", in that order; a regression answers
   one number in the target's own units.

A cell is missing where it is null, a text that without the space around it is empty or one of "missing_tokens", or a
number that one of "missing_tokens" writes. It may be so only where "gaps" is true, and the last number that its feature
gives is then 1, else 0; without gaps that number is left out.

numeric      The number, where "transform" is null. {"kind": "robust"}: s = (number - center) / scale, then
             s / sqrt(1 + (s / 3)^2). {"kind": "quantile"}: straight lines between the points ("values", "normal");
             beyond the first and the last of them, what those have. A missing cell: "fill", as it is.
boolean      1 for true, 0 for false. A missing cell: "fill".
categorical  A number for each of "categories", in order: 1 where it equals the cell, else 0. Where "other" is true, one
             more: 1 for a cell that is given and none of them. A missing cell: 0 in all of these.
date         The moment in UTC, read as ISO 8601, or where it is not, by the strptime pattern "written" (not where that
             is "iso"); a moment without a zone is UTC. Then: days since 1970-01-01 with the part of the day; the year;
             sine and cosine of 2 pi (month - 1) / 12; the day of the month; sine and cosine of 2 pi w / 7, w = 0 for
             Monday; and where "has_time" is true, sine and cosine of 2 pi times the part of the day. Sines and cosines
             are rounded to 12 digits after the point. A missing cell: the numbers of "fill", or 0 where it is empty.
"""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a version."""

    name: FileName
    size_bytes: int
    sha256: str


def list_files(connection: Connection, version: ModelVersion) -> list[ModelFile]:
    """Return every file that a version has."""
    stored: list[tuple[FileName, str | None]] = [
        ("model.keras", version.keras_sha256),
        ("model.onnx", version.onnx_sha256),
    ]
    sizes = blobs.sizes(connection, [sha256 for _, sha256 in stored if sha256 is not None])
    found = [ModelFile(name, sizes.get(sha256, 0), sha256) for name, sha256 in stored if sha256 is not None]
    return [*found, _described(encoder_file(version))]


def find_file(database: Database, name: str, version: int, file: FileName) -> ModelFile:
    """Say how large a file is, and which hash it has.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
        FileNotKept: the version was registered before such files were kept.
    """
    with database.read() as connection:
        files = list_files(connection, models.get_version(connection, name, version))
    for found in files:
        if found.name == file:
            return found
    raise FileNotKept(name, version, file)


def open_file(database: Database, name: str, version: int, file: ModelFile) -> BinaryIO:
    """Return a file that stands at its start and is the caller's to close.

    Raises:
        UnknownModel, UnknownVersion: it has been deleted meanwhile.
        CorruptBlob: it is missing or damaged.
    """
    if file.name == "encoder.json":
        with database.read() as connection:
            return io.BytesIO(encoder_file(models.get_version(connection, name, version)))
    return copy_out(database, file.sha256)


def encoder_file(version: ModelVersion) -> bytes:
    """Return ``encoder.json``: what turns a raw row into the numbers that graph and Keras file take."""
    inputs, outputs = version.inputs, version.outputs
    described = zip(inputs.encoders, to_json(inputs.encoders), strict=True)
    columns = zip(inputs.encoded, inputs.mean, inputs.scale, strict=True)
    document: dict[str, Any] = {
        "format": "selfnorm-encoder",
        "format_version": FORMAT_VERSION,
        "model": version.name,
        "version": version.version,
        "task": outputs.task,
        "target": outputs.target,
        "classes": list(outputs.classes) or None,
        "takes_raw_rows": all(encoder.is_plain for encoder in inputs.encoders),
        "features": [{**values, "columns": list(encoder.columns)} for encoder, values in described],
        "columns": [{"name": name, "mean": mean, "scale": scale} for name, mean, scale in columns],
        "recipe": RECIPE,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _described(content: bytes) -> ModelFile:
    return ModelFile("encoder.json", len(content), hashlib.sha256(content).hexdigest())
