"""What schemathesis is told of our operations: where ids stand, what bodies hold, which checks are wrong for them."""

import copy
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import HookContext

from tests.formats import arrow_body, csv_body, ndjson_body, npy_body
from tests.fuzz.targets import uploads
from tests.fuzz.world import World

NAMED = {
    "dataset": ("path.dataset_id", "query.dataset", "body.dataset"),
    "model": ("path.name", "query.model", "body.model"),
    "alias": ("path.alias", "path.label", "query.alias", "body.alias"),
    "job": ("path.job_id",),
    "prediction": ("path.prediction_id",),
    "comparison": ("path.comparison_id",),
    "webhook": ("path.webhook_id",),
    "delivery": ("path.number",),
    "tag": ("query.tag",),
    "version": ("path.version", "query.version", "body.version"),
}
"""Where the ids of things stand."""
OFTEN = 0.7
VERSIONS = [1, 1, 1, 2]
FOREIGN = ("/v1", "/v2", "/invocations", "/ping")
"""Protocols that others define."""
ACCEPTED = ("2xx", "3xx", "401", "403", "404", "409", "429", "5xx")
REJECTED = ("400", "401", "403", "404", "405", "406", "409", "415", "422", "428", "429", "5xx")
"""What schemathesis itself takes for an answer to a valid request, and to one that is not."""
ROW = [[1.0, 2.0]]
NAMED_ROW = [{"c0": 1.0, "c1": 2.0, "c2": 3.0, "c3": 4.0}]
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": ROW}
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    ":predict": ("numbers", {"instances": ROW}),
    ":classify": ("classifier", {"examples": NAMED_ROW}),
    ":regress": ("numbers", {"examples": [{"c0": 1.0, "c1": 2.0}]}),
    "/infer": ("numbers", {"inputs": [TENSOR]}),
    "/invocations": ("numbers", {"instances": ROW}),
    "/predict": ("numbers", {"model": "numbers", "instances": ROW}),
    "/jobs": ("", {"dataset": "iris", "tags": ["fuzzed"]}),
    "/probe": ("", {"dataset": "iris", "network": {"units": 8}}),
    "/comparisons": (
        "",
        {"dataset": "iris", "arms": {"a": {"units": 8}, "b": {"kind": "mlp", "units": 8}}, "seeds": [0]},
    ),
}
"""The models and what can be asked of them, or for what, by how the address ends."""


def configuration(there: World, examples: int, seed: int, without: Iterable[str]) -> dict[str, Any]:
    """Return schemathesis' configuration: all checks, but for the exceptions, and the phases but those ``without``."""
    ids: dict[str, list[Any]] = {**there.ids, "version": VERSIONS}
    asked: dict[str, Any] = {
        "seed": seed,
        "dictionaries": {kind: {"values": [int(i) if kind == "delivery" else i for i in ids[kind]]} for kind in NAMED},
        "parameters": {
            place: {"dictionary": kind, "probability": OFTEN} for kind, places in NAMED.items() for place in places
        },
        "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
        "continue-on-failure": True,
        "phases": {phase: {"enabled": False} for phase in without},
        # What is too large may also be more than a bound within the body; 413 comes first.
        "checks": {"negative_data_rejection": {"expected-statuses": [*REJECTED, "413"]}},
        "operations": list(_exceptions(there.app.openapi()["paths"])),
    }
    if there.key is not None:
        asked["headers"] = {"Authorization": f"Bearer {there.key}"}
    return asked


def _exceptions(paths: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            yield {"include-name": f"{method.upper()} {path}", "checks": _checks(path, operation)}


def _checks(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Say which checks are wrong for an operation."""
    checks: dict[str, Any] = {}
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    # No text holds NUL, which a schema could say of each only, and tokens of pages are opaque.
    refused = {"400"}
    if "layer" in names:
        refused.add("422")  # how many there are depends on the job
    if "requestBody" in operation or "Idempotency-Key" in names:
        # Whether a body fits the data set or the model that it names, or the key the request before, no schema can say.
        refused |= set() if path.startswith(FOREIGN) else {"413", "422"}
    if path.startswith("/v1"):
        # TensorFlow Serving answers every address and method that it does not know with "Malformed request" and 400.
        checks["unsupported_method"] = {"enabled": False}
    if path.startswith("/v2"):
        # 501 is what a server of that protocol says to what it does not do.
        checks["not_a_server_error"] = {"expected-statuses": ["2xx", "3xx", "4xx", "501"]}
    if path == "/ping":
        # MLflow's own answer is an empty line that is called JSON.
        checks["response_schema_conformance"] = {"enabled": False}
    return {**checks, "positive_data_acceptance": {"expected-statuses": [*ACCEPTED, *sorted(refused)]}}


def with_good_rows(_context: HookContext, case: schemathesis.Case[Any]) -> schemathesis.Case[Any]:
    """Ask every other time for what can be done, where that is never drawn by chance."""
    # Where one request follows from another, it is said later on what was not valid in it, of what was drawn.
    is_drawn = case.meta is not None and case.meta.phase.name.value == "fuzzing"
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    ending = next((ending for ending in GOOD if case.path.endswith(ending)), None)
    number = zlib.crc32(repr((case.path, case.path_parameters, case.body)).encode())
    if ending is not None and is_drawn and is_valid and number % 2 and case.media_type == "application/json":
        model, case.body = copy.deepcopy(GOOD[ending])
        if "name" in case.path_parameters:
            case.path_parameters = {**case.path_parameters, "name": model}
        if ending == "/invocations":
            case.query = {"model": model}
    return case


def register_bodies() -> None:
    """Say what stands in bodies that are no JSON: files that are good, and anything."""
    rows = [[1.0, 2.5], [-3e10, 0.0]]
    bodies: dict[str, list[bytes]] = {
        "text/csv": [*uploads("csv"), csv_body(["c0", "c1"], rows)],
        "application/x-ndjson": [*uploads("ndjson"), ndjson_body(rows)],
        "application/vnd.apache.parquet": list(uploads("parquet")),
        "application/vnd.apache.arrow.stream": [arrow_body({"c0": [1.0], "c1": [2.5]})],
        "application/x-npy": [npy_body(rows)],
    }
    for kind, good in bodies.items():
        schemathesis.openapi.media_type(kind, st.sampled_from(good) | st.binary())
