"""/models: what is registered."""

from typing import Annotated

from fastapi import APIRouter, Path

from service.api.dependencies import PageDependency, ServicesDependency
from service.api.views import ModelView, PageView, VersionView
from service.domain.models import MAX_VERSION
from service.use_cases import models

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def list_models(services: ServicesDependency, page: PageDependency) -> PageView[ModelView]:
    """List models, newest first."""
    found = models.list_models(services.database, page)
    return PageView(items=[ModelView.of(model) for model in found.items], next_page_token=found.next_token)


@router.get("/{name}")
def get_model(name: str, services: ServicesDependency) -> ModelView:
    """Read a model with its versions."""
    return ModelView.of(models.get_model(services.database, name))


@router.get("/{name}/versions/{version}")
def get_version(
    name: str, version: Annotated[int, Path(ge=1, le=MAX_VERSION)], services: ServicesDependency
) -> VersionView:
    """Read one version: spec, metrics, columns, parity."""
    return VersionView.of(models.get_version(services.database, name, version))
