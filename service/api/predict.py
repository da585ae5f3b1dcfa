"""/predict: raw rows in, answers out."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import WithJsonSchema

from service.api.dependencies import ServicesDependency, StrictRoute
from service.api.views import PredictionView
from service.domain.bounds import Between, Frozen, Name
from service.domain.models import MAX_VERSION
from service.use_cases import predict as use_case

router = APIRouter(tags=["predictions"], route_class=StrictRoute)

_VALUE = {"type": ["number", "boolean", "string", "null"]}
Instances = Annotated[
    list[Any],
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [{"type": "array", "items": _VALUE}, {"type": "object", "additionalProperties": _VALUE}]
            },
        }
    ),
]


class PredictRequest(Frozen):
    """Rows for a model."""

    model: Name
    """The model's name."""
    version: Annotated[int | None, Between(1, MAX_VERSION)] = None
    """Which version; null: the newest."""
    alias: Name | None = None
    """Which alias, instead of a version."""
    instances: Instances
    """Raw rows: arrays in the order of the model's columns, or objects by column name."""


@router.post("/predict", response_model_exclude_none=True)
def predict(body: PredictRequest, services: ServicesDependency) -> PredictionView:
    """Answer raw rows with a model."""
    found = use_case.predict(services.database, services.sessions, body.model, body.instances, body.version, body.alias)
    return PredictionView.of(found)
