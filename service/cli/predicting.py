"""``selfnorm predict``: rows of a file in, the same rows with their predictions out, a piece at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.connection import connected
from service.cli.options import ApiKey, ModelName, Url
from service.cli.printing import MISUSED, fail, note
from service.cli.row_files import Piece, RowFormat, pieces_of
from service.cli.row_writing import CsvWriter, JsonWriter, written_to
from service.cli.wording import names

if TYPE_CHECKING:
    from service.api.views.models import VersionView
    from service.client import Client
    from service.client.predict import Prediction


def predict(
    model: ModelName,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="Rows as .csv, .ndjson, .jsonl, .json or .parquet; - reads stdin.",
            show_default=False,
        ),
    ],
    version: Annotated[int | None, typer.Option(help="Ask this version.", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option(help="Ask what this alias stands for.", show_default=False)] = None,
    form: Annotated[
        RowFormat | None,
        typer.Option("--format", help="How the rows are written; else the name says it, or csv.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, all or nothing.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON list of objects in place of CSV.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Predict for every row of a file; the rows come back as CSV, with their predictions behind them."""
    if version is not None and alias is not None:
        raise typer.BadParameter("say --version or --alias, not both")
    with connected(url, api_key) as client:
        asked = client.models.version(model, _version(client, model, version, alias))
        pieces = pieces_of(None if file == "-" else Path(file), form, [column.name for column in asked.inputs])
        with written_to(output, is_json=as_json) as writer:
            count = _predict(client, asked, pieces, writer)
            if not count:
                raise typer.BadParameter(f"there are no rows in {file}", param_hint="FILE|-")
    if output is not None:
        note(f"{output}: {count:,} predictions of {model} version {asked.version}")


def _predict(client: "Client", asked: "VersionView", pieces: Iterable[Piece], writer: CsvWriter | JsonWriter) -> int:
    """Write the rows of all pieces with their answers, and return how many there were."""
    warned = count = 0
    for piece in pieces:
        if not count:
            writer.begin(_columns(asked, piece))
        found = _asked(client, asked, piece)
        if found.warnings and not warned:
            _warn(found.warnings, piece)
        warned += bool(found.warnings)
        writer.write(_answered(piece, found))
        count += len(piece.rows)
    if warned > 1:
        note(f"there were such warnings about {warned:,} pieces of the rows; those about the first are shown")
    return count


def _version(client: "Client", model: str, version: int | None, alias: str | None) -> int:
    """Return which version to ask, the same one for all pieces."""
    if version is not None:
        return version
    if alias is not None:
        return client.models.alias(model, alias).version
    found = client.models.get(model).default_version
    if found is None:
        fail(MISUSED, f"every version of {model} has been deleted; train one, or name another model")
    return found


def _columns(asked: "VersionView", piece: Piece) -> tuple[str, ...]:
    """Name the columns that are written, as in the result of a prediction over a stored data set."""
    from service.domain.models import Outputs
    from service.domain.predictions import ResultColumns

    taken = {column.name for column in asked.inputs}
    if others := [name for name in piece.names if name not in taken and name != asked.output.target]:
        note(f"columns that the model does not take are passed through: {names(others)}")
    outputs = Outputs(asked.output.task, asked.output.target, tuple(asked.output.classes or ()))
    return ResultColumns.of(piece.names, outputs, probabilities=True).names


def _asked(client: "Client", asked: "VersionView", piece: Piece) -> "Prediction":
    from service.client import ApiError

    try:
        return client.predict(asked.name, piece.only([column.name for column in asked.inputs]), version=asked.version)
    except ApiError as error:
        if piece.start:
            error.add_note(f"rows are counted from row {piece.start:,} of the file on (its first is 0)")
        raise
    except (TypeError, ValueError) as error:  # the client sends no infinite number
        raise typer.BadParameter(
            f"the rows from {piece.start:,} on cannot be sent: {error}", param_hint="FILE|-"
        ) from None


def _warn(warnings: list[str], piece: Piece) -> None:
    for warning in warnings:
        note(f"rows from {piece.start:,} on: {warning}" if piece.start else warning)


def _answered(piece: Piece, found: "Prediction") -> Iterator[list[Any]]:
    """Return the rows of a piece with their answers behind them."""
    labels = found.predictions.tolist()
    every = [()] * len(labels) if found.probabilities is None else found.probabilities
    # The text of a float32 is the shortest that means it; as a Python float it would have twice as many digits.
    shares = (map(float, map(str, row)) for row in every)
    return ([*row, label, *share] for row, label, share in zip(piece.rows, labels, shares, strict=True))
