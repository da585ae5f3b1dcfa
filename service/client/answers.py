"""How answers of the service are read: views from JSON, errors from problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from service.client.errors import STATUS, ApiError, UnexpectedAnswer, Violation

if TYPE_CHECKING:
    import httpx2
    from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound="BaseModel")

MOST_SHOWN = 300
"""So many characters of an answer that is no problem stand in an error."""


def view(kind: type[Model]) -> Callable[[httpx2.Response], Model]:
    """Return a reader of one view; fields that a newer service has and this client does not know are left out."""

    def read(answer: httpx2.Response) -> Model:
        from pydantic import ValidationError  # Not at the top: the views load it, and errors need it not.

        try:
            return kind.model_validate_json(answer.content, extra="ignore")
        except ValidationError as error:
            raise unexpected(answer, f"a body that is no {kind.__name__}: {_first_problem(error)}") from None

    return read


def page(kind: type[Model]) -> Callable[[httpx2.Response], tuple[list[Model], str | None]]:
    """Return a reader of a page: its items and the token of the next one."""
    from service.api.views.base import (
        PageView,  # Not at the top, for it takes a fifth of a second, and errors need it not.
    )

    read_page = view(PageView[kind])  # type: ignore[valid-type]  # a class made at run time, as pydantic wants it

    def read(answer: httpx2.Response) -> tuple[list[Model], str | None]:
        found = read_page(answer)
        return found.items, found.next_page_token

    return read


def plain_page(answer: httpx2.Response) -> tuple[list[Any], str | None]:
    """Read a page of plain values."""
    found = plain(answer)
    return found["items"], found["next_page_token"]


def plain(answer: httpx2.Response) -> Any:
    """Read JSON as plain values."""
    try:
        return json.loads(answer.content)
    except ValueError:
        raise unexpected(answer, "a body that is no JSON") from None


def content(answer: httpx2.Response) -> bytes:
    """Read the body as it is."""
    return answer.content


def text(answer: httpx2.Response) -> str:
    """Read the body as text."""
    return answer.text


def nothing(_answer: httpx2.Response) -> None:
    """Read nothing; the status said it all."""


def error_of(answer: httpx2.Response) -> ApiError:
    """Return what an answer that is no success says, as RFC 9457 describes it, or as far as it can be told."""
    kind = STATUS.get(answer.status_code, ApiError)
    try:
        problem = json.loads(answer.content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("detail"), str):
        return kind(answer.status_code, "error", _beginning(answer), retry_after_seconds=retry_after(answer))
    found = problem.get("errors")
    items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    violations = [Violation(str(item.get("pointer")), str(item.get("detail"))) for item in items]
    return kind(
        answer.status_code,
        str(problem.get("code", "error")),
        problem["detail"],
        violations,
        problem.get("request_id"),
        retry_after(answer),
    )


def retry_after(answer: httpx2.Response) -> float | None:
    """Return after how many seconds to ask again, where the answer says so."""
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else None


def unexpected(answer: httpx2.Response, problem: str) -> UnexpectedAnswer:
    """Return the error of an answer that this client cannot read."""
    return UnexpectedAnswer(str(answer.request.url), answer.status_code, problem)


def _beginning(answer: httpx2.Response) -> str:
    said = " ".join(answer.text.split())[:MOST_SHOWN]
    return said or f"{answer.request.url} answered with an empty body"


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
