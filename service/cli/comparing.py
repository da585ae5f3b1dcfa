"""``selfnorm compare``, ``comparisons`` and ``comparison``: networks held against each other on the same rows."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.comparison_reports import put_comparison
from service.cli.connection import command, connected
from service.cli.options import (
    ApiKey,
    AsJson,
    BatchSize,
    Dropout,
    Epochs,
    HiddenLayers,
    LearningRate,
    Limit,
    Model,
    Settings,
    Source,
    SpecFile,
    Tags,
    Target,
    Task,
    TestFraction,
    Url,
    ValidateOnly,
    Watch,
)
from service.cli.printing import put, put_facts, put_json, put_table
from service.cli.reports import status_of
from service.cli.specs import assembled, networks, numbers, read_spec, whole_number
from service.cli.uploading import stored
from service.cli.watching import watch_comparison
from service.cli.wording import age, duration

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonItemView
    from service.client import Client

HEADINGS = ("id", "state", "data set", "jobs", "preset", "age", "tags")

Preset = Annotated[
    str | None,
    typer.Option(
        help="One of the article's experiments: article/fashion_mnist, article/cifar10, article/boston_housing.",
        show_default=False,
    ),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        metavar="NAME=NETWORK",
        help='A network, such as relu=mlp,activation=relu, or as JSON: wide={"kind": "snn", "units": 512}. '
        "May be repeated; left out: the article's four.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Every arm is trained once for each.", show_default=False)
]
Units = Annotated[int | None, typer.Option(help="Width of the article's four networks.", show_default=False)]


def compare(
    source: Source = None,
    target: Target = None,
    task: Task = None,
    preset: Preset = None,
    arms: Arms = None,
    seeds: Seeds = None,
    hidden_layers: HiddenLayers = None,
    units: Units = None,
    dropout: Dropout = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    test_fraction: TestFraction = None,
    model: Model = None,
    tags: Tags = None,
    spec: SpecFile = None,
    settings: Settings = None,
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Train several networks on the same rows and seeds, and say which is better, or that none is."""
    given = {
        "target": target,
        "task": task,
        "preset": preset,
        "arms": networks(arms),
        "seeds": numbers(seeds),
        "hidden_layers": hidden_layers,
        "units": units,
        "dropout": dropout,
        "training.epochs": epochs,
        "training.batch_size": whole_number(batch_size),
        "training.learning_rate": learning_rate,
        "training.test_fraction": test_fraction,
        "model": model,
        "tags": tags,
    }
    asked = assembled(read_spec(spec), given, settings)
    with connected(url, api_key) as client:
        if (dataset := stored(client, source, asked, url)) is not None:
            asked["dataset"] = dataset
        if validate_only:
            _show_plan(client, asked, as_json)
            return
        found = client.comparisons.submit(asked)
        if watch:
            found = watch_comparison(client, found, url, as_json)
            raise typer.Exit(status_of(found.state))
    if as_json:
        put_json(found.model_dump(mode="json"))
    else:
        put_facts([("comparison", found.id), ("state", found.state), ("jobs", found.progress.total)])
        put("", command(url, "watch", found.id))


def _show_plan(client: "Client", asked: dict[str, Any], as_json: bool) -> None:
    checked = client.comparisons.validate(asked)
    if as_json:
        put_json(checked.model_dump(mode="json"))
        return
    expected = f"at most {duration(checked.training_seconds)} of training"
    put_facts([("jobs", checked.jobs), ("expected", expected), *(("warning", w) for w in checked.warnings)])


def comparisons(limit: Limit = 20, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """List comparisons, newest first."""
    with connected(url, api_key) as client:
        found = list(islice(client.comparisons.list(), limit))
    if as_json:
        put_json([each.model_dump(mode="json") for each in found])
        return
    put_table(HEADINGS, map(_cells, found), empty=f"no comparisons; make one: {command(url, 'compare', 'wine')}")


def comparison(
    comparison_id: Annotated[str, typer.Argument(metavar="ID", help="The comparison's id.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show a comparison: its arms, what they measured so far, and the verdict."""
    with connected(url, api_key) as client:
        found = client.comparisons.get(comparison_id)
    if as_json:
        put_json(found.model_dump(mode="json"))
    else:
        put_comparison(found)


def _cells(found: "ComparisonItemView") -> Iterator[object]:
    yield found.id
    yield found.state
    yield found.spec.dataset
    yield f"{found.progress.finished_jobs}/{found.progress.total}"
    yield found.spec.preset
    yield age(found.created_at)
    yield ", ".join(found.tags)
