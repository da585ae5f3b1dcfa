"""Models: what is registered under which name."""

from service.domain.models import Model, ModelVersion
from service.storage import models, pages
from service.storage.database import Database


def list_models(database: Database, page: pages.PageRequest) -> pages.Page[Model]:
    """List models, newest first."""
    with database.read() as connection:
        return models.list_page(connection, page)


def get_model(database: Database, name: str) -> Model:
    """Read a model with its versions."""
    with database.read() as connection:
        return models.get_model(connection, name)


def get_version(database: Database, name: str, version: int) -> ModelVersion:
    """Read one version of a model."""
    with database.read() as connection:
        return models.get_version(connection, name, version)
