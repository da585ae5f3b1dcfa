"""/datasets: upload a table, list, describe, read rows, delete."""

import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from service.api.dependencies import PageDependency, ServicesDependency, media_type
from service.api.views import DatasetView, PageView
from service.domain.errors import MalformedRequest
from service.use_cases import datasets

router = APIRouter(prefix="/datasets", tags=["data sets"])

COPY_BYTES = 1 << 20
DEFAULT_NAME = "dataset"
UPLOAD_BODY = {
    "required": True,
    "content": {
        "text/csv": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
    },
}


@router.post("", status_code=201, openapi_extra={"requestBody": UPLOAD_BODY})
async def upload(
    request: Request,
    services: ServicesDependency,
    response: Response,
    name: Annotated[str | None, Query(description="What to call it; the file's name where there is one")] = None,
) -> DatasetView:
    """Store a table: a CSV file as the body, or as the part ``file`` of a form."""
    with tempfile.TemporaryDirectory(prefix="selfnorm-upload-") as folder:
        path = Path(folder) / "upload.csv"
        file_name = await _spool(request, path)
        chosen = name if name is not None else Path(file_name or DEFAULT_NAME).stem
        dataset = await run_in_threadpool(datasets.add_dataset, services.database, chosen, path)
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return DatasetView.of(dataset)


@router.get("")
def list_datasets(services: ServicesDependency, page: PageDependency) -> PageView[DatasetView]:
    """List data sets, newest first."""
    found = datasets.list_datasets(services.database, page)
    return PageView(items=[DatasetView.of(dataset) for dataset in found.items], next_page_token=found.next_token)


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, services: ServicesDependency) -> DatasetView:
    """Describe a data set."""
    return DatasetView.of(datasets.get_dataset(services.database, dataset_id))


@router.get("/{dataset_id}/rows")
def rows(dataset_id: str, services: ServicesDependency, page: PageDependency) -> PageView[dict[str, Any]]:
    """Read rows as objects by column name, in the table's order."""
    found = datasets.dataset_rows(services.database, dataset_id, page, services.datasets_dir)
    return PageView(items=found.items, next_page_token=found.next_token)


@router.delete("/{dataset_id}", status_code=204)
def delete(dataset_id: str, services: ServicesDependency) -> None:
    """Delete an upload that no unfinished job needs."""
    datasets.delete_dataset(services.database, dataset_id)


async def _spool(request: Request, path: Path) -> str | None:
    """Copy an upload to a file, piece by piece; return the name it had, where it had one."""
    kind = media_type(request)
    if kind == "text/csv":
        with path.open("wb") as file:
            async for piece in request.stream():
                file.write(piece)
        return None
    if kind != "multipart/form-data":
        got = kind[:64] or "no Content-Type"
        detail = f"a table must come as text/csv or as the part 'file' of multipart/form-data; got {got}"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    try:
        form = await request.form(max_files=1, max_fields=10)
    except UnicodeError:
        raise MalformedRequest("the form has text that its charset cannot read; send it as UTF-8") from None
    try:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise MalformedRequest("the form has no part named 'file' that is a file; with curl: -F file=@table.csv")
        with path.open("wb") as file:
            while piece := await part.read(COPY_BYTES):
                file.write(piece)
        return part.filename
    finally:
        await form.close()
