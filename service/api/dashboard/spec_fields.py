"""The form of a job spec, made of its JSON schema: what is new in the schema is in the form without a word here."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from service.domain.spec import JobSpec

Schema = Mapping[str, Any]

GROUPS = {
    "Data": ("/dataset", "/target", "/task", "/features"),
    "Network": (
        "/network/kind",
        "/network/hidden_layers",
        "/network/units",
        "/network/dropout",
        "/network/activation",
        "/network/initializer",
        "/network/normalization",
        "/network/standardize",
    ),
    "Training": (
        "/training/epochs",
        "/training/batch_size",
        "/training/learning_rate",
        "/training/optimizer",
        "/training/early_stopping",
        "/training/early_stopping/patience",
        "/training/validation_fraction",
        "/training/test_fraction",
        "/training/seed",
    ),
    "Name": ("/model", "/tags"),
}
"""What is asked first; every other field of the schema comes under ``REST``."""
REST = "More"
LISTS = "words"
NEVER = "null"


@dataclass(frozen=True, slots=True)
class SpecField:
    """A field of the form."""

    pointer: str
    """Where in the spec it is, as violations name it."""
    label: str
    control: Literal["choice", "text"]
    takes: str
    """What the text of the field may stand for: words of ``integer number list object words``; else it is text."""
    options: tuple[str, ...] = ()
    """What can be chosen, as JSON; of a text, words that it may be beside numbers."""
    default: str | None = None
    """As JSON; None where the task or the data decide."""
    hint: str = ""
    help: str = ""
    """The whole of what the schema says of it."""
    shown_for: tuple[str, tuple[str, ...]] | None = None
    """A choice by its pointer, and for which values of it, as JSON or empty for none, there is this field."""
    is_needed: bool = False
    """Whether it must be said as soon as a field beside it is."""

    @property
    def name(self) -> str:
        """The last step of its pointer."""
        return self.pointer.rpartition("/")[2]


@cache
def groups() -> dict[str, list[SpecField]]:
    """Return the fields of a job spec under their headings."""
    return grouped(JobSpec.model_json_schema())


def grouped(schema: Schema) -> dict[str, list[SpecField]]:
    """Return the fields of any schema under the headings of a job's form."""
    found = list(_inside(schema, schema, "", None))
    first = {pointer for pointers in GROUPS.values() for pointer in pointers}
    by_pointer = {pointer: [field for field in found if field.pointer == pointer] for pointer in first}
    named = {
        name: [field for pointer in pointers for field in by_pointer[pointer]] for name, pointers in GROUPS.items()
    }
    return {**named, REST: [field for field in found if field.pointer not in first]}


def _inside(root: Schema, node: Schema, pointer: str, shown_for: Any) -> Iterator[SpecField]:
    """Give the fields of an object."""
    for name, part in node["properties"].items():
        yield from _fields(root, part, f"{pointer}/{name}", shown_for)


def _fields(root: Schema, part: Schema, pointer: str, shown_for: Any) -> Iterator[SpecField]:
    """Give what asks for a part of the schema: a field, those of an object, or none if there is nothing to choose."""
    part = _resolved(root, part)
    kinds = [_resolved(root, kind) for kind in part.get("anyOf", part.get("oneOf", [part]))]
    some = [kind for kind in kinds if kind.get("type") != "null"]
    if not some or (len(kinds) == 1 and "const" in some[0]):
        return
    if all("properties" in kind for kind in some):
        if len(some) > 1:
            yield from _of_kinds(root, part, some, pointer, shown_for)
        elif len(kinds) > 1:
            yield replace(_field(part, pointer, shown_for), options=(NEVER,))
            yield from _inside(root, some[0], pointer, (pointer, ("",)))
        else:
            yield from _inside(root, some[0], pointer, shown_for)
        return
    options = tuple(json.dumps(option) for kind in some for option in _options(kind))
    takes = {word for kind in some for word in _takes(kind)}
    yield replace(
        _field(part, pointer, shown_for, _bounds(some)),
        control="choice" if not takes else "text",
        takes=" ".join(sorted(takes)),
        options=options,
    )


def _of_kinds(root: Schema, part: Schema, kinds: Sequence[Schema], pointer: str, shown_for: Any) -> Iterator[SpecField]:
    """Give the choice of a kind, and the fields of each kind, those that several have alike once."""
    by_name = {json.dumps(kind["properties"]["kind"]["const"]): kind["properties"] for kind in kinds}
    usual = json.dumps(part["default"]["kind"]) if "default" in part else None
    yield replace(
        _field(part, pointer, shown_for),
        pointer=f"{pointer}/kind",
        options=tuple(by_name),
        default=usual,
        hint=". ".join(
            f"{json.loads(name)}: {_first(kind, ends='.;')}" for name, kind in zip(by_name, kinds, strict=True)
        ),
        is_needed=usual is not None and all("kind" in kind.get("required", ()) for kind in kinds),
    )
    for inner in dict.fromkeys(name for properties in by_name.values() for name in properties if name != "kind"):
        having = {name: properties[inner] for name, properties in by_name.items() if inner in properties}
        while having:
            first = next(iter(having.values()))
            alike = tuple(name for name, inner_part in having.items() if inner_part == first)
            having = {name: inner_part for name, inner_part in having.items() if name not in alike}
            values = (*alike, "") if usual in alike else alike
            condition = shown_for if len(alike) == len(kinds) else (f"{pointer}/kind", values)
            yield from _fields(root, first, f"{pointer}/{inner}", condition)


def _field(part: Schema, pointer: str, shown_for: Any, bounds: str = "") -> SpecField:
    first = _first(part)
    default = part.get("default")
    return SpecField(
        pointer=pointer,
        label=_label(pointer),
        control="choice",
        takes="",
        default=None if default is None or isinstance(default, dict | list) else json.dumps(default),
        hint=f"{first}{'; ' if first and bounds else ''}{bounds}",
        help=_said(part),
        shown_for=shown_for,
    )


def _said(part: Schema) -> str:
    """Return what the schema says of something; a form has no null, but fields that are left empty."""
    said = str(part.get("description", "")).replace("``", "").replace("\n", " ")
    if part.get("default", ...) is not None:
        return re.sub(r"; null: [^.;]*", "", said)
    return re.sub(r"\b([Nn])ull\b", lambda found: "Empty" if found[1] == "N" else "empty", said)


def _first(part: Schema, ends: str = ".") -> str:
    """Return the first sentence of what the schema says of something."""
    return re.split(rf"[{ends}] ", _said(part))[0].rstrip(".")


def _label(pointer: str) -> str:
    """Name a field: of an object that is no group of its own, with the object's name before it."""
    steps = [step.replace("_", " ") for step in pointer.split("/")[1:]]
    is_headed = len(steps) > 1 and steps[0].capitalize() in GROUPS
    said = ", ".join(steps[is_headed:])
    return said[:1].upper() + said[1:]


def _resolved(root: Schema, part: Schema) -> Schema:
    reference = part.get("$ref")
    if reference is None:
        return part
    found = root["$defs"][reference.rpartition("/")[2]]
    return {**found, **part}


def _options(kind: Schema) -> list[Any]:
    """Return the values that a part of the schema names one by one."""
    if "const" in kind:
        return [kind["const"]]
    if kind.get("type") == "boolean":
        return [True, False]
    return list(kind.get("enum", ()))


def _takes(kind: Schema) -> list[str]:
    """Return what a text may stand for that a part of the schema leaves open."""
    if _options(kind):
        return []
    match kind.get("type"):
        case "integer" | "number" as named:
            return [named]
        case "array":
            return [LISTS if kind.get("items", {}).get("type") == "string" else "list"]
        case "object":
            return ["object"]
        case _:
            return ["text"]


def _bounds(kinds: Sequence[Schema]) -> str:
    """Say between which numbers a field may be."""
    for kind in kinds:
        low, high = kind.get("minimum", kind.get("exclusiveMinimum")), kind.get("maximum", kind.get("exclusiveMaximum"))
        if kind.get("type") in ("integer", "number") and low is not None and high is not None:
            above, below = ("above " * ("exclusiveMinimum" in kind)), ("below " * ("exclusiveMaximum" in kind))
            return f"{above}{low:g} to {below}{high:,.10g}"
    return ""
