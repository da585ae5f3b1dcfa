"""Which model a request means whose body holds nothing but rows: what its address says."""

from typing import Annotated

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import QueryParams

from service.domain.bounds import Between, Name
from service.domain.errors import InvalidInput, Violation
from service.domain.models import MAX_VERSION
from service.domain.wording import listed


class AskedInQuery(BaseModel):
    """The model, and the version or the alias, as text from an address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Name
    version: Annotated[int | None, Between(1, MAX_VERSION)] = None
    alias: Name | None = None


def of_query(query: QueryParams) -> AskedInQuery:
    """Read which model is meant.

    Raises:
        InvalidInput: a parameter is missing, unknown or there twice, or both a version and an alias are named.
        RequestValidationError: one cannot be what it is.
    """
    given = [name for name, _ in query.multi_items()]
    found = [Violation(f"?{name[:64]}", "is there more than once") for name in set(given) if given.count(name) > 1]
    if "model" not in query:
        found.append(Violation("?model", "is required beside rows that are no JSON, as in POST /predict?model=boston"))
    if "version" in query and "alias" in query:
        found.append(Violation("?version", "names a version beside an alias; leave one of them out"))
    known = AskedInQuery.model_fields.keys()
    if unknown := [name for name in given if name not in known]:
        found.append(Violation("?", f"has unknown parameter(s) {listed(unknown)}; known are {', '.join(known)}"))
    if found:
        raise InvalidInput(found)
    try:
        return AskedInQuery.model_validate(dict(query))
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in error.errors()]) from None
