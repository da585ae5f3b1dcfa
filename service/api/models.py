"""/models: what is registered, which version answers, and the files of each."""

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from service.api.dependencies import DatabaseDependency, KeyedDependency, PageDependency, ServicesDependency, answer_of
from service.api.gate.scopes import needs
from service.api.predictions import accepted
from service.api.strict_bodies import StrictRoute
from service.api.views.base import PageView
from service.api.views.models import AliasesView, AliasSummaryView, AliasView, ModelView, VersionView
from service.api.views.predictions import PredictionJobView
from service.api.waiting import has_tag
from service.domain.bounds import Between, Frozen
from service.domain.keys import Scope
from service.domain.models import MAX_VERSION, AliasName
from service.domain.predictions import EvaluationSpec
from service.use_cases import model_files, models, predictions
from service.use_cases.idempotency import StoredAnswer
from service.use_cases.model_card import write_card
from service.use_cases.model_facts import read_facts
from service.use_cases.model_files import FileName

router = APIRouter(prefix="/models", tags=["models"], route_class=StrictRoute)

PIECE_BYTES = 256 * 1024
BINARY = "application/octet-stream"
MEDIA_TYPES: dict[FileName, str] = {
    "model.keras": BINARY,
    "model.onnx": BINARY,
    "encoder.json": "application/json",
}
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}, "application/json": {"schema": {}}},
    },
    304: {"description": "Nothing has changed since that ETag"},
}
Number = Annotated[int, Path(ge=1, le=MAX_VERSION)]


class AliasRequest(Frozen):
    """Which version an alias is to stand for."""

    version: Annotated[int, Between(1, MAX_VERSION)]
    """Its number."""


@router.get("")
@needs(Scope.READ)
def list_models(database: DatabaseDependency, page: PageDependency) -> PageView[ModelView]:
    """List models, newest first."""
    found = models.list_models(database, page)
    return PageView(items=[ModelView.of(model) for model in found.items], next_page_token=found.next_token)


@router.get("/{name}")
@needs(Scope.READ)
def get_model(name: str, database: DatabaseDependency) -> ModelView:
    """Read a model with its versions and aliases."""
    return ModelView.of(models.get_model(database, name))


@router.get("/{name}/aliases")
@needs(Scope.READ)
def list_aliases(name: str, database: DatabaseDependency) -> AliasesView:
    """List the aliases of a model, by name."""
    return AliasesView(items=[AliasSummaryView.of(alias) for alias in models.list_aliases(database, name)])


@router.get("/{name}/aliases/{alias}")
@needs(Scope.READ)
def get_alias(name: str, alias: str, database: DatabaseDependency) -> AliasView:
    """Read an alias with its history."""
    return AliasView.of(name, *models.get_alias(database, name, alias))


@router.put("/{name}/aliases/{alias}")
@needs(Scope.SUBMIT)
def set_alias(name: str, alias: AliasName, body: AliasRequest, database: DatabaseDependency) -> AliasView:
    """Let an alias stand for a version, from now on in every process; where it does already, nothing changes."""
    return AliasView.of(name, *models.set_alias(database, name, alias, body.version))


@router.delete("/{name}/aliases/{alias}", status_code=204)
@needs(Scope.SUBMIT)
def remove_alias(name: str, alias: str, database: DatabaseDependency) -> None:
    """Remove an alias; its history stays, and rolling back brings it back."""
    models.remove_alias(database, name, alias)


@router.post("/{name}/aliases/{alias}/rollback", response_model=AliasView)
@needs(Scope.SUBMIT)
def roll_back_alias(
    name: str, alias: str, services: ServicesDependency, database: DatabaseDependency, keyed: KeyedDependency
) -> Response:
    """Let an alias stand for what it stood for before its last change; again, for what it stood for before that."""

    def answer(found: models.AliasWithHistory) -> StoredAnswer:
        return StoredAnswer(200, {}, AliasView.of(name, *found).model_dump_json().encode())

    with services.running.serving(keyed):
        return answer_of(models.roll_back_alias_once(database, name, alias, keyed, answer))


@router.get("/{name}/versions/{version}")
@needs(Scope.READ)
def get_version(name: str, version: Number, database: DatabaseDependency) -> VersionView:
    """Read all that is known of a version: spec, data, metrics, calibration, columns, parity, files."""
    return VersionView.of(read_facts(database, name, version))


@router.delete("/{name}/versions/{version}", status_code=204)
@needs(Scope.SUBMIT)
def delete_version(name: str, version: Number, database: DatabaseDependency) -> None:
    """Delete a version with its files; its number is not given again."""
    models.delete_version(database, name, version)


@router.post("/{name}/versions/{version}/evaluate", status_code=202, response_model=PredictionJobView)
@needs(Scope.SUBMIT)
def evaluate(
    name: str,
    version: Number,
    spec: EvaluationSpec,
    services: ServicesDependency,
    database: DatabaseDependency,
    keyed: KeyedDependency,
) -> Response:
    """Predict over every row of a stored data set, and hold the answers against what it says was true."""
    with services.running.serving(keyed):
        outcome = predictions.submit_evaluation_once(database, name, version, spec, keyed, accepted, services.quotas)
    if outcome.made is not None:
        services.doorbell.ring(outcome.made.id)
    return answer_of(outcome)


@router.get(
    "/{name}/versions/{version}/card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}},
)
@needs(Scope.READ)
def get_card(name: str, version: Number, request: Request, database: DatabaseDependency) -> Response:
    """Read the model card as Markdown: what it predicts, from which data, how good it is, how to ask it."""
    card = write_card(read_facts(database, name, version), str(request.base_url).rstrip("/"))
    return Response(card, media_type="text/markdown", headers={"X-Content-Type-Options": "nosniff"})


@router.head("/{name}/versions/{version}/files/{file}", include_in_schema=False)
@router.get("/{name}/versions/{version}/files/{file}", response_class=Response, responses=FILE_RESPONSES)
@needs(Scope.READ)
async def get_file(
    name: str, version: Number, file: FileName, request: Request, database: DatabaseDependency
) -> Response:
    """Read a file of a version: the ONNX graph, the Keras file, or what encodes rows for them."""
    found = await run_in_threadpool(model_files.find_file, database, name, version, file)
    headers = {
        "ETag": f'"{found.sha256}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="{name}-{version}-{file}"',
        "Content-Length": str(found.size_bytes),
    }
    if has_tag(request, headers["ETag"]):
        return Response(status_code=304, headers={"ETag": headers["ETag"]})
    if request.method == "HEAD":
        return Response(headers=headers, media_type=MEDIA_TYPES[file])
    opened = await run_in_threadpool(model_files.open_file, database, name, version, found)
    return StreamingResponse(_pieces(opened), headers=headers, media_type=MEDIA_TYPES[file])


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")
