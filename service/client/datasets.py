"""Data sets: upload, list, describe, read, change, delete."""

from collections.abc import Iterable, Mapping
from typing import Any

from service.api.views.datasets import DatasetView
from service.client import answers
from service.client.methods import AsyncResource, Resource, awaited, listed, listed_async, sent
from service.client.requests import Reference, at, given, listing, with_json
from service.client.sources import Source, table_of
from service.client.steps import Call, Exchange, Listing, Steps, Work
from service.domain.datasets import ColumnKind
from service.domain.table_formats import TableFormat

READ_SECONDS = 330.0
"""The service takes up to five minutes to read a table, and answers then."""


def upload(
    source: Source,
    name: str | None = None,
    *,
    kinds: Mapping[str, ColumnKind] | None = None,
    missing: Iterable[str] | None = None,
    format: TableFormat | None = None,  # noqa: A002  # what users call it
) -> Steps[DatasetView]:
    """Upload a table, and return what the service makes of it.

    ``source`` is a path, bytes or an open binary file (CSV, Parquet, NDJSON or JSON rows; ``format`` says which where a
    name does not), a pandas or polars DataFrame, a pyarrow Table, a NumPy array of rows, or a list of row dicts. NaN,
    None, NaT and NA are missing cells; a pandas index is left out. ``name`` is what to call it; else the file's name.
    ``kinds`` says what columns are where the guess would be wrong, as in ``{"zip": "categorical"}``; ``missing`` are
    the words that stand for a missing cell, in place of the usual ones.
    """
    table = yield from Work(lambda: table_of(source, format))
    with table:
        words = None if missing is None else list(missing) or [""]
        columns = None if kinds is None else [f"{column}:{kind}" for column, kind in kinds.items()]
        params = given(name=name or table.name, kinds=columns, missing=words)
        headers = {"Content-Type": table.media_type}
        exchange = Exchange("POST", "/datasets", params, headers, table.body, wait_seconds=READ_SECONDS)
        return (yield from Call(exchange, answers.view(DatasetView), creates=True))


def list_all() -> Listing[DatasetView]:
    """List data sets, newest first; they come as they are gone through, without their columns' histograms."""
    return Listing(lambda token: Call(listing("/datasets", token), answers.page(DatasetView)))


def get(dataset: Reference) -> Call[DatasetView]:
    """Describe a data set."""
    return Call(Exchange("GET", at("datasets", dataset)), answers.view(DatasetView))


def rows(dataset: Reference) -> Listing[dict[str, Any]]:
    """Read rows as dicts by column name, in the table's order, as they are gone through."""
    return Listing(
        lambda token: Call(
            listing(at("datasets", dataset, "rows"), token),
            answers.plain_page,
        )
    )


def rename(dataset: Reference, name: str) -> Call[DatasetView]:
    """Give an upload another name."""
    return _changed(dataset, {"name": name})


def set_kinds(dataset: Reference, kinds: Mapping[str, ColumnKind]) -> Call[DatasetView]:
    """Say what some columns are; it cannot change any more once there is a job on the data set."""
    return _changed(dataset, {"kinds": dict(kinds)})


def delete(dataset: Reference) -> Call[None]:
    """Delete an upload that no unfinished job needs."""
    return Call(Exchange("DELETE", at("datasets", dataset)), answers.nothing, removes=True)


def _changed(dataset: Reference, body: dict[str, Any]) -> Call[DatasetView]:
    return Call(with_json("PATCH", at("datasets", dataset), body), answers.view(DatasetView))


class Datasets(Resource):
    """The data sets of a service."""

    upload = sent(upload)
    list = listed(list_all)
    get = sent(get)
    rows = listed(rows)
    rename = sent(rename)
    set_kinds = sent(set_kinds)
    delete = sent(delete)


class AsyncDatasets(AsyncResource):
    """The data sets of a service, awaited."""

    upload = awaited(upload)
    list = listed_async(list_all)
    get = awaited(get)
    rows = listed_async(rows)
    rename = awaited(rename)
    set_kinds = awaited(set_kinds)
    delete = awaited(delete)
