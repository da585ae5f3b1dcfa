"""A service that holds things of every kind and state, so that what is asked of it is not always answered with 404."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from fastapi import FastAPI

from service.api.app import create_app
from service.api.services import Services
from service.domain.keys import Scope
from service.domain.limits import Limits
from service.domain.owners import DEFAULT_OWNER
from service.outbound import NotSent, Outbound
from service.storage import aliases, jobs, leases, schema, watch
from service.storage.database import Database
from service.task_queue import Doorbell
from service.use_cases import keys
from service.use_cases.datasets import add_builtin_datasets
from service.use_cases.webhooks import WebhookRules
from tests import served
from tests.api.owned_things import Things
from tests.api.support import claimed
from tests.factories import measured, progress, saved_state, stored_job

OF_EACH = 3
KINDS = ("dataset", "model", "job", "prediction", "comparison", "webhook", "delivery", "tag")
STATES = ("queued", "running", "paused", "cancelling", "cancelled", "succeeded")
ALIAS = "production"
ANSWER_SECONDS = 30.0
LIMITS = Limits(max_parameters=200_000, max_cells=200_000, max_memory_bytes=2**30, max_training_seconds=3600.0)
"""Small, for a probe runs the network that is asked for."""


@dataclass(frozen=True)
class World:
    """A running application, and the ids of what is in it by kind."""

    app: FastAPI
    key: str | None
    """Opens everything, where keys are asked for."""
    ids: Mapping[str, list[str]]
    database: Database


@contextmanager
def world(*, authentication: bool, **bounds: Any) -> Iterator[World]:
    """Make one on a database of its own; what is asked of it changes it. ``bounds`` are fields of ``Services``.

    A machine that stands still for a moment is not told from a database that is down; here no database ever is.
    """
    with (
        tempfile.TemporaryDirectory(prefix="selfnorm-world-") as folder,
        mock.patch.object(watch, "ANSWER_SECONDS", ANSWER_SECONDS),
    ):
        database = Database(f"sqlite:///{Path(folder, 'selfnorm.db')}")
        schema.upgrade(database)
        add_builtin_datasets(database)
        owner = "ann" if authentication else DEFAULT_OWNER
        ids = _stocked(database, owner)
        key = keys.create_key(database, "k", owner, [Scope.ADMIN], None)[1] if authentication else None
        yield World(create_app(_services(database, authentication, bounds)), key, ids, database)


def _services(database: Database, authentication: bool, bounds: Mapping[str, Any]) -> Services:
    services = Services(
        database,
        Doorbell("redis://127.0.0.1:1/0"),
        authentication=authentication,
        default_model="numbers",
        webhooks=WebhookRules(Outbound(resolve=_nobody), most=100_000),
        **{"limits": LIMITS, "max_json_bytes": 200_000, "max_upload_bytes": 1_000_000, **bounds},
    )
    services.stopping.set()  # so that no answer is held for what no worker will do
    return services


def _nobody(_host: str, _port: int) -> list[str]:
    raise NotSent("the host's name is not known")


def _stocked(database: Database, owner: str) -> dict[str, list[str]]:
    """Store some things of every kind."""
    ids: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for _ in range(OF_EACH):
        things = Things(database, owner)
        for kind in KINDS:
            ids[kind].append(things[kind])
    theirs = database.owned_by(owner)
    served.register(theirs, *(served.numbers("numbers") for _ in range(OF_EACH)), served.mixed("mixed"))
    served.register(theirs, served.classifier("classifier"), served.mixed("mixed-classifier", classes=2))
    ids["model"] += ["numbers", "mixed", "classifier", "mixed-classifier"]
    ids["alias"] = [ALIAS]
    for model in ids["model"]:
        with theirs.write() as connection:
            aliases.put(connection, model, ALIAS, 1)
    ids["job"] += _jobs_in_every_state(theirs)
    ids["dataset"] += ["iris", "wine", "boston_housing"]
    return ids


def _jobs_in_every_state(database: Database) -> list[str]:
    for state in STATES:
        for number in range(OF_EACH):
            _bring(database, stored_job(database, f"{state}{number}"), state)
    return [f"{state}{number}" for state in STATES for number in range(OF_EACH)]


def _bring(database: Database, job_id: str, state: str) -> None:
    """Bring a queued job to a state."""
    if state in ("queued", "paused", "cancelled"):
        with database.write() as connection:
            if state != "queued":
                (jobs.request_pause if state == "paused" else jobs.request_cancel)(connection, job_id)
        return
    held = claimed(database, job_id)
    with database.write() as connection:
        leases.record(connection, held, progress(2), 1, [measured(1), measured(2)], saved_state(2))
        if state == "cancelling":
            jobs.request_cancel(connection, job_id)
        elif state == "succeeded":
            leases.succeed(connection, held, best_epoch=1, test_metrics=None, version=1)
