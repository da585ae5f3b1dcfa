"""``selfnorm datasets``: what is stored, what its columns are, what is added and removed."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import command, connected
from service.cli.options import ApiKey, AsJson, DatasetId, Limit, Url
from service.cli.printing import put, put_facts, put_json, put_table
from service.cli.uploading import uploaded
from service.cli.wording import age, count, measure, names, size

if TYPE_CHECKING:
    from service.api.views.datasets import ColumnView, DatasetView

HEADINGS = ("id", "name", "rows", "columns", "size", "age", "warnings")
COLUMN_HEADINGS = ("column", "kind", "missing", "unique", "mean", "std", "min", "max", "examples")

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def datasets(
    context: typer.Context, limit: Limit = 50, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None
) -> None:
    """List data sets, newest first; or show, add or remove one."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context, context.invoked_subcommand)
        return
    with connected(url, api_key) as client:
        found = list(islice(client.datasets.list(), limit))
    if as_json:
        put_json([dataset.model_dump(mode="json") for dataset in found])
    else:
        put_table(
            HEADINGS, map(_cells, found), empty=f"no data sets; add one: {command(url, 'datasets', 'add', 'FILE')}"
        )


@app.command()
def show(dataset_id: DatasetId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Show a data set: its columns, and what is odd about them."""
    with connected(url, api_key) as client:
        found = client.datasets.get(dataset_id)
    if as_json:
        put_json(found.model_dump(mode="json"))
        return
    put_facts(_facts(found))
    put("")
    put_table(COLUMN_HEADINGS, map(_column_cells, found.columns), empty="no columns")


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .csv, .parquet, .ndjson, .jsonl or .json file.", exists=True)
    ],
    name: Annotated[str | None, typer.Option(help="What to call it; else the file's name.", show_default=False)] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Upload a file as a data set."""
    with connected(url, api_key) as client:
        found = uploaded(client, str(file), name)
    if as_json:
        put_json(found.model_dump(mode="json"))
        return
    put_facts(_facts(found))
    put("", command(url, "train", found.id, "--target", found.columns[-1].name))


@app.command("rm")
def remove(dataset_id: DatasetId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Remove a data set that no unfinished job needs."""
    with connected(url, api_key) as client:
        client.datasets.delete(dataset_id)
    if as_json:
        put_json({"id": dataset_id, "removed": True})
    else:
        put(f"removed {dataset_id}")


def _refuse_options_before(context: typer.Context, subcommand: str) -> None:
    """Refuse what stands before a subcommand, which has options of its own: it would ask another service than is named.

    Raises:
        typer.BadParameter: there is an option.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            option = parameter.opts[0]
            raise typer.BadParameter(
                f"{option} stands before {subcommand}, which does not see it; say it behind, if {subcommand} takes it: "
                f"selfnorm datasets {subcommand} ... {option} ...",
                param_hint=option,
            )


def _cells(dataset: "DatasetView") -> Iterator[object]:
    yield dataset.id
    yield dataset.name
    yield f"{dataset.rows:,}"
    yield f"{len(dataset.columns):,}"
    yield size(dataset.size_bytes)
    yield "built in" if dataset.builtin else age(dataset.created_at)
    yield sum(len(column.warnings) for column in dataset.columns) + len(dataset.warnings) or ""


def _facts(dataset: "DatasetView") -> Iterator[tuple[str, object]]:
    yield "data set", dataset.id
    yield "name", dataset.name
    yield "holds", f"{count(dataset.rows, 'row')}, {count(len(dataset.columns), 'column')}, {size(dataset.size_bytes)}"
    yield "repeated", f"{count(dataset.duplicate_rows, 'row')}" if dataset.duplicate_rows else None
    for pair in dataset.related:
        yield "related", f"{pair.first} and {pair.second}: {pair.how.replace('_', ' ')}, {measure(pair.strength)}"
    for warning in dataset.warnings:
        yield "warning", warning
    for column in dataset.columns:
        for warning in column.warnings:
            yield "warning", f"column {column.name}: {warning}"


def _column_cells(column: "ColumnView") -> Iterator[object]:
    yield column.name
    yield column.kind
    yield column.missing or ""
    yield column.unique
    yield measure(column.mean)
    yield measure(column.std)
    yield measure(column.min)
    yield measure(column.max)
    yield names([str(example) for example in column.examples])
