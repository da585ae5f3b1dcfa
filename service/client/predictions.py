"""Predictions over stored data sets: submit, look at, wait for, read the result, cancel, delete."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from service.api.views.predictions import PredictionJobView
from service.client import answers
from service.client.downloads import downloaded
from service.client.methods import AsyncResource, Resource, awaited, listed, listed_async, sent
from service.client.progress import Progress
from service.client.requests import Reference, at, fields_of, given, listing, with_json
from service.client.steps import Call, Exchange, Listing, Steps
from service.client.waiting import wait_for
from service.domain.jobs import JobState
from service.domain.predictions import PredictionSpec

ResultFormat = Literal["parquet", "csv"]


class PredictionFields(TypedDict, total=False):
    """The fields of a ``PredictionSpec``, as keywords; what each is where it is left out is said there."""

    model: str
    version: int | None
    alias: str | None
    dataset: Reference
    probabilities: bool | None
    keep: Sequence[str]
    tags: Sequence[str]
    target: str | None


def submit(
    spec: PredictionSpec | Mapping[str, Any] | None = None, /, **fields: Unpack[PredictionFields]
) -> Call[PredictionJobView]:
    """Predict over every row of a stored data set."""
    exchange = with_json("POST", "/predictions", fields_of(spec, fields))
    return Call(exchange, answers.view(PredictionJobView), creates=True)


def get(prediction: Reference) -> Call[PredictionJobView]:
    """Read a prediction."""
    return Call(Exchange("GET", at("predictions", prediction)), answers.view(PredictionJobView))


def list_all(
    *, state: JobState | str | None = None, tag: str | None = None, model: str | None = None, dataset: str | None = None
) -> Listing[PredictionJobView]:
    """List predictions, newest first; they come as they are gone through."""
    wanted = given(state=state, tag=tag, model=model, dataset=dataset)
    return Listing(
        lambda token: Call(
            listing("/predictions", token, **wanted),
            answers.page(PredictionJobView),
        )
    )


def wait(
    prediction: Reference, timeout_seconds: float | None = None, *, progress: Progress[PredictionJobView] = False
) -> Steps[PredictionJobView]:
    """Wait until a prediction has succeeded, and return it; ``progress`` shows a bar, or is called with it.

    Raises:
        JobFailed, JobCancelled: it ended otherwise; the error has it.
        JobTimeout: so many seconds were over before; it goes on.
    """
    return wait_for(at("predictions", prediction), PredictionJobView, "prediction", timeout_seconds, progress)


def result(
    prediction: Reference,
    path: str | os.PathLike[str],
    format: ResultFormat | None = None,  # noqa: A002  # what users call it
) -> Steps[Path]:
    """Save what a prediction has made, whole or not at all, and return where.

    Without a ``format`` the file's name says which: CSV for ``.csv``, else Parquet. A folder gets it under the
    prediction's id.
    """
    target = Path(path)
    form = format or ("csv" if target.suffix.lower() == ".csv" else "parquet")
    name = f"prediction-{prediction if isinstance(prediction, str) else prediction.id}.{form}"
    return downloaded(Exchange("GET", at("predictions", prediction, "result"), {"format": form}), target, name)


def cancel(prediction: Reference) -> Call[PredictionJobView]:
    """Ask that a prediction ends without a result."""
    return Call(Exchange("POST", at("predictions", prediction, "cancel")), answers.view(PredictionJobView))


def delete(prediction: Reference) -> Call[None]:
    """Delete a prediction that has ended, with its result."""
    return Call(Exchange("DELETE", at("predictions", prediction)), answers.nothing, removes=True)


class Predictions(Resource):
    """The predictions of a service over stored data sets."""

    submit = sent(submit)
    get = sent(get)
    list = listed(list_all)
    wait = sent(wait)
    result = sent(result)
    cancel = sent(cancel)
    delete = sent(delete)


class AsyncPredictions(AsyncResource):
    """The predictions of a service over stored data sets, awaited."""

    submit = awaited(submit)
    get = awaited(get)
    list = listed_async(list_all)
    wait = awaited(wait)
    result = awaited(result)
    cancel = awaited(cancel)
    delete = awaited(delete)
