"""Rows asked of a model without HTTP, and the answer as its JSON has it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.api.answers import to_json
from service.domain.owners import DEFAULT_OWNER
from service.use_cases.predict import answer, check_size
from service.use_cases.serving import Serving


@dataclass(frozen=True)
class Told:
    """What /predict answers."""

    model: str
    version: int
    predictions: list[Any]
    classes: list[Any] | None = None
    probabilities: list[list[float]] | None = None
    warnings: list[str] | None = None


def predict(
    serving: Serving, name: str, instances: Sequence[Any], version: int | None = None, owner: str = DEFAULT_OWNER
) -> Told:
    """Ask a model, by default the version that answers where none is named."""
    served = serving.find(owner, name, version)
    check_size(served, len(instances))
    answered = answer(served, served.reader.check(instances))
    return Told(**json.loads(to_json(served, answered.values, answered.warnings)))
