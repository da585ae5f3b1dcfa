"""The form of a comparison: the fields of its schema under headings, the networks and the experiments to pick from."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from service.api.dashboard import spec_fields
from service.api.dashboard.spec_fields import SpecField
from service.domain.comparison_presets import DEFAULT_LAYERS, DEFAULT_UNITS, PRESETS, networks_of
from service.domain.comparison_spec import ARMS_WORDS, ComparisonSpec, PresetName
from service.domain.spec import NetworkSpec

GROUPS = {
    "Data": ("/dataset", "/target", "/task", "/features"),
    "Networks": ("/arms", "/hidden_layers", "/units", "/dropout", "/depths"),
    "Repetition": ("/seeds", "/reference", "/levels"),
    "Training": spec_fields.GROUPS["Training"],
    "Name": ("/model", "/tags"),
}
"""What is asked first; every other field of the schema comes under ``spec_fields.REST``."""
NOT_ASKED = ("/preset",)
"""It has buttons."""
PRESET_WORDS: Mapping[PresetName, tuple[str, str]] = {
    "article/fashion_mnist": ("Fashion-MNIST", "which piece of clothing is on a picture of 28 x 28 points"),
    "article/cifar10": ("CIFAR10", "which thing is on a colour picture of 32 x 32 points"),
    "article/boston_housing": ("Boston housing", "what houses cost in a town of Boston"),
}
"""What people call the article's experiments, and what they ask."""
SIZES: Mapping[str, float] = {"hidden_layers": DEFAULT_LAYERS, "units": DEFAULT_UNITS, "dropout": 0}
"""What all networks that a word stands for have in common, each by a field of its own, and what it is if left out."""


@cache
def groups() -> dict[str, list[SpecField]]:
    """Return the fields of a comparison's spec under their headings."""
    found = [field for fields in spec_fields.grouped(ComparisonSpec.model_json_schema()).values() for field in fields]
    first = {pointer for pointers in GROUPS.values() for pointer in pointers}
    by_pointer = {pointer: [field for field in found if field.pointer == pointer] for pointer in first}
    named = {
        name: [field for pointer in pointers for field in by_pointer[pointer]] for name, pointers in GROUPS.items()
    }
    rest = [field for field in found if field.pointer not in first and field.pointer not in NOT_ASKED]
    return {**named, spec_fields.REST: rest}


@cache
def known_arms() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the networks that each word stands for, by name, without their sizes."""
    networks = {word: networks_of(word, DEFAULT_LAYERS, DEFAULT_UNITS, 0.0) for word in ARMS_WORDS}
    return {
        word: {name: _without_sizes(network) for name, network in named.items()} for word, named in networks.items()
    }


def _without_sizes(network: NetworkSpec) -> dict[str, Any]:
    said = network.model_dump(mode="json", exclude=set(SIZES), exclude_defaults=True)
    return {"kind": network.kind, **said}


@cache
def preset_specs() -> dict[str, dict[str, Any]]:
    """Return what each of the article's experiments says, field by field."""
    return {name: spec.model_dump(mode="json", exclude_unset=True) for name, spec in PRESETS.items()}
