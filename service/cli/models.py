"""Commands about models: list them, move an alias, save the files of a version."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.completing import complete_alias, complete_model
from service.cli.connection import command, connected
from service.cli.options import ApiKey, AsJson, Limit, ModelName, Url
from service.cli.printing import MISUSED, fail, put, put_json, put_table, reason
from service.cli.row_writing import text_to
from service.cli.wording import age, measures, size

if TYPE_CHECKING:
    from service.api.views.models import AliasChangeView, ModelView, VersionSummaryView
    from service.client import Client
    from service.client.models import FileName

HEADINGS = ("model", "versions", "answers", "aliases", "age", "test part of the newest")
VERSION_HEADINGS = ("version", "aliases", "job", "age", "test part", "validation")


class ExportFormat(StrEnum):
    """What of a version can be saved."""

    ONNX = "onnx"
    KERAS = "keras"
    ENCODER = "encoder"
    CARD = "card"


FILES: "dict[ExportFormat, FileName]" = {
    ExportFormat.ONNX: "model.onnx",
    ExportFormat.KERAS: "model.keras",
    ExportFormat.ENCODER: "encoder.json",
}
ENDINGS = {**FILES, ExportFormat.CARD: "card.md"}


def models(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Show the versions of this one.", autocompletion=complete_model),
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List models, newest first; or the versions of one."""
    with connected(url, api_key) as client:
        found = list(islice(client.models.list(), limit)) if model is None else client.models.get(model)
    if isinstance(found, list):
        if as_json:
            put_json([each.model_dump(mode="json") for each in found])
        else:
            put_table(HEADINGS, map(_cells, found), empty=f"no models; train one: {command(url, 'train', 'iris')}")
    elif as_json:
        put_json(found.model_dump(mode="json"))
    else:
        put_table(VERSION_HEADINGS, (_version_cells(found, each) for each in found.versions), empty="no versions")


def alias(
    model: ModelName,
    name: Annotated[
        str,
        typer.Argument(metavar="ALIAS", help="Such as production.", autocompletion=complete_alias, show_default=False),
    ],
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="What it is to stand for.", show_default=False)
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Let it stand for what it stood for before its last change.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Let an alias of a model stand for a version; with neither version nor --rollback, show it."""
    if rollback and version is not None:
        raise typer.BadParameter("say a version, or --rollback, not both")
    with connected(url, api_key) as client:
        if rollback:
            found = client.models.rollback(model, name)
        elif version is not None:
            found = client.models.set_alias(model, name, version)
        else:
            found = client.models.alias(model, name)
    if as_json:
        put_json(found.model_dump(mode="json"))
        return
    put(f"{found.alias} of {found.model} stands for version {found.version}")
    if rollback or version is not None:
        return
    put_table(("change", "from", "to", "age"), map(_change_cells, found.history), empty="no changes")


def export(
    model: ModelName,
    version: Annotated[int | None, typer.Option(help="Left out: the one that answers.", show_default=False)] = None,
    form: Annotated[ExportFormat, typer.Option("--format", help="Which file.")] = ExportFormat.ONNX,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file or a folder; else a file here.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Save a version's network (ONNX, Keras), its encoder or its model card."""
    with connected(url, api_key) as client:
        chosen = client.models.get(model).default_version if version is None else version
        if chosen is None:
            fail(MISUSED, f"every version of {model} has been deleted; train one, or name another model")
        name = f"{model}-{chosen}.{ENDINGS[form].removeprefix('model.')}"
        path = output / name if output and output.is_dir() else output or Path(name)
        if path.exists() and not path.is_file():  # a file must not take the place of a device
            raise typer.BadParameter(f"{path} is neither a file nor a folder", param_hint="--output")
        _save(client, model, chosen, form, path)
    written = path.stat().st_size
    if as_json:
        put_json({"model": model, "version": chosen, "format": form, "path": str(path), "size_bytes": written})
    else:
        put(f"{path}: version {chosen} of {model}, {size(written)}")


def _save(client: "Client", model: str, version: int, form: ExportFormat, path: Path) -> None:
    """Write a file, whole or not at all."""
    from service.client import SelfnormError

    try:
        if form is ExportFormat.CARD:
            card = client.models.card(model, version)
            with text_to(path) as stream:
                stream.write(card)
        else:
            client.models.download(model, version, FILES[form], path)
    except SelfnormError:  # some of them are an OSError as well
        raise
    except OSError as error:
        fail(MISUSED, f"{path} cannot be written: {reason(error)}")


def _cells(model: "ModelView") -> Iterator[object]:
    yield model.name
    yield len(model.versions)
    yield model.default_version
    yield ", ".join(f"{name}={version}" for name, version in model.aliases.items())
    yield age(model.created_at)
    yield measures(model.versions[0].metrics.test) if model.versions else ""


def _version_cells(model: "ModelView", version: "VersionSummaryView") -> Iterator[object]:
    yield version.version
    yield ", ".join(name for name, stands_for in model.aliases.items() if stands_for == version.version)
    yield version.job_id
    yield age(version.created_at)
    yield measures(version.metrics.test)
    yield measures({name: value for name, value in (version.metrics.best or {}).items() if name.startswith("val_")})


def _change_cells(change: "AliasChangeView") -> Iterator[object]:
    yield change.kind.replace("_", " ")
    yield change.previous_version
    yield change.version
    yield age(change.created_at)
