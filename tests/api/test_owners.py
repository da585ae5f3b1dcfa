"""What is another's is answered as what there is not: every id in every route there is, crossed with a second owner.

The routes come from the OpenAPI document and from the application itself. One with an id that is not known here fails.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copy
from typing import Any, Protocol

import anyio
import pytest
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.testclient import TestClient

from service.api import short_ways
from service.api.app import create_app
from service.api.dashboard.live import Feeds
from service.api.gate.scopes import DESCRIPTIONS, ScopedRoute, contexts, needed
from service.api.services import RunningRequests, Services
from service.domain.keys import Scope
from service.storage.database import Database
from service.storage.jobs import JobFilter
from service.task_queue import Doorbell
from service.use_cases import keys
from service.use_cases.idempotency import KeyedRequest
from tests.api.owned_things import MAKERS, Things, missing
from tests.api.support import register_model

PATH_IDS = {
    "dataset_id": "dataset",
    "job_id": "job",
    "comparison_id": "comparison",
    "prediction_id": "prediction",
    "webhook_id": "webhook",
    "number": "delivery",
    "alias": "alias",
    "label": "alias",
}
"""Which kind of thing a part of an address names."""
PLAIN = {"version": "1", "file": "model.onnx", "kind": "activations", "layer": "1", "folder": "x", "rest": "x"}
"""Parts of an address that name nothing that an owner has, or only something within it."""
QUERY_IDS = {"dataset": "dataset", "model": "model", "tag": "tag", "job": "job", "alias": "alias"}
PLAIN_QUERIES = {
    *("page_size", "page_token", "wait", "validate_only", "format", "histograms", "layer", "metric", "state", "action"),
    *(
        "to",
        "since",
        "name",
        "kinds",
        "missing",
        "after",
        "find",
        "target",
        "preset",
        "version",
        "before",
        "next",
        "arm",
    ),
}
"""They name nothing that an owner has, or something within a thing that is named beside it, as versions do."""
REFUSING = {"/v1/{rest:path}", "/v2/{rest:path}", "/dashboard/{path:path}"}
"""They answer what no other route takes, and nothing but that there is no such address."""
ENDLESS = "/dashboard/live/jobs"
"""A stream of a list that is told for as long as somebody listens; what it tells is looked at by itself."""
OPERATORS = {"/metrics"}
"""Tell of everybody, to who runs the service."""
ROW = [[1.0, 2.0]]
SPEC = {"target": "y", "features": ["a", "b"], "training": {"epochs": 1}}
TENSOR = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": ROW}]}
EXAMPLES = {"examples": [{"a": 1.0, "b": 2.0}]}


class Ids(Protocol):
    """The ids that a request names, by the kinds of what they are of."""

    def __getitem__(self, kind: str, /) -> str: ...


Build = Callable[[Ids], dict[str, Any]]
"""Returns what is sent beside the address, by the ids to name."""
BODIES: dict[str, list[Build]] = {
    "POST /datasets": [],
    "PATCH /datasets/{dataset_id}": [lambda _: {"json": {"name": "new"}}],
    "POST /jobs": [
        lambda ids: {"json": {"dataset": ids["dataset"], **SPEC}},
        lambda ids: {"json": {"dataset": ids["dataset"], **SPEC}, "params": {"validate_only": True}},
    ],
    "POST /probe": [lambda ids: {"json": {"dataset": ids["dataset"], **SPEC}}],
    "POST /comparisons": [
        lambda ids: {
            "json": {"dataset": ids["dataset"], "target": "y", "arms": {"snn": {"units": 4}, "mlp": {"kind": "mlp"}}},
            "params": {"validate_only": True},
        }
    ],
    "PUT /models/{name}/aliases/{alias}": [lambda _: {"json": {"version": 1}}],
    "POST /models/{name}/versions/{version}/evaluate": [lambda ids: {"json": {"dataset": ids["dataset"]}}],
    "POST /predictions": [
        lambda ids: {"json": {"model": ids["model"], "dataset": ids["dataset"]}},
        lambda ids: {"json": {"model": ids["model"], "alias": ids["alias"], "dataset": ids["dataset"]}},
    ],
    "POST /predict": [
        lambda ids: {"json": {"model": ids["model"], "instances": ROW}},
        lambda ids: {"json": {"model": ids["model"], "version": 1, "instances": ROW}},
        lambda ids: {"json": {"model": ids["model"], "alias": ids["alias"], "instances": ROW}},
        lambda ids: {"json": {"model": ids["model"], "instances": ROW * 20_000}},
        lambda ids: {
            "params": {"model": ids["model"], "alias": ids["alias"]},
            "content": "a,b\n1,2\n",
            "headers": {"content-type": "text/csv"},
        },
    ],
    "POST /webhooks": [],
    "PATCH /webhooks/{webhook_id}": [lambda _: {"json": {"description": "new"}}],
    "POST /v2/repository/index": [lambda _: {}],
    "POST /invocations": [
        lambda ids: {"json": {"instances": ROW}, "params": {"model": ids["model"]}},
        lambda ids: {"json": {"instances": ROW}, "params": {"model": f"{ids['model']}@{ids['alias']}"}},
        lambda ids: {"json": {"instances": ROW}, "headers": {"X-Amzn-SageMaker-Target-Model": ids["model"]}},
    ],
}
ENDINGS = {":predict": {"instances": ROW}, ":classify": EXAMPLES, ":regress": EXAMPLES, "/infer": TENSOR}
NEW_NAMES = {
    "PUT /models/{name}/aliases/{alias}": {"alias"},
    "POST /jobs": {"model"},
    "POST /probe": {"model"},
    "POST /comparisons": {"model"},
}
"""What is given a name there, which another owner may have given as well."""


@dataclass
class Named:
    """Ids to be named in a request, which keeps in mind of which kinds some were."""

    take: Callable[[str], str]
    kinds: set[str] = field(default_factory=set)

    def __getitem__(self, kind: str) -> str:
        self.kinds.add(kind)
        return self.take(kind)


@dataclass(frozen=True)
class Operation:
    """A method of a route."""

    method: str
    path: str
    queries: frozenset[str]
    fields: frozenset[str] | None
    """The fields of its body; None where it takes none."""
    scope: Scope | None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def kinds(self) -> set[str]:
        """The kinds of things that its address and the fields of its body can name."""
        parts = re.findall(r"{(\w+)(?::path)?}", self.path)
        found = {kind for part in parts if (kind := kind_of(self.path, part)) is not None}
        unknown = self.queries - QUERY_IDS.keys() - PLAIN_QUERIES
        assert not unknown, f"{self.name}: say here what {unknown} may name"
        words = {*self.queries, *(self.fields or ())}
        ids = {name for name in words if name in QUERY_IDS or name.endswith(("_id", "_of"))}
        assert ids <= QUERY_IDS.keys(), f"{self.name}: say here what {ids} name"
        return (found | {QUERY_IDS[name] for name in ids}) - NEW_NAMES.get(self.name, set())

    def builds(self) -> list[Build]:
        """Every request to be made, each by what stands beside its address."""
        if self.name in BODIES:
            return BODIES[self.name]
        for ending, body in ENDINGS.items():
            if self.fields is not None and self.path.endswith(ending):
                return [partial(_same, {"json": body})]
        assert self.fields is None, f"{self.name}: say here what its body may name"
        return [
            partial(_same, {}),
            *(partial(_query, name) for name in sorted(self.queries & QUERY_IDS.keys())),
        ]

    def address(self, ids: Ids) -> str:
        def fill(found: re.Match[str]) -> str:
            kind = kind_of(self.path, found[1])
            if kind is not None and kind not in NEW_NAMES.get(self.name, ()):
                return ids[kind]
            return plot_or(self.path, found[1])

        return re.sub(r"{(\w+)(?::path)?}", fill, self.path)


def _same(sent: dict[str, Any], _ids: Ids) -> dict[str, Any]:
    return dict(sent)


def _query(name: str, ids: Ids) -> dict[str, Any]:
    return {"params": {name: ids[QUERY_IDS[name]]}}


def kind_of(path: str, part: str) -> str | None:
    """Return which kind of thing a part of an address names; None where it is none of an owner's."""
    if part == "name" and not re.search("/plots/|/static/|/lines/", path):
        return "model"
    if part in PATH_IDS:
        return PATH_IDS[part]
    assert part in PLAIN or part == "name" or part == "alias", f"{path}: say here what {part} names"
    return None


def plot_or(path: str, part: str) -> str:
    if part == "name":
        return "learning_curves.svg"
    return {**PLAIN, "alias": "new"}[part]


@pytest.fixture(scope="module")
def database(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One kind of database does: that each statement names the owner is looked at on both, by every test."""
    path = tmp_path_factory.mktemp("owners") / "selfnorm.db"
    copy(stocked_sqlite, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def services(database: Database) -> Services:
    return Services(database, Doorbell("redis://127.0.0.1:1/0"), authentication=True)


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def headers(database: Database) -> dict[tuple[str, Scope], dict[str, str]]:
    """A key for each owner and scope."""
    return {
        (owner, scope): {"Authorization": f"Bearer {keys.create_key(database, 'k', owner, [scope], None)[1]}"}
        for owner in ("ann", "bob")
        for scope in Scope
    }


def operations(services: Services) -> list[Operation]:
    """Every method of every route: of the document, and of the pages, which are not in it."""
    app = create_app(services)
    document = app.openapi()["paths"]
    found = []
    for route in contexts(app.routes):
        path, endpoint = str(route.path), route.endpoint
        if path in DESCRIPTIONS | REFUSING or endpoint is None or not isinstance(route.original_route, ScopedRoute):
            continue
        parameters = get_flat_params(route.original_route.dependant)
        queries = {str(one.alias) for one in parameters if isinstance(one.field_info, Query)}
        for method in sorted(set(route.methods or ()) - {"HEAD"}):
            described = document.get(path, {}).get(method.lower(), {})
            queries |= {one["name"] for one in described.get("parameters", []) if one["in"] == "query"}
            fields = fields_of(app.openapi(), described["requestBody"]) if "requestBody" in described else None
            found.append(Operation(method, path, frozenset(queries), fields, min(needed(endpoint), default=None)))
    assert {(method.upper(), path) for path, methods in document.items() for method in methods} <= {
        (one.method, one.path) for one in found
    }, "every route of the document is one of the application"
    return found


def fields_of(document: dict[str, Any], body: dict[str, Any]) -> frozenset[str]:
    """Return the names of all fields that a body in JSON may have, at any depth."""
    names: set[str] = set()
    waiting = [one["schema"] for kind, one in body["content"].items() if "json" in kind]
    seen = set()
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, dict):
            if "$ref" in schema and schema["$ref"] not in seen:
                seen.add(schema["$ref"])
                waiting.append(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
            names |= schema.get("properties", {}).keys()
            waiting.extend(schema.values())
        elif isinstance(schema, list):
            waiting.extend(schema)
    return frozenset(names)


def comparable(answer: Any, named: Mapping[str, str]) -> tuple[int, str, str]:
    """What an answer says, but for the ids that the request named, its own number and the time."""
    text = answer.text
    for kind, value in named.items():
        text = re.sub(rf"\b{re.escape(value)}\b", f"<{kind}>", text)
    text = re.sub(r'"(request_id|now)": ?("\w+"|[\d.]+)', "", text).replace(answer.headers["x-request-id"], "")
    return answer.status_code, answer.headers.get("content-type", ""), text


@dataclass(frozen=True)
class Matrix:
    """Asks for an owner, with the ids of anybody."""

    client: TestClient
    database: Database
    keys: dict[tuple[str, Scope], dict[str, str]]

    def ask(self, owner: str, operation: Operation, build: Build, ids: Mapping[str, str]) -> tuple[int, str, str]:
        sent = build(ids)
        key = self.keys[owner, operation.scope or Scope.READ]
        headers = {**key, **sent.pop("headers", {})}
        answer = self.client.request(operation.method, operation.address(ids), headers=headers, **sent)
        return comparable(answer, ids)

    def faults(self, operation: Operation) -> Iterator[str]:
        """Cross every id of every request, each by itself and all together, and name every kind at least once."""
        used = set[str]()
        for build in operation.builds():
            ann, bob = Things(self.database, "ann"), Things(self.database, "bob")
            named = Named(bob.__getitem__)
            build(named)
            operation.address(named)
            used |= named.kinds
            for kinds in [*({kind} for kind in named.kinds), named.kinds] if named.kinds else ():
                theirs = {kind: ann[kind] if kind in kinds else bob[kind] for kind in named.kinds}
                nobodys = {kind: missing(kind) if kind in kinds else bob[kind] for kind in named.kinds}
                told = self.ask("bob", operation, build, theirs)
                expected = self.ask("bob", operation, build, nobodys)
                if told != expected or told[0] >= 500:
                    yield f"{operation.name}: bob is told of {kinds} of ann's\n {told}\n and of nobody's\n {expected}"
            if named.kinds:
                own = self.ask("ann", operation, build, {kind: ann[kind] for kind in named.kinds})
                if own[0] in (404, 500) or own == told:
                    yield f"{operation.name}: ann is told of her own\n  {own}\n  and bob\n  {told}"
        if forgotten := operation.kinds - used:
            yield f"{operation.name}: no request here names {forgotten}"


@pytest.fixture(scope="module")
def matrix(client: TestClient, database: Database, headers: dict[tuple[str, Scope], dict[str, str]]) -> Matrix:
    return Matrix(client, database, headers)


def test_what_is_anothers_is_answered_as_what_there_is_not(services: Services, matrix: Matrix) -> None:
    with_ids = [one for one in operations(services) if one.path != ENDLESS and (one.kinds or one.name in BODIES)]
    assert len(with_ids) > 90, "every route with an id, which is all of them"
    faults = [fault for operation in with_ids for fault in matrix.faults(operation)]
    assert not faults, "\n".join(faults)


def test_lists_hold_nothing_of_anothers(services: Services, matrix: Matrix) -> None:
    for owner in ("ann", "bob"):
        things = Things(matrix.database, owner)
        for kind in MAKERS:
            things[kind]
        model = things["model"]
        asked = matrix.client.post(
            "/predict", json={"model": model, "instances": ROW}, headers=matrix.keys[owner, Scope.PREDICT]
        )
        assert asked.status_code == 200
    lists = set()
    for operation in operations(services):
        is_open = "{" not in operation.path and operation.path not in {*OPERATORS, ENDLESS}
        if not is_open or (operation.method != "GET" and operation.path != "/v2/repository/index"):
            continue
        hers = matrix.ask("ann", operation, lambda _: {}, {})
        his = matrix.ask("bob", operation, lambda _: {}, {})
        assert "annx" not in his[2], operation.name
        assert "bobx" not in hers[2], operation.name
        if "annx" in hers[2] and "bobx" in his[2]:
            lists.add(operation.path)
    assert lists >= {"/datasets", "/jobs", "/predictions", "/models", "/webhooks", "/v2/models/stats"}
    assert lists >= {"/v2/repository/index", "/", "/dashboard/datasets", "/dashboard/models", "/dashboard/jobs"}
    comparisons = [
        matrix.client.get("/comparisons", headers=matrix.keys[owner, Scope.READ]).json()["items"]
        for owner in ("ann", "bob")
    ]
    assert all(comparisons)
    assert not {one["id"] for one in comparisons[0]} & {one["id"] for one in comparisons[1]}


def test_token_of_anothers_page_leads_to_ones_own_things(matrix: Matrix) -> None:
    for owner in ("ann", "bob"):
        for _ in range(2):
            Things(matrix.database, owner)["webhook"]
    first = matrix.client.get("/webhooks?page_size=1", headers=matrix.keys["ann", Scope.READ]).json()
    query = {"page_token": first["next_page_token"]}
    told = matrix.client.get("/webhooks", params=query, headers=matrix.keys["bob", Scope.READ]).text
    assert "annx" not in told


def test_models_of_one_name_are_two_models(matrix: Matrix) -> None:
    for owner, weight in (("ann", 1.0), ("bob", 10.0)):
        register_model(matrix.database.owned_by(owner), "same", f"{owner}s", weight)
    register_model(matrix.database.owned_by("bob"), "same", "bobs other", 100.0)
    for _ in range(2):  # looked up, and in memory
        for owner, expected in (("ann", [3.0]), ("bob", [300.0])):
            key = matrix.keys[owner, Scope.PREDICT]
            asked = {"model": "same", "instances": ROW}
            assert matrix.client.post("/predict", json=asked, headers=key).json()["predictions"] == expected
            answer = matrix.client.post("/v1/models/same:predict", json={"instances": ROW}, headers=key)
            assert answer.json()["predictions"] == [expected] or answer.json()["predictions"] == expected
    submits = matrix.keys["bob", Scope.SUBMIT]
    assert matrix.client.put("/models/same/aliases/production", json={"version": 1}, headers=submits).is_success
    aliases = matrix.client.get("/models/same/aliases", headers=matrix.keys["ann", Scope.READ]).json()
    assert aliases["items"] == []


def test_short_way_knows_only_the_models_of_who_asks(services: Services, matrix: Matrix) -> None:
    register_model(matrix.database.owned_by("ann"), "hers", "hers")
    services.serving.find("ann", "hers")
    body = b'{"model": "hers", "instances": [[1.0, 2.0]]}'
    assert short_ways.predict(services.serving, "ann", b"/predict", body) is not None
    assert short_ways.predict(services.serving, "bob", b"/predict", body) is None


def test_one_word_is_a_key_of_its_own_for_each_owner(matrix: Matrix) -> None:
    made = []
    for owner in ("ann", "bob"):
        headers = {**matrix.keys[owner, Scope.SUBMIT], "Idempotency-Key": "one word"}
        answer = matrix.client.post("/jobs", json={"dataset": "iris"}, headers=headers)
        assert "idempotent-replayed" not in answer.headers
        made.append(answer.json()["id"])
    assert made[0] != made[1]
    held = RunningRequests()
    with held.serving(KeyedRequest("ann", "k", "0")), held.serving(KeyedRequest("bob", "k", "0")):
        pass


def test_list_that_is_followed_is_told_apart_by_owner(matrix: Matrix) -> None:
    feeds, ann, bob = Feeds(), matrix.database.owned_by("ann"), matrix.database.owned_by("bob")
    hers = Things(matrix.database, "ann")["job"]

    async def first(database: Database) -> str:
        with feeds.following(ann, JobFilter()), feeds.following(database, JobFilter()) as feed:
            return str((await feed.look(time.monotonic())).since(0))

    assert hers in anyio.run(first, ann)
    assert hers not in anyio.run(first, bob)
