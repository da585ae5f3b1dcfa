"""Complete a comparison from its data set: arms, seeds and training written out, a job spec for each, misfits named."""

from collections.abc import Iterator
from dataclasses import dataclass

from service.domain import features
from service.domain.comparison_article import is_articles, job_spec
from service.domain.comparison_presets import DEFAULT_LAYERS, DEFAULT_UNITS, networks_of, with_preset
from service.domain.comparison_spec import MAX_JOBS, ComparisonSpec, SharedTraining
from service.domain.comparison_warnings import warnings_of
from service.domain.comparisons import Arm, Ground, arms_of
from service.domain.completion import CompletedSpec, complete_spec
from service.domain.datasets import Column, Dataset
from service.domain.errors import InvalidSpec, Violation
from service.domain.findings import Finding
from service.domain.limits import Limits
from service.domain.spec import JobSpec, NetworkSpec, Task
from service.domain.splits import expected_sizes
from service.domain.wording import listed, pointer_step, shown

MAX_NAME = 100
DEFAULT_REFERENCE = "regular"
SWEEP_ARMS = ("snn", "regular")
"""The arms of a depth sweep that names none."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One training that a comparison needs."""

    arm: str
    seed: int
    spec: JobSpec
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class CompletedComparison:
    """A spec with nothing left open, the jobs that it takes, and what they will cost."""

    spec: ComparisonSpec
    ground: Ground
    jobs: tuple[PlannedJob, ...]
    """By arm, then by seed."""
    training_seconds: float
    """Of all jobs together, one after the other."""
    warnings: tuple[str, ...]


def dataset_of(spec: ComparisonSpec) -> str:
    """Return the data set that a comparison is on.

    Raises:
        InvalidSpec: neither the spec nor its preset names one.
    """
    name = with_preset(spec).dataset
    if name is None:
        raise InvalidSpec([Violation("#/dataset", "is required where no preset is named")])
    return name


def complete_comparison(asked: ComparisonSpec, dataset: Dataset, limits: Limits) -> CompletedComparison:
    """Write out every default, and plan the jobs.

    Raises:
        InvalidSpec: arms, columns, parts or costs do not fit; names every violation once, whichever arms have it.
    """
    spec = with_preset(asked)
    found = list(_size_violations(spec))
    networks = _networks(spec)
    found += _name_violations(spec, networks)
    if len(found) == 0 and len(networks) * len(spec.depths or [0]) * len(spec.seeds) > MAX_JOBS:
        found.append(_too_many(spec, len(networks)))
    arms = arms_of(networks, spec.depths)
    completed = _complete_arms(spec, dataset, limits, networks, arms, found)
    if found:
        raise InvalidSpec(found)
    first = completed[arms[0].name]
    moments = dict(_moments(arms, completed))
    ground = _ground(first, dataset, moments, is_articles=is_articles(spec, dataset, limits, completed))
    found += _collisions(arms, first.spec.model or "")
    if ground.validation_rows == 0 and ground.test_rows == 0:
        detail = "leaves no row to compare the arms by; take a validation_fraction or a test_fraction above 0"
        found.append(Violation("#/training/validation_fraction", detail))
    if found:
        raise InvalidSpec(found)
    whole = {arm.base: completed[arm.name].spec.network for arm in arms}
    said = [warning for one in completed.values() for warning in one.warnings]
    said += warnings_of(networks, whole, first.spec.training, dataset)
    return CompletedComparison(
        spec=_written_out(spec, first.spec, whole),
        ground=ground,
        jobs=tuple(_jobs(spec, arms, completed)),
        training_seconds=sum(one.cost.training_seconds for one in completed.values()) * len(spec.seeds),
        warnings=tuple(dict.fromkeys(said)),
    )


def model_name(model: str, arm: str) -> str:
    """Return ``{model}-{arm}``, of at most 100 characters: the end of the model's name gives way."""
    return f"{model[: max(1, MAX_NAME - 1 - len(arm))]}-{arm}"[:MAX_NAME]


def _networks(spec: ComparisonSpec) -> dict[str, NetworkSpec]:
    """Return the arms of the spec; the words' are written out, those of a depth sweep without their depth."""
    if isinstance(spec.arms, dict):
        return spec.arms
    layers = None if spec.depths else spec.hidden_layers or DEFAULT_LAYERS
    networks = networks_of(spec.arms or "article", layers, spec.units or DEFAULT_UNITS, spec.dropout or 0.0)
    if spec.depths and spec.arms is None:
        return {name: networks[name] for name in SWEEP_ARMS}
    return networks


def _size_violations(spec: ComparisonSpec) -> Iterator[Violation]:
    """Name sizes that are said twice."""
    if isinstance(spec.arms, dict):
        for name in ("hidden_layers", "units", "dropout"):
            if getattr(spec, name) is not None:
                detail = "is for the networks that a word stands for; say it in each of the arms, and leave it out here"
                yield Violation(f"#/{name}", detail)
    if spec.depths is None:
        return
    if spec.hidden_layers is not None:
        yield Violation("#/hidden_layers", "is given by depths; leave one of the two out")
    for name, network in spec.arms.items() if isinstance(spec.arms, dict) else ():
        if network.hidden_layers is not None:
            yield Violation(f"{_pointer(name)}/hidden_layers", "is given by depths; leave one of the two out")
        if isinstance(network.units, tuple):
            yield Violation(f"{_pointer(name)}/units", "must be one number: depths says how many layers there are")


def _name_violations(spec: ComparisonSpec, networks: dict[str, NetworkSpec]) -> Iterator[Violation]:
    """Name arms that cannot be called so, and a reference that is none."""
    if spec.reference is not None and spec.reference not in networks:
        detail = f"{shown(spec.reference)} is none of the arms, which are {listed(list(networks), 16)}"
        yield Violation("#/reference", detail)
    if spec.depths is None:
        return
    names = arms_of(networks, spec.depths)
    for arm in names:
        if len(arm.name) > MAX_NAME:
            yield Violation(_pointer(arm.base), f"is too long a name: with its depth it has {len(arm.name)} characters")
    if len({arm.name for arm in names}) < len(names):
        yield Violation("#/depths", "gives two arms the same name; call the arms otherwise")


def _too_many(spec: ComparisonSpec, arms: int) -> Violation:
    depths = f" x {len(spec.depths)} depths" if spec.depths else ""
    total = arms * len(spec.depths or [0]) * len(spec.seeds)
    detail = f"{arms} arms{depths} x {len(spec.seeds)} seeds are {total:,} jobs; at most {MAX_JOBS} are allowed"
    return Violation("#/seeds", f"{detail}. Take fewer of them")


def _complete_arms(
    spec: ComparisonSpec,
    dataset: Dataset,
    limits: Limits,
    networks: dict[str, NetworkSpec],
    arms: tuple[Arm, ...],
    found: list[Violation],
) -> dict[str, CompletedSpec]:
    """Complete a job spec for each arm, for nothing that is checked depends on the seed; misfits go to ``found``."""
    completed = {}
    seen: set[str] = set()
    for arm in arms:
        network = networks[arm.base].model_copy(update={} if arm.depth is None else {"hidden_layers": arm.depth})
        try:
            completed[arm.name] = complete_spec(job_spec(spec, network), dataset, limits)
        except InvalidSpec as error:
            moved = [_moved(violation, arm.base) for violation in error.violations]
            found += [violation for violation in moved if violation.pointer not in seen]
            seen |= {violation.pointer for violation in moved}
    return completed


def _moved(violation: Violation, arm: str) -> Violation:
    """Point at the arm where a job's violation points at its network."""
    if violation.pointer.split("/")[:2] != ["#", "network"]:
        return violation
    return Violation(_pointer(arm) + violation.pointer.removeprefix("#/network"), violation.detail)


def _pointer(arm: str) -> str:
    return f"#/arms/{pointer_step(arm)}"


def _ground(
    first: CompletedSpec, dataset: Dataset, moments: dict[str, tuple[float, float]], *, is_articles: bool
) -> Ground:
    target = dataset.column(first.spec.target or "")
    assert target is not None, "a completed spec has a target"
    sizes = expected_sizes(dataset, first.spec.training, target)
    names = set(first.spec.features or ())
    columns = [column for column in dataset.columns if column.name in names]
    return Ground(
        training_rows=sizes.training,
        validation_rows=sizes.validation,
        test_rows=sizes.test,
        inputs=features.encoded_width(columns, first.spec.preparation),
        guess=_guess(target, first.spec.task),
        moments=moments,
        is_articles=is_articles,
    )


def _guess(target: Column, task: Task | None) -> float:
    if task == "regression":
        return 0.0
    counts = [count for _, count in target.top]
    by_size = max(counts) / sum(counts) if counts and len(counts) == target.unique else 0.0
    return max(by_size, 1 / (target.unique or 2))


def _moments(arms: tuple[Arm, ...], completed: dict[str, CompletedSpec]) -> Iterator[tuple[str, tuple[float, float]]]:
    for arm in arms:
        inputs = completed[arm.name].inputs
        if inputs is not None and inputs.mean is not None and inputs.variance is not None:
            yield arm.base, (inputs.mean, inputs.variance)


def _collisions(arms: tuple[Arm, ...], model: str) -> Iterator[Violation]:
    """Name arms whose models would be called as those of another: names are cut to their greatest length."""
    names: dict[str, Arm] = {}
    found: dict[str, Violation] = {}
    for arm in arms:
        other = names.setdefault(model_name(model, arm.name), arm)
        if other is not arm:
            detail = "gives its models the name that those of another arm have, for names end after"
            pointer = _pointer(arm.base)
            found[pointer] = Violation(
                pointer, f"{detail} {MAX_NAME} characters; take a shorter one, or a shorter model"
            )
    yield from found.values()


def _written_out(spec: ComparisonSpec, job: JobSpec, whole: dict[str, NetworkSpec]) -> ComparisonSpec:
    """Return the spec with everything written out; arms of a depth sweep leave their depth open, which depths says."""
    if spec.depths is not None:
        whole = {name: network.model_copy(update={"hidden_layers": None}) for name, network in whole.items()}
    shared = ("target", "features", "task", "preparation", "model")
    default = DEFAULT_REFERENCE if DEFAULT_REFERENCE in whole else next(iter(whole))
    return spec.model_copy(
        update={name: getattr(job, name) for name in shared}
        | {"arms": whole, "hidden_layers": None, "units": None, "dropout": None}
        | {"reference": spec.reference or default, "training": SharedTraining.of(job.training)}
    )


def _jobs(spec: ComparisonSpec, arms: tuple[Arm, ...], completed: dict[str, CompletedSpec]) -> Iterator[PlannedJob]:
    for arm in arms:
        one = completed[arm.name]
        name = model_name(one.spec.model or "", arm.name)
        for seed in spec.seeds:
            training = one.spec.training.model_copy(update={"seed": seed})
            job = one.spec.model_copy(update={"model": name, "training": training})
            yield PlannedJob(arm.name, seed, job, one.warnings, one.findings)
