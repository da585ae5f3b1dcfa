"""Errors as RFC 9457 problems: the one table from facts to status codes."""

import errno
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, get_args, get_origin

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from service.api.metering.refusals import corrupt_blob_met, quota_refused, rate_limited
from service.domain import errors, key_errors, quotas, training_errors
from service.domain.wording import pointer_step, shown
from service.storage.faults import (
    DATABASE_DOWN,
    STATEMENT_REFUSED,
    DatabaseDown,
    is_damaged,
    is_full,
    is_unmigrated,
    reason,
)
from service.storage.object_store import NoObjectStore, ObjectStoreDown

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
STILL_RUNNING_SECONDS = 1
MAX_VIOLATIONS = 100
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

STATUS: dict[type[errors.SelfnormError], HTTPStatus] = {
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MalformedRequest: HTTPStatus.BAD_REQUEST,
    key_errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    key_errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    quotas.QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.CorruptBlob: HTTPStatus.SERVICE_UNAVAILABLE,
    training_errors.DatasetUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
SAYS_WHAT_CAME = (
    "out_of_bounds",
    "bad_name",
    "units",
    "features",
    "units_mismatch",
    "breaks_condition",
    "batch_size",
    "class_weights",
)
"""Types of violations whose messages name the value already."""
CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "too_slow",
    411: "length_required",
    413: "too_large",
    414: "address_too_long",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    431: "headers_too_large",
    500: "internal_error",
    503: "unavailable",
}


class ViolationView(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str
    detail: str


class ProblemView(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ViolationView] = []


def problem(
    request: Request,
    status: int,
    detail: str,
    code: str | None = None,
    violations: Sequence[errors.Violation] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return an error answer."""
    code = code or CODES.get(status, "error")
    view = ProblemView(
        type=f"urn:selfnorm:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request.state.request_id,
        errors=[ViolationView(pointer=item.pointer, detail=item.detail) for item in violations],
    )
    content = view.model_dump(exclude=set() if violations else {"errors"})
    return JSONResponse(content, status, headers, media_type=PROBLEM_TYPE)


def install(app: FastAPI) -> None:
    """Register every handler."""
    app.add_exception_handler(errors.SelfnormError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    for error in (*DATABASE_DOWN, STATEMENT_REFUSED):
        app.add_exception_handler(error, on_database_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(OSError, _on_system_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_domain_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.SelfnormError)
    return as_problem(request, error)


def as_problem(request: Request, error: errors.SelfnormError) -> JSONResponse:
    """Return the answer that says what went wrong."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)
    violations = error.violations[:MAX_VIOLATIONS] if isinstance(error, errors.InvalidInput) else ()
    headers = None
    if isinstance(error, errors.CorruptBlob):
        corrupt_blob_met()
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.critical("%s", error)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    elif isinstance(error, errors.RequestStillRunning):
        headers = {"Retry-After": str(STILL_RUNNING_SECONDS)}
    elif isinstance(error, quotas.QuotaExceeded):
        headers = {"Retry-After": str(error.retry_after_seconds)}
        (rate_limited if isinstance(error, quotas.TooManyRequests) else quota_refused)(error.quota)
    elif status == HTTPStatus.UNAUTHORIZED:
        fault = ', error="invalid_token"' if isinstance(error, key_errors.InvalidKey) else ""
        headers = {"WWW-Authenticate": f'Bearer realm="selfnorm"{fault}'}
    return problem(request, status, str(error), error.code, violations, headers)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    body_field = getattr(request.scope.get("route"), "body_field", None)
    model = body_field.field_info.annotation if body_field is not None else None
    found = error.errors()
    violations = [_violation(item, model) for item in found[:MAX_VIOLATIONS]]
    detail = "; ".join(f"{item.pointer}: {item.detail}" for item in violations[:3])
    if len(found) > 3:
        detail += f"; and {len(found) - 3} more"
    return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, "invalid", violations)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    details = {
        404: f"there is nothing at {shown(request.url.path)}; /openapi.json lists every route",
        405: f"{request.method} is not allowed here",
    }
    standard = error.detail == HTTPStatus(error.status_code).phrase
    detail = details.get(error.status_code, error.detail) if standard else error.detail
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(request.app.state.methods.of(request.scope["path"])))
    return problem(request, error.status_code, detail, headers=headers)


async def on_database_error(request: Request, error: Exception) -> JSONResponse:
    """Return the answer that says what is wrong with the database."""
    if is_full(error):
        logger.critical("no room on the disk: %s", error)
        return _disk_full(request)
    if is_damaged(error):
        logger.critical("the database is damaged: %s", error)
        detail = "the database is damaged, and nothing can be promised of it; who runs it should run: selfnorm doctor"
        return _unavailable(request, detail, "database_damaged")
    if is_unmigrated(error):
        logger.error("the database is at another migration: %s", reason(error))
        detail = "the database lacks what this version needs; who runs it should run: selfnorm migrate"
        return _unavailable(request, detail, "database_unmigrated")
    if isinstance(error, NoObjectStore):
        logger.error("%s", error)
        detail = (
            "the file is in an object store, and no setting says in which; who runs this should set SELFNORM_BLOB_URL"
        )
        return _unavailable(request, detail, "object_store_unset")
    if isinstance(error, ObjectStoreDown):
        logger.error("%s", error)
        detail = "the object store, where large files are kept, does not answer; try again in a few seconds"
        return _unavailable(request, detail, "object_store_down")
    if not isinstance(error, DATABASE_DOWN):
        return await _on_bug(request, error)
    # That it is down has been logged once, when it was found out.
    logger.log(logging.DEBUG if isinstance(error, DatabaseDown) else logging.ERROR, "no answer: %s", error)
    detail = "the database does not answer, or is kept busy by others; try again in a few seconds"
    return _unavailable(request, detail, "database_down")


async def _on_disconnect(request: Request, _error: Exception) -> JSONResponse:
    """End a request whose client has gone before its body had come; nobody reads this answer."""
    return problem(request, HTTPStatus.BAD_REQUEST, "the connection ended before the body did")


async def _on_system_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return await _on_bug(request, error)
    logger.critical("no room on the disk: %s", error)
    return _disk_full(request)


def _disk_full(request: Request) -> JSONResponse:
    detail = "there is no room left on the disk of this service for what was sent; try again later"
    return _unavailable(request, detail, "disk_full")


def _unavailable(request: Request, detail: str, code: str) -> JSONResponse:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, code, headers=headers)


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    request_id = request.state.request_id
    logger.error("unexpected error in request %s", request_id, exc_info=error)
    detail = "an unexpected error; it is in the server's log under this request_id"
    # Most bugs are answered outside of all middleware, so the request is named here.
    headers = {"X-Request-Id": request_id}
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail, "internal_error", headers=headers)


def malformed(error: errors.MalformedRequest) -> HTTPException:
    """Return an error that FastAPI lets through while it reads a body."""
    return HTTPException(HTTPStatus.BAD_REQUEST, str(error))


def _violation(item: dict[str, Any], model: Any) -> errors.Violation:
    where, *path = item["loc"]
    said = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if where != "body":
        mark = "?" if where == "query" else f"{where}/"
        return errors.Violation(f"{mark}{'/'.join(map(str, path))}", f"{said}; got {shown(item.get('input'))}")
    pointer = "#" + "".join(f"/{pointer_step(step)}" for step in _follow(model, path)[0])
    match item["type"]:
        case "extra_forbidden":
            known = {name for found in _follow(model, path[:-1])[1] for name in found.model_fields}
            return errors.Violation(pointer, f"is not a known field; known are {', '.join(sorted(known)) or 'none'}")
        case "missing":
            return errors.Violation(pointer, "is required")
        case kind if kind in SAYS_WHAT_CAME:
            return errors.Violation(pointer, said)
        case _:
            return errors.Violation(pointer, f"{said}; got {shown(item.get('input'))}")


def _follow(model: Any, path: Sequence[Any]) -> tuple[list[Any], list[type[BaseModel]]]:
    """Follow an error's path into a body; return its steps as the client knows them, and the models it leads to.

    Where a field takes several kinds of model, pydantic puts the kind between the steps.
    """
    models, steps, is_name = _models(model), [], False
    for step in path:
        if is_name:
            steps.append(step)
            is_name = False
            continue
        of_kind = [found for found in models if len(models) > 1 and step in get_args(_annotation(found, "kind"))]
        if of_kind:
            models = of_kind
            continue
        steps.append(step)
        found = [_annotation(outer, step) for outer in models]
        models, is_name = [inner for one in found for inner in _models(one)], any(map(_is_by_name, found))
    return steps, models


def _annotation(model: type[BaseModel], field: Any) -> Any:
    info = model.model_fields.get(str(field))
    return info.annotation if info else None


def _is_by_name(annotation: Any) -> bool:
    """Whether a field takes an object whose names the client chooses: then the next step is one of them."""
    return get_origin(annotation) is dict or any(map(_is_by_name, get_args(annotation)))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
