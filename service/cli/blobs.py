"""``selfnorm blobs``: where large files are kept; it works on the database itself, so only who runs the service can."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from service.cli.own_database import DataDir, opened
from service.cli.printing import ENDED_BADLY, MISUSED, fail, note, put


class Place(StrEnum):
    """Where files can be kept."""

    STORE = "store"
    DATABASE = "database"


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def blobs() -> None:
    """Look after large files: data sets, checkpoints, networks, results."""


@app.command()
def move(
    to: Annotated[Place, typer.Option(help="Into the object store that SELFNORM_BLOB_URL names, or back.")],
    data_dir: DataDir = None,
) -> None:
    """Move every file, one after the other, while the service runs; begun again, it goes on where it ended."""
    from service.settings import read_settings
    from service.use_cases.blob_moves import move_blobs

    store = read_settings().store
    if store is None:
        fail(MISUSED, "no object store is set", "say which: SELFNORM_BLOB_URL=s3://bucket/prefix")
    moved = size_bytes = damaged = 0
    with opened(data_dir, store=store) as database:
        try:
            for found in move_blobs(database, to_store=to is Place.STORE):
                if found.is_sound:
                    moved, size_bytes = moved + 1, size_bytes + found.size_bytes
                else:
                    damaged += 1
                    note(f"{found.sha256} is missing or damaged, and stays where it is")
        except Exception:  # whatever it was, how far it came is said; what is wrong is told by who called
            note(f"{moved} files were moved; begun again, it goes on from there")
            raise
    put(f"{moved} files were moved to the {to.value}: {size_bytes / 2**20:.1f} MiB")
    if damaged:
        raise typer.Exit(ENDED_BADLY)
