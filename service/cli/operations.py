"""Commands that run the service on this machine and look after it; each loads only what it runs."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from service.cli.printing import MISUSED, fail

EXTRAS = {"api": ("fastapi", "uvicorn", "prometheus_client"), "worker": ("keras", "tensorflow", "onnx")}
"""What tells whether an extra is installed. It is looked for only: importing it takes seconds."""

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)]
DataDir = Annotated[Path, typer.Option(help="The folder that holds everything: database, broker, logs.")]


def up(host: Host = "127.0.0.1", port: Port = 8000, data_dir: DataDir = Path("data")) -> None:
    """Run the whole service on this machine: broker, worker, API and SQLite in one folder."""
    _need("up", "api", "worker")
    from service.embedded import run
    from service.settings import read_settings

    raise typer.Exit(run(read_settings(), host, port, data_dir))


def demo() -> None:
    """Train the article's network on a real table through the public API, and show what it learned."""
    _need("demo", "api", "worker")
    from service.demo import run

    raise typer.Exit(run())


def api(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run the API process; it needs the extra `api`."""
    _need("api", "api")
    # NumPy reads this when it is imported. Requests run side by side already; threads in each of them get in their way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from service.processes import loading
    from service.settings import read_settings

    settings = read_settings()
    with loading():
        if settings.api_processes == 1:
            from service.server import serve
        else:
            from service.acceptor import serve
    raise typer.Exit(serve(settings, host, port))


def worker() -> None:
    """Run a training worker; it needs the extra `worker`."""
    _need("worker", "worker")
    # The process becomes the worker: this package must not import TensorFlow, and signals must reach Celery.
    os.execv(sys.executable, [sys.executable, "-m", "workers"])  # noqa: S606  # the running interpreter, no shell


def migrate() -> None:
    """Bring the database to this version's schema and store the built-in data sets."""
    from service.settings import read_settings
    from service.stocking import add_builtin_datasets, can_read_all
    from service.storage.database import Database, make_folder
    from service.storage.faults import reason
    from service.storage.schema import FAULTS, upgrade

    settings = read_settings()
    try:
        make_folder(settings.database_url)
        database = Database(settings.database_url, store=settings.store)
        upgrade(database)
        add_builtin_datasets(database)
        database.close()
    except FAULTS as error:
        raise SystemExit(f"selfnorm: the database cannot be brought up to date: {reason(error)}") from None
    if not can_read_all():
        typer.echo("scikit-learn is not installed here: the first worker stores its five tables (iris and so on)")


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder of `selfnorm up`; without it, what the settings name is looked at.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Look at every part without touching it; say what is wrong and what to do. Status 1 if there is a problem."""
    from service.doctor.report import run
    from service.settings import read_settings

    raise typer.Exit(run(read_settings(), data_dir, as_json))


def backup(
    folder: Annotated[Path, typer.Argument(help="Where the backup goes: a folder that is empty or not there yet.")],
    data_dir: DataDir = Path("data"),
) -> None:
    """Copy the data folder of `selfnorm up`, while it runs, to a folder that it can run on."""
    from service.backup import run

    raise typer.Exit(run(data_dir, folder))


def _need(command: str, *extras: str) -> None:
    """Say what to install where the packages of an extra are missing.

    Raises:
        typer.Exit: one is.
    """
    missing = [package for extra in extras for package in EXTRAS[extra] if find_spec(package) is None]
    if missing:
        fail(
            MISUSED,
            f"`selfnorm {command}` needs packages that are not installed: {', '.join(missing)}",
            f"install them: pip install '.[{','.join(extras)}]', in the checkout",
        )
