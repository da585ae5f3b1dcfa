"""What the OpenAPI document says of the protocols, and errors that the application itself gives at their addresses."""

from typing import Any

import httpx2 as httpx
import pytest

PATHS = {
    "/v2": {"get"},
    "/v2/health/live": {"get"},
    "/v2/health/ready": {"get"},
    "/v2/models/stats": {"get"},
    "/v2/models/{name}": {"get"},
    "/v2/models/{name}/ready": {"get"},
    "/v2/models/{name}/config": {"get"},
    "/v2/models/{name}/stats": {"get"},
    "/v2/models/{name}/infer": {"post"},
    "/v2/models/{name}/versions/{version}": {"get"},
    "/v2/models/{name}/versions/{version}/ready": {"get"},
    "/v2/models/{name}/versions/{version}/config": {"get"},
    "/v2/models/{name}/versions/{version}/stats": {"get"},
    "/v2/models/{name}/versions/{version}/infer": {"post"},
    "/v2/repository/index": {"post"},
    "/v2/repository/models/{name}/load": {"post"},
    "/v2/repository/models/{name}/unload": {"post"},
    **{
        f"/v1/models/{{name}}{version}{action}": {method}
        for version in ("", "/versions/{version}", "/labels/{label}")
        for action, method in {
            ":predict": "post",
            ":classify": "post",
            ":regress": "post",
            "": "get",
            "/metadata": "get",
        }.items()
    },
    "/ping": {"get"},
    "/invocations": {"post"},
}


@pytest.fixture(scope="module")
def description(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def resolved(value: Any, description: dict[str, Any]) -> Any:
    """Follow references; one that leads nowhere is an error."""
    if isinstance(value, dict):
        if "$ref" in value:
            found: Any = description
            for step in value["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            return resolved(found, description)
        return {name: resolved(item, description) for name, item in value.items()}
    return [resolved(item, description) for item in value] if isinstance(value, list) else value


def test_every_route_is_described(description: dict[str, Any]) -> None:
    described = {
        path: set(operations)
        for path, operations in description["paths"].items()
        if path.startswith(("/v1", "/v2", "/ping", "/invocations"))
    }
    assert described == PATHS


def test_descriptions_are_complete(description: dict[str, Any]) -> None:
    for path, methods in PATHS.items():
        for method in methods:
            operation = resolved(description["paths"][path][method], description)
            names = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
            assert names == {word for word in ("name", "version", "label") if f"{{{word}}}" in path}, path
            errors = operation["responses"]["default"]["content"]["application/json"]["schema"]["properties"]
            expected = {"error_code", "message"} if path in ("/ping", "/invocations") else {"error"}
            assert set(errors) == expected, path
            assert operation["summary"], path


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/v2/models/{name}/infer", "inputs", "outputs"),
        ("/v1/models/{name}:predict", "instances", "predictions"),
        ("/v1/models/{name}:classify", "examples", "results"),
        ("/invocations", "dataframe_split", "predictions"),
    ],
)
def test_bodies_are_described(description: dict[str, Any], path: str, body: str, answer: str) -> None:
    operation = resolved(description["paths"][path]["post"], description)
    assert body in operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert answer in operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]


def test_binary_forms_are_described(description: dict[str, Any]) -> None:
    infer = description["paths"]["/v2/models/{name}/infer"]["post"]
    assert "application/octet-stream" in infer["requestBody"]["content"]
    assert "application/octet-stream" in infer["responses"]["200"]["content"]
    invocations = description["paths"]["/invocations"]["post"]
    assert "text/csv" in invocations["requestBody"]["content"]
    assert "text/csv" in invocations["responses"]["200"]["content"]


def test_errors_of_native_routes_stay_problems(description: dict[str, Any], client: httpx.Client) -> None:
    errors = description["paths"]["/predict"]["post"]["responses"]["default"]["content"]
    assert errors.keys() == {"application/problem+json"}
    assert client.get("/nothing").headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "key"),
    [("/v1/models/a%00:predict", "error"), ("/v2/models/a%00/infer", "error"), ("/invocations?model=%00", "message")],
)
def test_what_is_refused_at_the_entrance(client: httpx.Client, path: str, key: str) -> None:
    answer = client.post(path, json={})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json()[key] == "the address holds a NUL character; leave it out"


def test_every_answer_carries_its_id(client: httpx.Client) -> None:
    for path in ("/v2", "/v2/models/none", "/v1/models/none", "/ping"):
        assert len(client.get(path).headers.get_list("x-request-id")) == 1
