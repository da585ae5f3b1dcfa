"""/dashboard/datasets: the tables that are stored, and one of them with all that is known of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Response

from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import DatabaseDependency, PageDependency, ServicesDependency
from service.api.gate.scopes import needs
from service.domain.datasets import TRAINABLE_KINDS, ColumnKind, Dataset
from service.domain.keys import Scope
from service.use_cases import datasets

router = APIRouter(prefix="/dashboard/datasets", route_class=PageRoute, include_in_schema=False)

MOST_COLUMNS = 200
"""A page with more of them, each with a picture, would be slow to read and to draw."""
SHOWN_ROWS = 20
SHOWN_CELLS = 20_000
"""So many cells of the rows are read at once."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

Part = Annotated[str, Query(max_length=200)]


@router.get("")
@needs(Scope.READ)
def list_datasets(services: ServicesDependency, database: DatabaseDependency, wanted: PageDependency) -> Response:
    """Show the data sets, newest first."""
    found = datasets.list_datasets(database, wanted)
    return page(
        "datasets.html",
        here="datasets",
        datasets=[(dataset, _warnings(dataset)) for dataset in found.items],
        next_token=found.next_token,
        is_first=wanted.token is None,
        max_bytes=services.max_upload_bytes,
    )


@router.get("/{dataset_id}")
@needs(Scope.READ)
def show_dataset(
    dataset_id: str, services: ServicesDependency, database: DatabaseDependency, find: Part = ""
) -> Response:
    """Show a data set; of very many columns the first, or those whose name holds a text."""
    dataset = datasets.get_dataset(database, dataset_id)
    odd = [column for column in dataset.columns if column.warnings]
    fitting = [column for column in dataset.columns if find.casefold() in column.name.casefold()]
    return page(
        "dataset.html",
        here="datasets",
        dataset=dataset,
        columns=fitting[:MOST_COLUMNS],
        fitting=len(fitting),
        find=find,
        targets=[column.name for column in dataset.columns[-MOST_COLUMNS:]],
        target=_likely_target(dataset),
        kinds=get_args(ColumnKind),
        odd=odd[:MOST_COLUMNS],
        more_odd=max(0, len(odd) - MOST_COLUMNS),
        came_as=_came_as(dataset.report.source),
        are_rows_here=datasets.are_rows_here(dataset, services.datasets_dir),
        related=[asdict(pair) for pair in dataset.report.related],
        page_rows=max(1, min(SHOWN_ROWS, SHOWN_CELLS // max(1, len(dataset.columns)))),
    )


def _warnings(dataset: Dataset) -> int:
    return len(dataset.report.warnings) + sum(len(column.warnings) for column in dataset.columns)


def _likely_target(dataset: Dataset) -> str | None:
    """Return the column that is probably to be predicted: in tables as people keep them, the last usable one."""
    usable = [column.name for column in dataset.columns if column.kind in TRAINABLE_KINDS]
    return dataset.default_target or (usable[-1] if usable else None)


def _came_as(source: Mapping[str, Any]) -> str:
    """Say in which format a table came in and, for CSV, how it was written."""
    said = [str(source.get("format", "unknown")).upper()]
    separator = source.get("separator")
    if separator:
        said.append(f"cells separated by {SEPARATORS.get(separator, separator)}")
    if source.get("decimal") == ",":
        said.append("decimal comma")
    if source.get("encoding"):
        said.append(str(source["encoding"]).upper())
    return ", ".join(said)
