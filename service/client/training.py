"""From a table to a model in one call, and a look at a network before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from service.client.steps import Call, Steps

if TYPE_CHECKING:
    from service.api.views.datasets import DatasetView
    from service.api.views.diagnostics import ProbeView
    from service.api.views.jobs import JobView
    from service.client.jobs import JobFields, TrainingFields
    from service.client.progress import Progress
    from service.client.sources import Source
    from service.domain.spec import JobSpec


def train(
    source: Source | DatasetView,
    *,
    target: str | None = None,
    wait: bool = True,
    progress: Progress[JobView] = None,
    name: str | None = None,
    **fields: Unpack[TrainingFields],
) -> Steps[JobView]:
    """Train a network on a table, and wait until it has succeeded.

    ``source`` is the id or the view of a data set, or whatever ``datasets.upload`` takes, which is uploaded under
    ``name`` first; text that ends as the name of a table does, or is a file, is a path. ``target`` is the column to
    predict; a built-in data set knows its own. The other fields are those of a ``JobSpec``. With ``wait=False`` the job
    is returned as it was submitted; ``progress`` shows a bar, or is called with the job.

    Raises:
        JobFailed, JobCancelled: it ended otherwise; the error has the job.
    """
    from service.client import jobs

    dataset = yield from _stored(source, name)
    asked: JobFields = {"dataset": dataset, "target": target, **fields}
    job = yield from jobs.submit(**asked)
    return (yield from jobs.wait(job, progress=progress)) if wait else job


def probe(spec: JobSpec | Mapping[str, Any] | None = None, /, **fields: Unpack[JobFields]) -> Call[ProbeView]:
    """Feed the untrained network with real rows: moments, gradients, the depth horizon; in seconds, without a job."""
    from service.api.views.diagnostics import ProbeView
    from service.client import answers
    from service.client.requests import fields_of, with_json

    return Call(with_json("POST", "/probe", fields_of(spec, fields)), answers.view(ProbeView))


def _stored(source: Any, name: str | None) -> Steps[str]:
    """Return the id of the data set that a source is, or becomes when it is uploaded."""
    from service.api.views.datasets import DatasetView
    from service.client import datasets
    from service.client.sources import is_file

    if isinstance(source, DatasetView) or (isinstance(source, str) and not is_file(source)):
        if name is not None:
            raise ValueError(f"name={name!r} is what an upload would be called, and this data set is stored already")
        return source.id if isinstance(source, DatasetView) else source
    uploaded = yield from datasets.upload(source, name)
    return uploaded.id
