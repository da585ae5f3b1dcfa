"""A set of everything that an owner can have, stored by hand when it is asked for, each thing under a telling name."""

import itertools
import zlib
from collections.abc import Callable
from typing import Any

from service.domain.comparison_spec import ComparisonSpec
from service.domain.limits import Limits
from service.domain.webhooks import WebhookSpec
from service.storage import aliases, deliveries, leases, webhooks
from service.storage.database import Database
from service.use_cases.comparisons import submit_comparison_once
from service.use_cases.idempotency import StoredAnswer
from tests import predictions
from tests.api.comparing import TWO_ARMS
from tests.api.support import claimed
from tests.factories import measured, progress, saved_state, stored_job

_numbers = itertools.count(1)


class Things:
    """What an owner has, by kind; what is not asked for is not made."""

    def __init__(self, database: Database, owner: str) -> None:
        self.owner = owner
        self._database = database.owned_by(owner)
        self._made: dict[str, str] = {}

    def __getitem__(self, kind: str) -> str:
        """Return the id, name or number of a thing of some kind."""
        if kind not in self._made:
            self._made[kind] = MAKERS[kind](self, self._database, f"{self.owner}x{kind}{next(_numbers)}")
        return self._made[kind]


def missing(kind: str) -> str:
    """What could be the id of a thing, and is that of none."""
    return "987654" if kind == "delivery" else f"nobodys{kind}"


def _dataset(_things: Things, database: Database, name: str) -> str:
    rows = [float(row) for row in range(40)]
    predictions.store_table(database, {"a": rows, "b": rows, "y": [2 * row for row in rows]}, name)
    stored_job(database, f"{name}job", dataset=name, target="y")
    predictions.register(database, f"{name}model")
    predictions.submit(database, f"{name}prediction", model=f"{name}model", dataset=name)
    return name


def _model(_things: Things, database: Database, name: str) -> str:
    predictions.register(database, name)
    stored_job(database, f"{name}job", model=name)
    predictions.store_table(database, {"a": [1.0], "b": [2.0]}, f"{name}rows")
    predictions.submit(database, f"{name}prediction", model=name, dataset=f"{name}rows")
    return name


def _alias(things: Things, database: Database, name: str) -> str:
    model = things["model"]
    with database.write() as connection:
        aliases.put(connection, model, name, 1)
    return name


def _tag(_things: Things, database: Database, name: str) -> str:
    stored_job(database, f"{name}job", tags=[name])
    _submit_prediction(database, f"{name}prediction", tags=[name])
    return name


def _job(_things: Things, database: Database, name: str) -> str:
    """Store a job that failed after two epochs."""
    stored_job(database, name)
    held = claimed(database, name)
    with database.write() as connection:
        leases.record_split(connection, held, zlib.compress(bytes(150)))
        leases.record(connection, held, progress(2), 1, [measured(1), measured(2)], saved_state(2))
        leases.fail(connection, held, "worker_lost", "why")
    return name


def _prediction(_things: Things, database: Database, name: str) -> str:
    _submit_prediction(database, name)
    predictions.finish(database, name)
    return name


def _comparison(_things: Things, database: Database, name: str) -> str:
    spec = ComparisonSpec.model_validate({"dataset": "iris", **TWO_ARMS, "seeds": [0], "tags": [name]})
    made = submit_comparison_once(database, spec, Limits(), None, lambda _: StoredAnswer(202, {}, b"")).made
    assert made is not None
    return made.comparison.id


def _webhook(_things: Things, database: Database, name: str) -> str:
    spec = WebhookSpec.model_validate({"url": "https://example.com/hook", "events": ["job.failed"]})
    with database.write() as connection:
        webhooks.add(connection, name, spec, "whsec_c2VjcmV0", most=10_000)
    return name


def _delivery(things: Things, database: Database, _name: str) -> str:
    webhook = things["webhook"]
    with database.write() as connection:
        deliveries.add(connection, [webhook], "webhook.test", {})
        return str(deliveries.newest(connection, webhook).number)


def _submit_prediction(database: Database, name: str, **fields: Any) -> None:
    predictions.register(database, f"{name}model")
    predictions.store_table(database, {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}, f"{name}rows")
    predictions.submit(database, name, model=f"{name}model", dataset=f"{name}rows", **fields)


MAKERS: dict[str, Callable[[Things, Database, str], str]] = {
    "dataset": _dataset,
    "model": _model,
    "alias": _alias,
    "tag": _tag,
    "job": _job,
    "prediction": _prediction,
    "comparison": _comparison,
    "webhook": _webhook,
    "delivery": _delivery,
}
