"""Whether a network on these data can normalize itself, said before it trains: one finding for each rule.

A rule knows the completed spec and what is known of the inputs; where it can, it says which fields of the spec to
change. The words are for people who have not read the paper.
"""

from collections.abc import Iterable
from typing import Any

from service.domain import input_rules, network_rules
from service.domain.findings import Finding, InputFacts
from service.domain.signal import propagate
from service.domain.spec import JobSpec

MOST_ROUNDS = 4
"""A fix may break another rule: a network that becomes SELU's has another learning rate that it stands."""


def lint(spec: JobSpec, inputs: InputFacts, classes: int | None) -> list[Finding]:
    """Hold a completed spec against what is known of self-normalization; ``classes`` is None for a regression."""
    network, training = spec.network, spec.training
    mean, variance = (inputs.mean, inputs.variance) if inputs.mean is not None else (0.0, 1.0)
    signal = propagate(network, inputs.width, mean, 1.0 if variance is None else variance)
    return [
        network_rules.layer_type(network),
        network_rules.activation(network),
        network_rules.initializer(network, inputs.width),
        network_rules.dropout(network),
        input_rules.standardized_inputs(network, inputs),
        input_rules.constant_inputs(spec, inputs),
        input_rules.heavy_tails(spec, inputs),
        input_rules.one_hot_inputs(inputs),
        network_rules.bias_start(),
        network_rules.narrow_layers(network, inputs.width),
        network_rules.depth(network, signal),
        input_rules.output_head(inputs, classes),
        network_rules.learning_rate(network, training),
    ]


def suggested_spec(spec: JobSpec, inputs: InputFacts, classes: int | None) -> JobSpec | None:
    """Return the spec with every fix made, and those that they call for in turn; None where there is none."""
    suggested = spec
    for _ in range(MOST_ROUNDS):
        better = _mended(suggested, lint(suggested, inputs, classes))
        if better == suggested:
            break
        suggested = better
    return None if suggested == spec else suggested


def _mended(spec: JobSpec, findings: Iterable[Finding]) -> JobSpec:
    document = spec.model_dump(mode="json")
    for pointer, value in [fix for finding in findings if finding.fix for fix in finding.fix.items()]:
        *path, last = pointer.removeprefix("#/").split("/")
        place: Any = document
        for step in path:
            place = place[step]
        place[last] = value
    return JobSpec.model_validate(document)
