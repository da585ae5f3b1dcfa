"""Models: versions, aliases, cards, files, evaluations."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from service.api.views.models import AliasesView, AliasSummaryView, AliasView, ModelView, VersionView
from service.api.views.predictions import PredictionJobView
from service.client import answers
from service.client.downloads import downloaded
from service.client.methods import AsyncResource, Resource, awaited, listed, listed_async, sent
from service.client.requests import Reference, at, given, listing, with_json
from service.client.steps import Call, Exchange, Listing, Steps

FileName = Literal["model.keras", "model.onnx", "encoder.json"]


def list_all() -> Listing[ModelView]:
    """List models, newest first; they come as they are gone through."""
    return Listing(lambda token: Call(listing("/models", token), answers.page(ModelView)))


def get(name: str) -> Call[ModelView]:
    """Read a model with its versions and aliases."""
    return Call(Exchange("GET", at("models", name)), answers.view(ModelView))


def version(name: str, version: int) -> Call[VersionView]:
    """Read all that is known of a version: spec, data, metrics, calibration, columns, parity, files."""
    return Call(Exchange("GET", _version(name, version)), answers.view(VersionView))


def delete_version(name: str, version: int) -> Call[None]:
    """Delete a version with its files; its number is not given again."""
    return Call(Exchange("DELETE", _version(name, version)), answers.nothing, removes=True)


def aliases(name: str) -> Call[list[AliasSummaryView]]:
    """List the aliases of a model, by name."""
    read = answers.view(AliasesView)
    return Call(Exchange("GET", at("models", name, "aliases")), lambda answer: read(answer).items)


def alias(name: str, alias: str) -> Call[AliasView]:
    """Read an alias with its history."""
    return Call(Exchange("GET", at("models", name, "aliases", alias)), answers.view(AliasView))


def set_alias(name: str, alias: str, version: int) -> Call[AliasView]:
    """Let an alias stand for a version, from now on in every process of the service."""
    exchange = with_json("PUT", at("models", name, "aliases", alias), {"version": version})
    return Call(exchange, answers.view(AliasView))


def rollback(name: str, alias: str) -> Call[AliasView]:
    """Let an alias stand for what it stood for before its last change."""
    return Call(
        Exchange("POST", at("models", name, "aliases", alias, "rollback")), answers.view(AliasView), creates=True
    )


def delete_alias(name: str, alias: str) -> Call[None]:
    """Remove an alias; rolling back brings it back."""
    return Call(Exchange("DELETE", at("models", name, "aliases", alias)), answers.nothing, removes=True)


def inputs(name: str, version: int) -> Call[dict[str, Any]]:
    """Say what a version was asked so far: far values, new categories, moments of the last rows."""
    return Call(Exchange("GET", f"{_version(name, version)}/inputs"), answers.plain)


def card(name: str, version: int) -> Call[str]:
    """Read the model card as Markdown: what it predicts, from which data, how good it is, how to ask it."""
    return Call(Exchange("GET", f"{_version(name, version)}/card"), answers.text)


def download(name: str, version: int, file: FileName, path: str | os.PathLike[str]) -> Steps[Path]:
    """Save a file of a version, whole or not at all, and return where; a folder gets it under its own name."""
    return downloaded(Exchange("GET", f"{_version(name, version)}{at('files', file)}"), Path(path), file)


def evaluate(
    name: str,
    version: int,
    dataset: Reference,
    *,
    target: str | None = None,
    keep: Iterable[str] = (),
    tags: Iterable[str] = (),
) -> Call[PredictionJobView]:
    """Predict over a stored data set and hold the answers against the truth; ``client.predictions`` waits for it."""
    body = given(dataset=dataset, target=target, keep=list(keep), tags=list(tags))
    exchange = with_json("POST", f"{_version(name, version)}/evaluate", body)
    return Call(exchange, answers.view(PredictionJobView), creates=True)


def _version(name: str, version: int) -> str:
    return at("models", name, "versions", version)


class Models(Resource):
    """The models of a service."""

    list = listed(list_all)
    get = sent(get)
    version = sent(version)
    delete_version = sent(delete_version)
    aliases = sent(aliases)
    alias = sent(alias)
    set_alias = sent(set_alias)
    rollback = sent(rollback)
    delete_alias = sent(delete_alias)
    inputs = sent(inputs)
    card = sent(card)
    download = sent(download)
    evaluate = sent(evaluate)


class AsyncModels(AsyncResource):
    """The models of a service, awaited."""

    list = listed_async(list_all)
    get = awaited(get)
    version = awaited(version)
    delete_version = awaited(delete_version)
    aliases = awaited(aliases)
    alias = awaited(alias)
    set_alias = awaited(set_alias)
    rollback = awaited(rollback)
    delete_alias = awaited(delete_alias)
    inputs = awaited(inputs)
    card = awaited(card)
    download = awaited(download)
    evaluate = awaited(evaluate)
