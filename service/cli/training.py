"""``selfnorm train``: upload a table where need be, submit a job, and watch it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.connection import command, connected
from service.cli.options import (
    ApiKey,
    AsJson,
    BatchSize,
    Dropout,
    Epochs,
    HiddenLayers,
    LearningRate,
    Model,
    NetworkKind,
    Settings,
    Source,
    SpecFile,
    Tags,
    Target,
    Task,
    TestFraction,
    Units,
    Url,
    ValidateOnly,
    Watch,
)
from service.cli.printing import put, put_facts, put_json
from service.cli.reports import plan_of, status_of
from service.cli.specs import assembled, read_spec, whole_number, widths
from service.cli.uploading import ARGUMENT, stored
from service.cli.watching import watch_job

if TYPE_CHECKING:
    from service.client import Client


def train(
    source: Source = None,
    target: Target = None,
    task: Task = None,
    model: Model = None,
    kind: Annotated[NetworkKind | None, typer.Option(help="Self-normalizing, or regular.", show_default=False)] = None,
    hidden_layers: HiddenLayers = None,
    units: Units = None,
    dropout: Dropout = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all that is random.", show_default=False)] = None,
    test_fraction: TestFraction = None,
    tags: Tags = None,
    spec: SpecFile = None,
    settings: Settings = None,
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Train a network on a file or a stored data set."""
    given = {
        "target": target,
        "task": task,
        "model": model,
        "network.kind": kind,
        "network.hidden_layers": hidden_layers,
        "network.units": widths(units),
        "network.dropout": dropout,
        "training.epochs": epochs,
        "training.batch_size": whole_number(batch_size),
        "training.learning_rate": learning_rate,
        "training.seed": seed,
        "training.test_fraction": test_fraction,
        "tags": tags,
    }
    asked = assembled(read_spec(spec), given, settings)
    if source is None and asked.get("dataset") is None:
        raise typer.BadParameter("name a file or a data set, or a --spec that names one", param_hint=ARGUMENT)
    with connected(url, api_key) as client:
        asked["dataset"] = stored(client, source, asked, url)
        if validate_only:
            _show_plan(client, asked, as_json)
            return
        if not as_json:
            _show_plan(client, asked, as_json)
        job = client.jobs.submit(asked)
        if watch:
            job = watch_job(client, job, url, as_json=as_json)
        elif not as_json:
            put_facts([("job", job.id), ("state", job.state)])
            put("", command(url, "watch", job.id))
    if as_json:
        put_json(job.model_dump(mode="json"))
    if watch:
        raise typer.Exit(status_of(job.state))


def _show_plan(client: "Client", asked: dict[str, Any], as_json: bool) -> None:
    checked = client.jobs.validate(asked)
    if as_json:
        put_json(checked.model_dump(mode="json"))
    else:
        put_facts(plan_of(checked))
