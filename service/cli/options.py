"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.cli.completing import complete_dataset, complete_job, complete_model

CONNECTION = "Connection"


class TaskName(StrEnum):
    """What can be learned."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class NetworkKind(StrEnum):
    """Networks that can be asked for."""

    SNN = "snn"
    MLP = "mlp"


Url = Annotated[
    str | None,
    typer.Option(envvar="SELFNORM_URL", help="Where the service is; else http://127.0.0.1:8000.", show_default=False),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="SELFNORM_API_KEY", help="The key to show it; the variable is the safer place.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else on stdout.")]
Limit = Annotated[int, typer.Option(help="The most that are shown.", min=1)]

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|DATASET",
        help="A file to upload (.csv, .parquet, .ndjson, .jsonl, .json), or the id of a stored data set.",
        autocompletion=complete_dataset,
        show_default=False,
    ),
]
DatasetId = Annotated[
    str, typer.Argument(metavar="ID", help="The data set's id.", autocompletion=complete_dataset, show_default=False)
]
JobId = Annotated[
    str, typer.Argument(metavar="ID", help="The job's id.", autocompletion=complete_job, show_default=False)
]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name.", autocompletion=complete_model, show_default=False)
]

Target = Annotated[str | None, typer.Option(help="The column to predict.", show_default=False)]
Task = Annotated[TaskName | None, typer.Option(help="Left out: the target's values decide.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="Register the model under this name.", show_default=False)]
HiddenLayers = Annotated[int | None, typer.Option(help="How many hidden layers.", show_default=False)]
Units = Annotated[
    str | None, typer.Option(help="Width of the hidden layers: 128, or one for each: 128,64,32.", show_default=False)
]
Dropout = Annotated[float | None, typer.Option(help="Dropout rate.", show_default=False)]
Epochs = Annotated[int | None, typer.Option(help="The most epochs.", show_default=False)]
BatchSize = Annotated[str | None, typer.Option(help="Rows of a step, or auto.", show_default=False)]
LearningRate = Annotated[float | None, typer.Option(help="Step size of the optimizer.", show_default=False)]
TestFraction = Annotated[
    float | None, typer.Option(help="The part of the rows that is kept for the test.", show_default=False)
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="WORD", help="A word to find it by; may be repeated.", show_default=False),
]
SpecFile = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        help="A JSON file with the spec, or - for stdin; options and --set take the place of its fields.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Any field of the spec, such as training.optimizer=nadam; the value is JSON, or text. May be repeated.",
        show_default=False,
    ),
]
Watch = Annotated[bool, typer.Option("--watch/--no-watch", help="Watch it until it has ended.")]
ValidateOnly = Annotated[bool, typer.Option("--validate-only", help="Only say what would be done, and stop.")]
