"""Whether a comparison is the article's experiment, so that the article's claims are about it."""

from collections.abc import Mapping

from service.domain.comparison_claims import REGULAR, SNN
from service.domain.comparison_presets import DEFAULT_LAYERS, DEFAULT_UNITS, PRESETS, networks_of
from service.domain.comparison_spec import ComparisonSpec, SharedTraining
from service.domain.completion import CompletedSpec, complete_spec
from service.domain.datasets import Dataset
from service.domain.errors import InvalidSpec
from service.domain.limits import Limits
from service.domain.spec import JobSpec, NetworkSpec


def job_spec(spec: ComparisonSpec, network: NetworkSpec) -> JobSpec:
    """Return what a comparison asks of one arm, with the first seed."""
    shared = ("dataset", "target", "features", "task", "preparation", "model", "tags")
    values = {name: getattr(spec, name) for name in shared}
    return JobSpec.model_construct(**values, network=network, training=spec.training.seeded(spec.seeds[0]))


def is_articles(spec: ComparisonSpec, dataset: Dataset, limits: Limits, completed: Mapping[str, CompletedSpec]) -> bool:
    """Whether data set, columns, both networks and training are the preset's; seeds and further arms may be others."""
    if spec.preset is None or spec.depths is not None or spec.dataset != PRESETS[spec.preset].dataset:
        return False
    networks = networks_of("article", DEFAULT_LAYERS, DEFAULT_UNITS, 0.0)
    plain = PRESETS[spec.preset]
    try:
        theirs = {name: complete_spec(job_spec(plain, networks[name]), dataset, limits) for name in (SNN, REGULAR)}
    except InvalidSpec:
        return False
    return all(name in completed and _same(completed[name].spec, theirs[name].spec) for name in theirs)


def _same(one: JobSpec, other: JobSpec) -> bool:
    """Whether two trainings are the same but for model, tags and seed."""
    fields = ("target", "features", "task", "network", "preparation")
    trainings = [SharedTraining.of(spec.training) for spec in (one, other)]
    return trainings[0] == trainings[1] and all(getattr(one, name) == getattr(other, name) for name in fields)
