"""Comparisons: submit, check, look at, wait for, draw, cancel, delete."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel

from service.api.views.comparisons import ComparisonItemView, ComparisonView, ValidatedComparisonView
from service.client import answers
from service.client.jobs import PlotFormat
from service.client.methods import AsyncResource, Resource, awaited, listed, listed_async, sent
from service.client.progress import Progress
from service.client.requests import Reference, at, fields_of, given, listing, with_json
from service.client.steps import Call, Exchange, Listing, Steps
from service.client.waiting import wait_for
from service.domain.comparison_spec import ArmsWord, ComparisonSpec, PresetName
from service.domain.spec import Task


class ComparisonFields(TypedDict, total=False):
    """The fields of a ``ComparisonSpec``, as keywords; what each is where it is left out is said there."""

    preset: PresetName | None
    dataset: Reference | None
    target: str | None
    features: Sequence[str] | None
    task: Task | None
    arms: ArmsWord | Mapping[str, BaseModel | Mapping[str, Any]] | None
    hidden_layers: int | None
    units: int | None
    dropout: float | None
    depths: Sequence[int] | None
    seeds: Sequence[int]
    reference: str | None
    levels: Sequence[float] | None
    training: BaseModel | Mapping[str, Any]
    preparation: BaseModel | Mapping[str, Any]
    model: str | None
    tags: Sequence[str]


def submit(
    spec: ComparisonSpec | Mapping[str, Any] | None = None, /, **fields: Unpack[ComparisonFields]
) -> Call[ComparisonView]:
    """Train several networks on the same rows, from the same seeds, and hold them against each other."""
    exchange = with_json("POST", "/comparisons", fields_of(spec, fields))
    return Call(exchange, answers.view(ComparisonView), creates=True)


def validate(
    spec: ComparisonSpec | Mapping[str, Any] | None = None, /, **fields: Unpack[ComparisonFields]
) -> Call[ValidatedComparisonView]:
    """Say what a comparison would be and what it would cost; make nothing."""
    exchange = with_json("POST", "/comparisons", fields_of(spec, fields), params={"validate_only": "true"})
    return Call(exchange, answers.view(ValidatedComparisonView))


def get(comparison: Reference) -> Call[ComparisonView]:
    """Read a comparison with its result, as far as its jobs have come."""
    return Call(Exchange("GET", at("comparisons", comparison)), answers.view(ComparisonView))


def list_all() -> Listing[ComparisonItemView]:
    """List comparisons, newest first, without their results; they come as they are gone through."""
    return Listing(
        lambda token: Call(
            listing("/comparisons", token),
            answers.page(ComparisonItemView),
        )
    )


def wait(
    comparison: Reference, timeout_seconds: float | None = None, *, progress: Progress[ComparisonView] = False
) -> Steps[ComparisonView]:
    """Wait until all jobs of a comparison have succeeded, and return it with its result.

    Raises:
        JobFailed, JobCancelled: all have ended, one of them otherwise; the error has the comparison, as its ``job``.
        JobTimeout: so many seconds were over before; it goes on.
    """
    return wait_for(at("comparisons", comparison), ComparisonView, "comparison", timeout_seconds, progress)


def plot(
    comparison: Reference,
    name: str,
    format: PlotFormat = "svg",  # noqa: A002  # what users call it
    *,
    metric: str | None = None,
) -> Call[bytes]:
    """Draw all arms in one picture: ``learning_curves``, ``critical_difference`` or ``depth_sweep``."""
    exchange = Exchange("GET", at("comparisons", comparison, "plots", f"{name}.{format}"), given(metric=metric))
    return Call(exchange, answers.content)


def cancel(comparison: Reference) -> Call[ComparisonView]:
    """Ask that all of a comparison's jobs end without a model."""
    return Call(Exchange("POST", at("comparisons", comparison, "cancel")), answers.view(ComparisonView))


def delete(comparison: Reference) -> Call[None]:
    """Delete a comparison whose jobs have ended, together with them; their models stay."""
    return Call(Exchange("DELETE", at("comparisons", comparison)), answers.nothing, removes=True)


class Comparisons(Resource):
    """The comparisons of a service."""

    submit = sent(submit)
    validate = sent(validate)
    get = sent(get)
    list = listed(list_all)
    wait = sent(wait)
    plot = sent(plot)
    cancel = sent(cancel)
    delete = sent(delete)


class AsyncComparisons(AsyncResource):
    """The comparisons of a service, awaited."""

    submit = awaited(submit)
    validate = awaited(validate)
    get = awaited(get)
    list = listed_async(list_all)
    wait = awaited(wait)
    plot = awaited(plot)
    cancel = awaited(cancel)
    delete = awaited(delete)
