"""What somebody must have said to get a completed spec, without all that is chosen anyway."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from service.domain.completion import complete_spec
from service.domain.datasets import Dataset
from service.domain.errors import InvalidSpec, UnknownDataset
from service.domain.limits import Limits
from service.domain.spec import JobSpec
from service.storage import datasets
from service.storage.database import Database

ROUNDS = 5
"""What one field decides is known only when it has been said: a kind of network its activation, and so on."""

Spec = dict[str, Any]
Way = tuple[str, ...]


def shortened(database: Database, spec: Spec, limits: Limits) -> Spec:
    """Return a spec that is completed to the given one; that itself where its data set no longer takes it."""
    try:
        with database.read() as connection:
            dataset = datasets.get(connection, spec["dataset"])
    except UnknownDataset:
        return spec
    said = {name: spec[name] for name in ("dataset", "target")}
    for _ in range(ROUNDS):
        completed = _completed(said, dataset, limits)
        missing = [] if completed is None else list(_differences(spec, completed))
        for way, value in missing:
            _place(said, way, value)
        if not missing:
            return spec if completed is None else _without_needless(said, spec, dataset, limits)
    return spec


def _without_needless(said: Spec, spec: Spec, dataset: Dataset, limits: Limits) -> Spec:
    """Leave out what follows from the rest: a number of layers that are listed, a target that the data set names."""
    for way in list(_leaves(said)):
        shorter = deepcopy(said)
        _take_out(shorter, way)
        if _completed(shorter, dataset, limits) == spec:
            said = shorter
    return said


def _completed(said: Spec, dataset: Dataset, limits: Limits) -> Spec | None:
    try:
        return complete_spec(JobSpec.model_validate(said), dataset, limits).spec.model_dump(mode="json")
    except (InvalidSpec, ValidationError):
        return None


def _differences(wanted: Spec, found: Spec, way: Way = ()) -> Iterator[tuple[Way, Any]]:
    """Give the fields in which one spec differs from another, by their way; of another kind of thing, its kind."""
    if wanted.get("kind") != found.get("kind"):
        yield (*way, "kind"), wanted["kind"]
        return
    for name, value in wanted.items():
        other = found.get(name)
        if _opens(name, value) and isinstance(other, dict):
            yield from _differences(value, other, (*way, name))
        elif value != other:
            yield (*way, name), value


def _leaves(spec: Spec, way: Way = ()) -> Iterator[Way]:
    for name, value in spec.items():
        if _opens(name, value):
            yield from _leaves(value, (*way, name))
        else:
            yield (*way, name)


def _opens(name: str, value: Any) -> bool:
    """Whether a field holds fields; the words of class weights are the user's own."""
    return isinstance(value, dict) and name != "class_weights"


def _place(spec: Spec, way: Way, value: Any) -> None:
    for step in way[:-1]:
        spec = spec.setdefault(step, {})
    spec[way[-1]] = value


def _take_out(spec: Spec, way: Way) -> None:
    """Take a field out, and the objects that are empty without it."""
    step, *rest = way
    if rest:
        _take_out(spec[step], tuple(rest))
    if not rest or not spec[step]:
        del spec[step]
