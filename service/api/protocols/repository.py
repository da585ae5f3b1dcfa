"""What is registered, as the protocols ask for it; what is in memory stands in while the database is down."""

import time

from service.api.dependencies import Services
from service.domain.models import Model
from service.inference.sessions import has_runtime
from service.storage.faults import DATABASE_DOWN
from service.storage.pages import MAX_PAGE_SIZE, PageRequest
from service.use_cases import models

FRESH_SECONDS = 0.5
"""So long nobody looks again which models there are."""


def every_model(services: Services) -> list[Model]:
    """Return all models, by name."""
    found: list[Model] = []
    page = models.list_models(services.database, PageRequest(MAX_PAGE_SIZE))
    found += page.items
    while page.next_token is not None:
        page = models.list_models(services.database, PageRequest(MAX_PAGE_SIZE, page.next_token))
        found += page.items
    return sorted(found, key=lambda model: model.name)


def versions_of(services: Services, name: str) -> list[int]:
    """Return the versions of a model, newest first.

    Raises:
        UnknownModel: there is none of this name.
    """
    try:
        return [summary.version for summary in models.get_model(services.database, name).versions]
    except DATABASE_DOWN:
        in_memory = _loaded_versions(services, name)
        if not in_memory:
            raise
        return in_memory


def can_serve(services: Services) -> bool:
    """Whether this process can answer rows: it has models in memory, or can load them."""
    if not has_runtime():
        return False
    try:
        services.database.watch.check()
    except DATABASE_DOWN:
        return bool(services.serving.loaded())
    return True


def _loaded_versions(services: Services, name: str) -> list[int]:
    versions = (served.version.version for served in services.serving.loaded() if served.version.name == name)
    return sorted(versions, reverse=True)


class OnlyModel:
    """The one model that is registered, where it is the only one; known without a look at the database each time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._looked_at = float("-inf")

    def names(self, services: Services) -> list[str]:
        """Return the names of models that have versions, two at most; while the database is down, the last known."""
        if time.monotonic() - self._looked_at < FRESH_SECONDS:
            return self._names
        try:
            page = models.list_models(services.database, PageRequest(MAX_PAGE_SIZE))
        except DATABASE_DOWN:
            if not self._names:
                raise
            return self._names
        self._names = [model.name for model in page.items if model.versions][:2]
        self._looked_at = time.monotonic()
        return self._names
