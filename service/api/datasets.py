"""/datasets: upload a table, list, describe, change, read rows, delete."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import StringConstraints, WithJsonSchema

from service.api.dependencies import DatabaseDependency, KeyDependency, PageDependency, ServicesDependency, answer_of
from service.api.gate.scopes import needs
from service.api.strict_bodies import StrictRoute
from service.api.uploads import FORM, MEDIA_TYPES, PART, keyed_upload, received
from service.api.views.base import PageView
from service.api.views.datasets import DatasetView
from service.domain.bounds import Frozen
from service.domain.datasets import ColumnKind, Dataset
from service.domain.errors import InvalidTable, Violation
from service.domain.keys import Scope
from service.domain.wording import shown
from service.tables.request import ImportRequest
from service.use_cases import datasets
from service.use_cases.datasets import MAX_NAME_LENGTH
from service.use_cases.idempotency import Outcome, StoredAnswer, replay

router = APIRouter(prefix="/datasets", tags=["data sets"], route_class=StrictRoute)

DEFAULT_NAME = "dataset"
KINDS: dict[str, ColumnKind] = {kind: kind for kind in get_args(ColumnKind)}
MAX_MISSING = 100
MAX_MISSING_LENGTH = 64

_CELL = {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "null")]}
_ROWS = {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": _CELL}}
_FILE = {"type": "string", "format": "binary"}
UPLOAD_BODY = {
    "required": True,
    "content": {
        **{kind: {"schema": _ROWS if found == "json" else _FILE} for kind, found in MEDIA_TYPES.items()},
        FORM: {
            "schema": {
                "type": "object",
                "required": [PART],
                "properties": {PART: _FILE},
                "additionalProperties": False,
            }
        },
    },
}

_NAME = WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}, {"type": "null"}]})
NameParameter = Annotated[str | None, _NAME, Query(description="What to call it; the file's name where there is one")]
KindsParameter = Annotated[
    list[Annotated[str, WithJsonSchema({"type": "string", "pattern": f":({'|'.join(KINDS)})$"})]],
    Query(description="COLUMN:KIND, as in `kinds=zip:categorical`; may be given more than once"),
]
MissingParameter = Annotated[
    list[Annotated[str, StringConstraints(max_length=MAX_MISSING_LENGTH)]] | None,
    Query(
        max_length=MAX_MISSING,
        description="A word that stands for a missing cell, as in `missing=NA&missing=-999`, instead of the usual "
        "ones; an empty cell is always missing, and `missing=` alone leaves it at that",
    ),
]


class DatasetChange(Frozen):
    """What to change of a data set; what is left out or null stays as it is."""

    name: Annotated[str | None, _NAME] = None
    """What to call it: 1 to 100 printable characters."""
    kinds: dict[str, ColumnKind] | None = None
    """The kinds of some columns, by name; they cannot change any more once there is a job on the data set."""


@router.post("", status_code=201, response_model=DatasetView, openapi_extra={"requestBody": UPLOAD_BODY})
@needs(Scope.SUBMIT)
async def upload(
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    key: KeyDependency,
    name: NameParameter = None,
    kinds: KindsParameter = [],  # noqa: B006  # FastAPI copies it
    missing: MissingParameter = None,
) -> Response:
    """Store a table: CSV, Parquet, NDJSON or JSON rows as the body, or as the part ``file`` of a form."""
    if name is not None:
        datasets.check_name(name)
    chosen_kinds = _kinds(kinds)
    words = None if missing is None else tuple(filter(None, missing))
    services.imports.check_room()
    async with services.imports.reader(request, services.table_limits) as reader, received(request) as arrived:
        wanted = ImportRequest(arrived.format, chosen_kinds, words)
        chosen_name = name or arrived.name or DEFAULT_NAME
        keyed = await keyed_upload(request, key, arrived)

        def add() -> Outcome[Dataset]:
            return datasets.add_dataset_once(
                database, chosen_name, arrived.file, wanted, reader, keyed, _added, services.quotas
            )

        with services.running.serving(keyed):
            earlier = await run_in_threadpool(replay, database, keyed)
            outcome = await services.imports.run(add) if earlier is None else earlier
    return answer_of(outcome)


@router.get("")
@needs(Scope.READ)
def list_datasets(database: DatabaseDependency, page: PageDependency) -> PageView[DatasetView]:
    """List data sets, newest first, without the histograms, quantiles and top values of their columns."""
    found = datasets.list_datasets(database, page)
    return PageView(items=[DatasetView.summary(dataset) for dataset in found.items], next_page_token=found.next_token)


@router.get("/{dataset_id}")
@needs(Scope.READ)
def get_dataset(dataset_id: str, database: DatabaseDependency) -> DatasetView:
    """Describe a data set."""
    return DatasetView.of(datasets.get_dataset(database, dataset_id))


@router.patch("/{dataset_id}")
@needs(Scope.SUBMIT)
def change(
    dataset_id: str, body: DatasetChange, services: ServicesDependency, database: DatabaseDependency
) -> DatasetView:
    """Give an upload another name, or some of its columns another kind."""
    changed = datasets.change_dataset(database, dataset_id, body.name, body.kinds or {}, services.table_limits)
    return DatasetView.of(changed)


@router.get("/{dataset_id}/rows")
@needs(Scope.READ)
def rows(
    dataset_id: str, services: ServicesDependency, database: DatabaseDependency, page: PageDependency
) -> PageView[dict[str, Any]]:
    """Read rows as objects by column name, in the table's order."""
    found = datasets.dataset_rows(database, dataset_id, page, services.datasets_dir)
    return PageView(items=found.items, next_page_token=found.next_token)


@router.delete("/{dataset_id}", status_code=204)
@needs(Scope.SUBMIT)
def delete(dataset_id: str, database: DatabaseDependency) -> None:
    """Delete an upload that no unfinished job needs."""
    datasets.delete_dataset(database, dataset_id)


def _added(dataset: Dataset) -> StoredAnswer:
    body = DatasetView.of(dataset).model_dump_json().encode()
    return StoredAnswer(201, {"Location": f"/datasets/{dataset.id}"}, body)


def _kinds(parameters: list[str]) -> dict[str, ColumnKind]:
    """Read ``zip:categorical``; a column's name may hold colons, a kind holds none."""
    found: dict[str, ColumnKind] = {}
    violations = []
    for text in parameters:
        column, colon, kind = text.rpartition(":")
        if not colon or kind not in KINDS:
            allowed = ", ".join(KINDS)
            violations.append(Violation("?kinds", f"must be COLUMN:KIND with a kind of {allowed}; got {shown(text)}"))
        elif column in found:
            violations.append(Violation("?kinds", f"names the column {shown(column)} twice"))
        else:
            found[column] = KINDS[kind]
    if violations:
        raise InvalidTable(violations)
    return found
