"""The database as commands open it that work on it themselves: only who runs the service can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.printing import MISUSED, UNREACHABLE, fail

if TYPE_CHECKING:
    from service.storage.database import Database
    from service.storage.object_store import ObjectStore

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of `selfnorm up`; without it, the database that the settings name.", show_default=False
    ),
]


@contextmanager
def opened(data_dir: Path | None, *misuses: type[Exception], store: ObjectStore | None = None) -> Iterator[Database]:
    """Open the database; what goes wrong with it or with what was asked is said and ends the command.

    ``store`` is where large files are, for a command that reads them.

    Raises:
        typer.Exit: what was asked cannot be (2, for one of ``misuses``), or the database cannot be used (4).
    """
    from service.storage.database import Database
    from service.storage.faults import DATABASE_FAULTS, is_unmigrated, reason
    from service.storage.object_store import ObjectStoreDown

    database = Database(_url(data_dir), store=store)
    try:
        yield database
    except misuses as error:
        fail(MISUSED, error)
    except ObjectStoreDown as error:
        fail(UNREACHABLE, error, "look closer: selfnorm doctor")
    except DATABASE_FAULTS as error:
        advice = "run: selfnorm migrate" if is_unmigrated(error) else "look closer: selfnorm doctor"
        fail(UNREACHABLE, f"the database cannot be used: {reason(error)}", advice)
    finally:
        database.close()


def _url(data_dir: Path | None) -> str:
    """Return where everything is kept.

    Raises:
        typer.Exit: there is no such file, and SQLite would make an empty one.
    """
    from service.settings import read_settings
    from service.storage.database import sqlite_file, sqlite_url

    url = read_settings().database_url if data_dir is None else sqlite_url(data_dir.expanduser() / "selfnorm.db")
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        fail(
            UNREACHABLE,
            f"there is no database at {file}",
            "say which folder of `selfnorm up` it is: --data-dir DIR, or which database: SELFNORM_DATABASE_URL",
            "or make it: selfnorm migrate",
        )
    return url
