"""The root of the command line: every command, and the heading of ``--help`` that it stands under."""

from collections.abc import Callable

import typer

from service.cli import (
    auditing,
    blobs,
    comparing,
    datasets,
    jobs,
    keys,
    models,
    operations,
    predicting,
    training,
    versions,
    watching,
    webhooks,
)
from service.cli.command_group import CommandGroup

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train": (training.train, watching.watch, comparing.compare),
    "Jobs": (
        jobs.jobs,
        jobs.job,
        jobs.cancel,
        jobs.pause,
        jobs.resume,
        jobs.retry,
        comparing.comparisons,
        comparing.comparison,
    ),
    "Models": (predicting.predict, models.models, models.alias, models.export),
    "Data": (),
    "The service": (
        operations.up,
        operations.demo,
        operations.api,
        operations.worker,
        operations.migrate,
        operations.doctor,
        operations.backup,
        auditing.audit,
        versions.version,
    ),
}

app = typer.Typer(
    cls=CommandGroup,
    help="Train self-normalizing neural networks on your data and serve them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "obj": list(COMMANDS)},
)

for _heading, _commands in COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_heading)(_command)
app.add_typer(datasets.app, name="datasets", rich_help_panel="Data")
app.add_typer(keys.app, name="keys", rich_help_panel="The service")
app.add_typer(blobs.app, name="blobs", rich_help_panel="The service")
app.add_typer(webhooks.app, name="webhooks", rich_help_panel="The service")
