"""The way of a request to /predict that brings its rows in another format than JSON, or wants its answer in one."""

import json
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from service.api.formats import asked, lines, ndjson, negotiation, npy
from service.api.formats.negotiation import ARROW, CSV, JSON, NDJSON, NPY, MediaType
from service.api.formats.pieces import piece_rows
from service.api.services import Services, find_served, owner_of
from service.api.strict_bodies import LARGE_BODY_BYTES
from service.inference.rows import CheckedRows
from service.use_cases.predict import Answer, check_size
from service.use_cases.serving import Served

MAX_CLASSES_BYTES = 4096
"""More bytes of classes are too many for a header; the model's description has them."""
WITH_PYARROW = (ARROW, CSV)
"""Reading these imports pyarrow at first, which takes a tenth of a second, and may decode much from little."""


async def answer_in_formats(request: Request, services: Services) -> Response | None:
    """Answer rows that are not JSON, in the format that their client wants; None where the body is JSON.

    Raises:
        HTTPException: the body is of no known format (415), or no format that there is would be accepted (406).
        InvalidInput, RequestValidationError: the address names no model, or names one wrongly.
        NotFound, ModelNotReady, CorruptBlob: as ``find_served`` does.
        MalformedRequest: the body is not what its type says.
        InvalidRows: the model cannot take the rows.
    """
    kind = negotiation.body_type(request.headers.get("content-type"))
    if kind.name == JSON:
        return None
    wanted = wanted_by(request)
    negotiation.check_encoding(request.headers.get("content-encoding"))
    meant = asked.of_query(request.query_params)
    served = await find_served(services, owner_of(request), meant.model, meant.version, meant.alias)
    body = await _body(request, services.max_json_bytes if kind.name == NDJSON else services.max_predict_bytes)
    if kind.name in WITH_PYARROW or len(body) > LARGE_BODY_BYTES:
        checked = await services.gathering.in_thread(partial(read_rows, kind, body, served))
    else:
        checked = read_rows(kind, body, served)
    del body  # where rows were copied out of it, it need not wait for their answer
    check_size(served, checked.count)
    return await respond(services, wanted, served, await services.gathering.answer(served, checked))


def wanted_by(request: Request) -> MediaType:
    """Return the format that a client wants its answer in.

    Raises:
        HTTPException: there is none that it would accept.
    """
    return negotiation.answer_type(",".join(request.headers.getlist("accept")) or None)


async def respond(services: Services, wanted: MediaType, served: Served, answered: Answer) -> Response:
    """Return an answer in a format; a large one is sent in pieces, none of which is made before the last is gone."""
    pieces, headers = write_answer(wanted, served, answered), _headers(wanted, served, answered)
    if len(answered.values) > piece_rows(answered.values):
        return StreamingResponse(pieces, headers=headers)
    if wanted.name == ARROW:
        return Response(await services.gathering.in_thread(lambda: b"".join(pieces)), headers=headers)
    return Response(b"".join(pieces), headers=headers)


def read_rows(kind: MediaType, body: bytes | bytearray, served: Served) -> CheckedRows:
    """Read rows in a format other than JSON.

    Raises:
        MalformedRequest: the body is not what its type says.
        InvalidRows: the model cannot take the rows.
    """
    # With pyarrow a process takes 40 MB more and a tenth of a second longer to start; few need it.
    match kind.name:
        case negotiation.ARROW:
            from service.api.formats import arrow

            return arrow.read(body, served)
        case negotiation.CSV:
            from service.api.formats import csv

            return csv.read(body, served, header=kind.has_header_line)
        case negotiation.NPY:
            return npy.read(body, served)
        case _:
            return ndjson.read(body, served)


def write_answer(wanted: MediaType, served: Served, answered: Answer) -> Iterator[bytes]:
    """Write an answer in a format, piece by piece."""
    match wanted.name:
        case negotiation.ARROW:
            from service.api.formats import arrow  # as above

            return arrow.write(served, answered)
        case negotiation.CSV:
            return lines.write_csv(served, answered, header=wanted.has_header_line)
        case negotiation.NPY:
            return npy.write(served, answered)
        case negotiation.NDJSON:
            return lines.write_ndjson(served, answered)
        case _:
            return lines.write_json(served, answered)


async def _body(request: Request, most: int) -> bytes | bytearray:
    """Take a body in, piece by piece into one place; together at the end, it would be in memory twice.

    Raises:
        HTTPException: it is too large; lines of JSON take many times their size once they are read.
    """
    body: bytes | bytearray = b""
    async for piece in request.stream():
        if not body:
            body = piece  # small ones come in one piece
        elif piece:
            body = bytearray(body) if isinstance(body, bytes) else body
            body += piece
        if len(body) > most:
            detail = f"the body has more than the {most:,} bytes that are taken in this format; send fewer rows at once"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return body


def _headers(wanted: MediaType, served: Served, answered: Answer) -> dict[str, str]:
    """Return what is to be known of an answer beside its rows; JSON says it itself."""
    if wanted.name == JSON:
        return {"Content-Type": JSON}
    headers = {
        "Content-Type": wanted.name,
        "Selfnorm-Model": served.version.name,
        "Selfnorm-Version": str(served.version.version),
        "Selfnorm-Warnings": str(len(answered.warnings)),
    }
    if wanted.name == CSV:
        headers["Content-Type"] += f"; charset=utf-8; header={'present' if wanted.has_header_line else 'absent'}"
    if wanted.name == NPY and (classes := served.version.outputs.classes):
        text = json.dumps(classes)  # in ASCII, which a header must be
        if len(text) <= MAX_CLASSES_BYTES:
            headers["Selfnorm-Classes"] = text
    return headers
