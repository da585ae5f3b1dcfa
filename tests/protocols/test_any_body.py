"""Whatever is sent, each protocol answers it or refuses it in its own words; nothing is an error of the server."""

import json
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.protocols.models import PERSON, houses

WORDS = [
    *("inputs", "outputs", "instances", "examples", "context", "signature_name", "dataframe_split", "columns", "data"),
    *("dataframe_records", "params", "name", "shape", "datatype", "parameters", "binary_data_size", "classification"),
    *("binary_data", "binary_data_output", "b64", "x", "y", "id", "label", "probabilities", *PERSON, "FP32", "BYTES"),
]
CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 30)
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
    | st.just(houses(1)[0])
)
VALUES = st.recursive(
    CELLS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=15,
)


def column(name: str, cell: Any) -> dict[str, Any]:
    datatype = {"age": "FP32", "weight": "FP64", "flag": "BOOL"}.get(name, "BYTES")
    return {"name": name, "shape": [1], "datatype": datatype, "data": [str(cell) if datatype == "BYTES" else cell]}


GIVEN = {"name": "x", "shape": [1, 13], "datatype": "FP32", "data": houses(1)}
RIGHT: dict[str, dict[str, Any]] = {
    "/v2/models/houses/infer": {"id": "a", "inputs": [GIVEN], "outputs": [{"name": "y", "parameters": {}}]},
    "/v2/models/people/infer": {"inputs": [column(name, cell) for name, cell in PERSON.items()]},
    "/v1/models/houses:predict": {"signature_name": "", "instances": houses(1)},
    "/v1/models/people:predict": {"inputs": {name: [cell] for name, cell in PERSON.items()}},
    "/v1/models/flowers:classify": {"context": {"sepal": 1.0}, "examples": [{"petal": 1.0}]},
    "/invocations": {"dataframe_split": {"columns": list(PERSON), "data": [list(PERSON.values())]}},
    "/invocations?model=houses": {"inputs": houses(1), "params": {}},
    "/v2/repository/index": {"ready": True},
}
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def check(client: httpx.Client, path: str, content: bytes, **headers: str) -> None:
    answer = client.post(path, content=content, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        keys = {"error_code", "message"} if path.startswith("/invocations") else {"error"}
        assert answer.json().keys() == keys


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return a value with some part of it changed, left out or put beside another one."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 5)):
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: changed(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], changed(draw, value[place]), *value[place + draw(st.integers(0, 1)) :]]
    return draw(VALUES)


@st.composite
def almost_right(draw: st.DrawFn, path: str) -> bytes:
    body = RIGHT[path]
    for _ in range(draw(st.integers(1, 3))):
        body = changed(draw, body)
    return json.dumps(body).encode()


@pytest.mark.parametrize("path", RIGHT)
def test_what_the_others_start_from_is_right(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=RIGHT[path])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", RIGHT)
@FEW
@given(data=st.data())
def test_bodies_that_are_almost_right(client: httpx.Client, path: str, data: st.DataObject) -> None:
    check(client, path, data.draw(almost_right(path)))


@pytest.mark.parametrize("path", RIGHT)
@FEW
@given(value=VALUES)
def test_any_json(client: httpx.Client, path: str, value: Any) -> None:
    check(client, path, json.dumps(value).encode())


@FEW
@given(head=almost_right("/v2/models/people/infer"), rest=st.binary(max_size=30), length=st.integers(0, 400))
def test_any_bytes_after_the_json(client: httpx.Client, head: bytes, rest: bytes, length: int) -> None:
    for announced in (len(head), length):
        check(client, "/v2/models/people/infer", head + rest, **{"Inference-Header-Content-Length": str(announced)})


@FEW
@given(text=st.text(alphabet=st.sampled_from('0123456789.,-"\n\r; anurse'), max_size=60))
def test_any_csv(client: httpx.Client, text: str) -> None:
    check(client, "/invocations", text.encode(), **{"Content-Type": "text/csv"})
