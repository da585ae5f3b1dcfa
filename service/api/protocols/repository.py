"""What is registered, as the protocols ask for it; what is in memory stands in while the database is down."""

import threading
import time
from collections import OrderedDict

from service.api.services import Services
from service.domain.models import Model
from service.inference.sessions import has_runtime
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN
from service.storage.pages import MAX_PAGE_SIZE, PageRequest
from service.use_cases import models

FRESH_SECONDS = 0.5
"""So long nobody looks again which models there are."""
MOST_OWNERS = 1000
"""Of so many it is kept, those whose models were looked for last."""


def every_model(database: Database) -> list[Model]:
    """Return all models of whom the database is opened for, by name."""
    found: list[Model] = []
    page = models.list_models(database, PageRequest(MAX_PAGE_SIZE))
    found += page.items
    while page.next_token is not None:
        page = models.list_models(database, PageRequest(MAX_PAGE_SIZE, page.next_token))
        found += page.items
    return sorted(found, key=lambda model: model.name)


def versions_of(services: Services, owner: str, name: str) -> list[int]:
    """Return the versions of an owner's model, newest first.

    Raises:
        UnknownModel: there is none of this name.
    """
    try:
        return [summary.version for summary in models.get_model(services.database.owned_by(owner), name).versions]
    except DATABASE_DOWN:
        loaded = services.serving.loaded_of(owner, name)
        if not loaded:
            raise
        return sorted((served.version.version for served in loaded), reverse=True)


def can_serve(services: Services) -> bool:
    """Whether this process can answer rows: it has models in memory, or can load them."""
    if not has_runtime():
        return False
    try:
        services.database.watch.check()
    except DATABASE_DOWN:
        return bool(services.serving.loaded())
    return True


class OnlyModel:
    """The one model that an owner has, where it is the only one; known without a look at the database each time."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._known: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    def names(self, services: Services, owner: str) -> list[str]:
        """Return the names of models that have versions, two at most; while the database is down, the last known."""
        looked_at, names = self._known.get(owner, (float("-inf"), []))
        if time.monotonic() - looked_at < FRESH_SECONDS:
            return names
        try:
            page = models.list_models(services.database.owned_by(owner), PageRequest(MAX_PAGE_SIZE))
        except DATABASE_DOWN:
            if not names:
                raise
            return names
        names = [model.name for model in page.items if model.versions][:2]
        self._keep(owner, names)
        return names

    def _keep(self, owner: str, names: list[str]) -> None:
        with self._changing:
            self._known[owner] = (time.monotonic(), names)
            self._known.move_to_end(owner)
            while len(self._known) > MOST_OWNERS:
                self._known.popitem(last=False)
