"""/dashboard/models: what is registered, one model with its versions, and the form that asks it."""

from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.api.dashboard.fields import fields_of, row_of
from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import DatabaseDependency, PageDependency, ServicesDependency
from service.api.gate.scopes import needs
from service.api.services import Services
from service.api.views.models import AliasView, VersionView
from service.domain.datasets import Dataset
from service.domain.errors import UnknownDataset
from service.domain.keys import Scope
from service.domain.model_errors import NoVersionLeft, UnknownAlias
from service.domain.models import MAX_VERSION, Model
from service.storage.database import Database
from service.use_cases import datasets, models
from service.use_cases.inputs import read_inputs
from service.use_cases.model_card import write_card
from service.use_cases.model_facts import VersionFacts, read_facts

router = APIRouter(prefix="/dashboard/models", route_class=PageRoute, include_in_schema=False)

MOST_VERSIONS = 50
MOST_ALIASES = 20
MOST_INPUTS = 200
MOST_FIELDS = 50
"""Of a model with more columns, as one of pictures, the form has the first, and a whole row goes in as JSON."""

Version = Annotated[int | None, Query(ge=1, le=MAX_VERSION)]
Alias = Annotated[str | None, Query(max_length=100)]


@router.get("")
@needs(Scope.READ)
def list_models(database: DatabaseDependency, wanted: PageDependency) -> Response:
    """Show the models, newest first, each with the version that answers."""
    found = models.list_models(database, wanted)
    standing = [(model, {version.version: version for version in model.versions}) for model in found.items]
    return page(
        "models.html",
        here="models",
        models=[(model, versions.get(model.default_version or 0)) for model, versions in standing],
        next_token=found.next_token,
        is_first=wanted.token is None,
    )


@router.get("/{name}")
@needs(Scope.READ)
def show_model(
    name: str,
    request: Request,
    services: ServicesDependency,
    database: DatabaseDependency,
    version: Version = None,
    before: Version = None,
) -> Response:
    """Show a model: its versions and aliases, and all that is known of one version."""
    model = models.get_model(database, name)
    older = [one for one in model.versions if before is None or one.version < before]
    number = version or model.default_version
    facts = None if number is None else read_facts(database, name, number)
    return page(
        "model.html",
        here="models",
        model=model,
        versions=older[:MOST_VERSIONS],
        has_older=len(older) > MOST_VERSIONS,
        aliases=_aliases(database, model),
        facts=facts,
        **({} if facts is None else _about(services, database, facts, str(request.base_url).rstrip("/"))),
    )


@router.get("/{name}/predict")
@needs(Scope.READ)
def ask_model(
    name: str, services: ServicesDependency, database: DatabaseDependency, version: Version = None, alias: Alias = None
) -> Response:
    """Show the form that asks a version, or what an alias stands for."""
    model = models.get_model(database, name)
    number = _meant(model, version, alias)
    asked = models.get_version(database, name, number)
    dataset = _dataset(database, asked.spec["dataset"])
    fields = fields_of(asked, dataset)
    return page(
        "predict.html",
        here="models",
        model=model,
        asked=asked,
        by_number=version is not None,
        alias=alias,
        versions=[one.version for one in model.versions[:MOST_VERSIONS]],
        fields=fields[:MOST_FIELDS],
        width=len(fields),
        row=row_of(fields),
        fields_given=[asdict(replace(field, options=())) for field in fields[:MOST_FIELDS]],
        dataset=dataset,
        has_examples=dataset is not None and datasets.are_rows_here(dataset, services.datasets_dir),
        dropout=asked.spec.get("network", {}).get("dropout"),
        max_bytes=services.max_upload_bytes,
    )


def _meant(model: Model, version: int | None, alias: str | None) -> int:
    """Return which version is asked."""
    if version is not None:
        return version
    if alias is not None:
        if alias not in model.aliases:
            raise UnknownAlias(model.name, alias, sorted(model.aliases))
        return model.aliases[alias]
    if model.default_version is None:
        raise NoVersionLeft(model.name)
    return model.default_version


def _aliases(database: Database, model: Model) -> list[AliasView]:
    names = sorted(model.aliases)[:MOST_ALIASES]
    return [AliasView.of(model.name, *models.get_alias(database, model.name, alias)) for alias in names]


def _about(services: Services, database: Database, facts: VersionFacts, address: str) -> dict[str, Any]:
    """Return what a page says of a version beside its facts."""
    version = facts.version
    return {
        "view": VersionView.of(facts),
        "dataset": _dataset(database, version.spec["dataset"]),
        "has_job": facts.parts is not None,
        "card": write_card(facts, address),
        "asked": read_inputs(database, services.serving, version.name, version.version),
        "parity": max((far for name, far in version.parity.items() if name.endswith("max_difference")), default=None),
        "most_inputs": MOST_INPUTS,
    }


def _dataset(database: Database, dataset_id: str) -> Dataset | None:
    try:
        return datasets.get_dataset(database, dataset_id)
    except UnknownDataset:
        return None
