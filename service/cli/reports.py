"""What is said of a job: the facts, how it ended, and what to do next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from service.cli.connection import command
from service.cli.printing import ENDED_BADLY, OK, put, put_facts
from service.cli.wording import age, count, duration, measures, network_words, question, size, training_words

if TYPE_CHECKING:
    from service.api.views.datasets import DatasetView
    from service.api.views.jobs import JobView, ValidatedView
    from service.api.views.verdicts import FindingView, VerdictView
    from service.client import Client

MOST_CELLS = 20
"""A row of more is no example that anybody reads."""

Facts = Iterator[tuple[str, object]]


def facts_of(job: JobView) -> Facts:
    """Say all that is known of a job."""
    yield "job", job.id
    yield "state", _state_words(job)
    yield "data set", job.spec.dataset
    yield "task", question(job.spec)
    yield "network", network_words(job.spec.network)
    yield "training", training_words(job.spec.training)
    yield "epoch", f"{job.progress.epoch}/{job.progress.epochs}"
    yield from outcome_of(job)
    yield "asked", age(job.created_at)
    yield "attempts", job.attempts if job.attempts > 1 else None
    yield "retry of", job.retry_of
    yield "tags", ", ".join(job.tags) or None
    for warning in job.warnings:
        yield "warning", warning


def outcome_of(job: JobView) -> Facts:
    """Say what came of a job, as far as it has come."""
    best = job.metrics.best
    if best:
        yield "best epoch", f"{best['epoch']}: {measures(best)}"
    yield "test part", measures(job.metrics.test) or None
    yield from _verdict(job.verdict)
    if job.model is not None:
        yield "model", f"{job.model.name} version {job.model.version}"
    if job.error is not None:
        yield "error", f"{job.error.code}: {job.error.detail}"


def plan_of(checked: ValidatedView) -> Facts:
    """Say what a job will be, what it will cost, and which findings of the lint are no pass."""
    spec = checked.spec
    yield "task", question(spec)
    yield "network", f"{network_words(spec.network)}; {count(checked.parameters, 'parameter')}"
    yield "training", training_words(spec.training)
    yield "expected", f"at most {duration(checked.training_seconds)}, {size(checked.memory_bytes)} of memory"
    for warning in checked.warnings:
        yield "warning", warning
    for finding in checked.lint:
        if finding.status != "pass":
            yield f"lint {finding.status}", _finding_words(finding)


def put_end(client: Client, job: JobView, url: str | None) -> None:
    """Print how a job has ended, and what to do next."""
    put("")
    put_facts([("ended", _state_words(job)), *outcome_of(job)])
    put("")
    if job.model is None:
        put(command(url, "retry" if job.state == "failed" else "job", job.id))
        return
    put(command(url, "predict", job.model.name, "rows.csv"))
    if example := _example(client, job):
        body = json.dumps({"model": job.model.name, "instances": [example]})
        put(f"curl -s {client.url}/predict {headers_for(client)} -d {shlex.quote(body)}")


def example_row(job: JobView, source: DatasetView) -> Mapping[str, Any] | None:
    """Return a row that the model of a job takes; None where there is none that anybody would read."""
    columns = {column.name: column for column in source.columns}
    features = [columns[name] for name in job.spec.features or () if name in columns]
    if not features or len(features) > MOST_CELLS or not all(column.examples for column in features):
        return None
    return {column.name: column.examples[0] for column in features}


def _example(client: Client, job: JobView) -> Mapping[str, Any] | None:
    from service.client import NotFound

    try:
        return example_row(job, client.datasets.get(job.spec.dataset))
    except NotFound:  # it may have been deleted since
        return None


def headers_for(client: Client) -> str:
    """Return the headers of a prediction for a shell; of a key only the variable, for lines are copied and shown."""
    key = '-H "Authorization: Bearer $SELFNORM_API_KEY" ' if client.has_key else ""
    return f"{key}-H 'Content-Type: application/json'"


def status_of(state: str) -> int:
    """Return the exit status that says how something ended."""
    return OK if state == "succeeded" else ENDED_BADLY


def _state_words(job: JobView) -> str:
    words = str(job.state)
    if job.queue_position is not None:
        words += f", number {job.queue_position} in line"
    if job.pause_requested:
        words += ", will pause"
    if job.finished_at is not None and job.started_at is not None:
        return f"{words} after {duration((job.finished_at - job.started_at).total_seconds())}"
    if job.progress.eta_seconds is not None:
        words += f", {duration(job.progress.eta_seconds)} left at most"
    return words


def _verdict(verdict: VerdictView | None) -> Facts:
    if verdict is not None:
        yield "verdict", f"{verdict.status}: {verdict.detail}"
        for advice in verdict.advice:
            yield "advice", advice


def _finding_words(finding: FindingView) -> str:
    """Say what a rule found, and which settings would mend it, where they are short enough to be typed."""
    fixes = [
        f"--set {pointer.removeprefix('#/').replace('/', '.')}={json.dumps(value)}"
        for pointer, value in (finding.fix or {}).items()
        if not isinstance(value, dict)
    ]
    mended = f" (mend it: {' '.join(map(shlex.quote, fixes))})" if fixes else ""
    return f"{finding.rule}: {finding.detail}{mended}"
