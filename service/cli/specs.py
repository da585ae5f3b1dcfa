"""Make the spec of a request of what stands on the command line; what a spec may say, the service knows."""

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import typer

from service.cli.printing import reason


def assembled(base: Mapping[str, Any], given: Mapping[str, object], settings: Sequence[str] | None) -> dict[str, Any]:
    """Return a spec: of a file, then of options by the field that they stand for, then of ``--set FIELD=VALUE``.

    Raises:
        typer.BadParameter: a setting is not FIELD=VALUE, or its field lies within something that is no object.
    """
    spec = deepcopy(dict(base))
    for field, value in given.items():
        if value is not None and value != []:
            _place(spec, field, value)
    for setting in settings or ():
        field, mark, text = setting.partition("=")
        if not mark or not all(field.split(".")):
            raise typer.BadParameter(
                f"got {setting!r}; say FIELD=VALUE, such as training.epochs=50", param_hint="--set"
            )
        _place(spec, field, value_of(text))
    return spec


def read_spec(path: Path | None) -> dict[str, Any]:
    """Read a spec from a JSON file, or from stdin where the path is ``-``; none is an empty one.

    Raises:
        typer.BadParameter: it cannot be read, or is no JSON object.
    """
    from service.domain.errors import MalformedRequest
    from service.domain.strict_json import loads

    if path is None:
        return {}
    try:
        found = loads(sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes())
    except (OSError, MalformedRequest) as error:
        raise typer.BadParameter(f"{path} cannot be read as a spec: {reason(error)}", param_hint="--spec") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path} must hold a JSON object; got {type(found).__name__}", param_hint="--spec")
    return found


def value_of(text: str) -> Any:
    """Return what a text says as JSON; where it is none, the text itself."""
    from service.domain.errors import MalformedRequest
    from service.domain.strict_json import loads

    try:
        return loads(text.encode("utf-8", "surrogateescape"))
    except MalformedRequest:
        return text


def whole_number(text: str | None) -> int | str | None:
    """Return a whole number; another text is left for the service to judge."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


def widths(text: str | None) -> object:
    """Return one width, or a list of them where there are commas."""
    if text is None or "," not in text:
        return whole_number(text)
    return [whole_number(part.strip()) for part in text.split(",")]


def networks(arms: Sequence[str] | None) -> dict[str, Any] | None:
    """Return the networks of a comparison by name.

    Raises:
        typer.BadParameter: an arm is not NAME=NETWORK, or a name comes twice.
    """
    if not arms:
        return None
    found: dict[str, Any] = {}
    for arm in arms:
        name, mark, text = arm.partition("=")
        if not mark or not name or not text:
            raise typer.BadParameter(f"got {arm!r}; say NAME=NETWORK, such as relu=mlp", param_hint="--arm")
        if name in found:
            raise typer.BadParameter(f"two arms are called {name!r}; give each a name of its own", param_hint="--arm")
        found[name] = network_of(text)
    return found


def network_of(text: str) -> Any:
    """Return a network: a JSON object, or its kind with fields behind it as in ``mlp,activation=tanh,dropout=0.1``.

    Raises:
        typer.BadParameter: a field is not FIELD=VALUE.
    """
    if text.startswith("{"):
        return value_of(text)
    kind, *fields = text.split(",")
    network = {"kind": kind}
    for each in fields:
        field, mark, value = each.partition("=")
        if not mark or not field:
            raise typer.BadParameter(
                f'got {each!r}; say FIELD=VALUE, or the network as JSON: {{"kind": "mlp", "units": [64, 32]}}',
                param_hint="--arm",
            )
        network[field] = value_of(value)
    return network


def numbers(text: str | None) -> list[int | str | None] | None:
    """Return the numbers of a list such as ``0,1,2``."""
    return None if text is None else [whole_number(part.strip()) for part in text.split(",")]


def _place(spec: dict[str, Any], field: str, value: object) -> None:
    """Set a field, named by its way through the objects that it lies in."""
    *way, last = field.split(".")
    inside: Any = spec
    for step in way:
        if inside.get(step) is None:
            inside[step] = {}
        inside = inside[step]
        if not isinstance(inside, dict):
            raise typer.BadParameter(
                f"{field} lies within {step}, which is no object but {inside!r}", param_hint="--set"
            )
    inside[last] = value
