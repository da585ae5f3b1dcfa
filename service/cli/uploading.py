"""Files that become data sets of the service before something is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from service.cli.connection import command
from service.cli.printing import note, reason
from service.cli.wording import count

if TYPE_CHECKING:
    from service.api.views.datasets import DatasetView
    from service.client import Client

ARGUMENT = "FILE|DATASET"


def stored(client: Client, source: str | None, asked: Mapping[str, Any], url: str | None) -> str | None:
    """Return the id of the data set that a command names: itself, or by a file that is uploaded, or in its spec.

    Raises:
        typer.BadParameter: it names none, or a file that cannot be sent.
    """
    from service.client.sources import is_file

    if source is None:
        found: str | None = asked.get("dataset")
        return found
    if not is_file(source):
        return source
    dataset = uploaded(client, source)
    shape = f"{count(dataset.rows, 'row')}, {count(len(dataset.columns), 'column')}"
    note(f"uploaded {source} as data set {dataset.id}: {shape}")
    if dataset.warnings or any(column.warnings for column in dataset.columns):
        note(f"it has warnings: {command(url, 'datasets', 'show', dataset.id)}")
    return dataset.id


def uploaded(client: Client, path: str, name: str | None = None) -> DatasetView:
    """Upload a file.

    Raises:
        typer.BadParameter: it cannot be read, or its name does not say what it holds.
    """
    from service.client import SelfnormError

    try:
        return client.datasets.upload(Path(path), name)
    except SelfnormError:  # some of them are errors of the kinds below as well
        raise
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be uploaded: {reason(error)}", param_hint=ARGUMENT) from None
