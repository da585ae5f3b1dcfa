"""The Open Inference Protocol over HTTP, held against what Triton answers to the same requests."""

import gzip
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from tests.protocols.conftest import predicted
from tests.protocols.models import OTHER_PERSON, PERSON, houses, pictures

HOUSES = houses(2)
INFER = "/v2/models/houses/infer"
LENGTH = "Inference-Header-Content-Length"
MATRIX = {"name": "x", "shape": [2, 13], "datatype": "FP32", "data": HOUSES}
RAW = np.array(HOUSES, np.float32).tobytes()
HEAD = {"inputs": [{"name": "x", "shape": [2, 13], "datatype": "FP32", "parameters": {"binary_data_size": len(RAW)}}]}
TYPES = {"age": "FP32", "weight": "FP64", "job": "BYTES", "floor": "BYTES", "member": "BYTES", "since": "BYTES"}


def post(client: httpx.Client, body: Any, path: str = INFER, headers: Mapping[str, str] = {}) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content, headers={"Accept-Encoding": "identity", **headers})


def asked(client: httpx.Client, body: Any, path: str = INFER, headers: Mapping[str, str] = {}) -> Any:
    answer = post(client, body, path, headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def refusal(
    client: httpx.Client, body: Any, path: str = INFER, status: int = 400, headers: Mapping[str, str] = {}
) -> str:
    answer = post(client, body, path, headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    found: dict[str, str] = answer.json()
    assert found.keys() == {"error"}
    return found["error"]


def of(**fields: Any) -> dict[str, Any]:
    """A request with an input that differs in some fields; None leaves a field out."""
    given = {name: value for name, value in {**MATRIX, **fields}.items() if value is not None}
    return {"inputs": [given]}


def binary(head: Any = HEAD, raw: bytes = RAW) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + raw, {LENGTH: str(len(text))}


def person(*rows: dict[str, Any], shape: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """One input for each column, texts for whatever is a category; a gap is null."""
    inputs = []
    for name in rows[0]:
        cells = [row[name] for row in rows]
        datatype = TYPES.get(name, "BOOL")
        if datatype == "BYTES":
            cells = [None if cell is None else str(cell) for cell in cells]
        inputs.append({"name": name, "shape": [len(rows), *shape], "datatype": datatype, "data": cells})
    return {"inputs": inputs}


def data(answered: Any, name: str = "y") -> Any:
    return next(output["data"] for output in answered["outputs"] if output["name"] == name)


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def test_answer_has_every_field(client: httpx.Client) -> None:
    right = predicted(client, "houses", HOUSES)["predictions"]
    assert asked(client, {"id": "a", **of()}) == {
        "id": "a",
        "model_name": "houses",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [2, 1], "data": right}],
    }
    assert "id" not in asked(client, of())
    assert asked(client, of(), "/v2/models/houses/versions/2/infer")["model_version"] == "2"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_content_type_is_not_looked_at(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert data(asked(client, of(), headers=headers)) == predicted(client, "houses", HOUSES)["predictions"]


@pytest.mark.parametrize(
    "body",
    [
        of(data=[*HOUSES[0], *HOUSES[1]]),
        of(data=[[HOUSES[0]], [HOUSES[1]]]),
        of(data=[HOUSES[0], *HOUSES[1]]),
        of(datatype="FP64"),
        {**of(), "other": 1, "parameters": {"priority": 3, "note": "x", "sequence_id": 4, "share": 0.5}},
        {**of(), "outputs": []},
        {**of(), "outputs": [{"name": "y"}, {"name": "y"}]},
        {**of(), "outputs": [{"name": "y"}], "parameters": {"binary_data_output": True}},
    ],
    ids=["flat", "nested", "nested unevenly", "FP64", "parameters", "no outputs", "output twice", "flag and outputs"],
)
def test_forms_of_the_same_request(client: httpx.Client, body: Any) -> None:
    assert asked(client, body) == asked(client, of())


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16"])
def test_every_type_of_number(client: httpx.Client, datatype: str) -> None:
    rows = [[float(place) for place in range(13)], [2.0] * 13]
    right = predicted(client, "houses", rows)["predictions"]
    assert data(asked(client, of(datatype=datatype, data=rows))) == right
    form = {"FP16": "<f2"}.get(datatype, datatype.lower())
    raw = np.array(rows).astype(form).tobytes()
    head = {"inputs": [{**HEAD["inputs"][0], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}]}
    content, headers = binary(head, raw)
    assert data(asked(client, content, headers=headers)) == right


def test_binary_in_and_out(client: httpx.Client) -> None:
    right = predicted(client, "houses", HOUSES)["predictions"]
    content, headers = binary()
    assert data(asked(client, content, headers=headers)) == right
    for head in (
        {**HEAD, "parameters": {"binary_data_output": True}},
        {**HEAD, "outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    ):
        content, headers = binary(head)
        answer = post(client, content, headers=headers)
        assert answer.headers["content-type"] == "application/octet-stream"
        length = int(answer.headers[LENGTH])
        [output] = json.loads(answer.content[:length])["outputs"]
        assert output == {"name": "y", "datatype": "FP64", "shape": [2, 1], "parameters": {"binary_data_size": 16}}
        assert np.frombuffer(answer.content[length:], "<f8").tolist() == right


def test_raw_bytes_without_json(client: httpx.Client) -> None:
    answer = post(client, RAW, headers={LENGTH: "0"})
    length = int(answer.headers[LENGTH])
    assert np.frombuffer(answer.content[length:], "<f8").tolist() == predicted(client, "houses", HOUSES)["predictions"]
    assert "Expected 104, got 105" in refusal(client, RAW + b"1", headers={LENGTH: "0"})
    assert "send JSON" in refusal(client, RAW, "/v2/models/people/infer", headers={LENGTH: "0"})


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda content: zlib.compress(content, wbits=-15)),
        ("gzip", lambda content: gzip.compress(content[:30]) + gzip.compress(content[30:])),
    ],
    ids=["gzip", "deflate", "deflate without a header", "gzip in two members"],
)
def test_compressed_bodies(client: httpx.Client, encoding: str, pack: Any) -> None:
    right = predicted(client, "houses", HOUSES)["predictions"]
    content, headers = binary()
    assert data(asked(client, pack(content), headers={**headers, "Content-Encoding": encoding})) == right
    assert data(asked(client, pack(json.dumps(of()).encode()), headers={"Content-Encoding": encoding})) == right


def test_bodies_that_are_not_compressed_as_they_say(client: httpx.Client) -> None:
    content, headers = binary()
    packed = gzip.compress(content)
    for encoding in ("gzip", "deflate"):
        said = {**headers, "Content-Encoding": encoding}
        assert "not compressed" in refusal(client, content, headers=said)
    assert "ends too early" in refusal(client, packed[:-12], headers={**headers, "Content-Encoding": "gzip"})
    unknown = {**headers, "Content-Encoding": "br"}
    assert refusal(client, content, status=501, headers=unknown) == "Unsupported compression type"
    bomb = gzip.compress(b" " * (70 * 2**20))
    assert "when it is decompressed" in refusal(client, bomb, status=413, headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip;q=0.1, deflate;q=0.9", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=high", None),
        ("br", None),
        ("*", None),
        ("identity", None),
    ],
)
def test_compressed_answers(client: httpx.Client, accepted: str, encoding: str | None) -> None:
    body = {**of(), "parameters": {"binary_data_output": True}}
    plain, packed = post(client, body), post(client, body, headers={"Accept-Encoding": accepted})
    assert packed.headers.get("content-encoding") == encoding
    assert packed.headers[LENGTH] == plain.headers[LENGTH]  # which counts the JSON as it was before
    assert packed.content == plain.content
    if encoding is not None:
        assert packed.num_bytes_downloaded == int(packed.headers["content-length"])


def test_classes_and_labels(client: httpx.Client) -> None:
    rows = pictures(2)
    right = predicted(client, "pictures", rows)
    body = {"inputs": [{"name": "x", "shape": [2, 64], "datatype": "FP32", "data": rows}]}
    path = "/v2/models/pictures/infer"
    answered = asked(client, body, path)
    assert [(output["name"], output["shape"]) for output in answered["outputs"]] == [
        ("probabilities", [2, 10]),
        ("label", [2, 1]),
    ]
    assert np.array_equal(np.float32(data(answered, "probabilities")), np.float32(right["probabilities"]).ravel())
    assert data(answered, "label") == right["predictions"]
    for wanted, count in ((3, 3), (99, 10)):
        outputs = [{"name": "probabilities", "parameters": {"classification": wanted}}]
        [output] = asked(client, {**body, "outputs": outputs}, path)["outputs"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [2, count])
        best = max(right["probabilities"][0])
        assert output["data"][0] == f"{best:f}:{right['predictions'][0]}:{right['predictions'][0]}"
    outputs = [{"name": "probabilities", "parameters": {"classification": 0}}]
    assert asked(client, {**body, "outputs": outputs}, path)["outputs"] == answered["outputs"][:1]


def test_classification_of_a_number(client: httpx.Client) -> None:
    outputs = [{"name": "y", "parameters": {"classification": 1}}]
    right = predicted(client, "houses", HOUSES)["predictions"]
    [output] = asked(client, {**of(), "outputs": outputs})["outputs"]
    assert output["data"] == [f"{value:f}:0" for value in right]


@pytest.mark.parametrize("shape", [(1,), ()], ids=["[rows, 1]", "[rows]"])
def test_an_input_for_each_column(client: httpx.Client, shape: tuple[int, ...]) -> None:
    right = predicted(client, "people", [PERSON, OTHER_PERSON])["predictions"]
    assert data(asked(client, person(PERSON, OTHER_PERSON, shape=shape), "/v2/models/people/infer")) == right


def test_columns_in_other_types_and_in_binary(client: httpx.Client) -> None:
    path = "/v2/models/people/infer"
    parts = {
        "age": ("FP32", struct.pack("<2f", 44.5, np.nan)),
        "weight": ("INT64", struct.pack("<2q", 70, 55)),
        "job": ("BYTES", texts("nurse", "")),
        "floor": ("INT32", struct.pack("<2i", 2, 3)),
        "member": ("BOOL", b"\x01\x00"),
        "flag": ("FP64", struct.pack("<2d", 0.0, np.nan)),
        "since": ("BYTES", texts("2020-01-31", "")),
    }
    head = {
        "inputs": [
            {"name": name, "shape": [2, 1], "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
            for name, (kind, raw) in parts.items()
        ]
    }
    content, headers = binary(head, b"".join(raw for _, raw in parts.values()))
    right = predicted(client, "people", [{**PERSON, "weight": 70}, OTHER_PERSON])["predictions"]
    assert data(asked(client, content, path, headers=headers)) == right


def test_columns_with_gaps_may_be_left_out(client: httpx.Client) -> None:
    present = {name: cell for name, cell in OTHER_PERSON.items() if cell is not None}
    right = predicted(client, "people", [OTHER_PERSON])["predictions"]
    assert data(asked(client, person(present), "/v2/models/people/infer")) == right


def test_gaps_in_json(client: httpx.Client) -> None:
    rows = [[None, 2.0], [1.0, 3.0]]
    right = predicted(client, "flowers", rows)["predictions"]
    body = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": rows}]}
    path = "/v2/models/flowers/infer"
    assert data(asked(client, body, path), "label") == right
    with_nan = json.dumps(body).replace("null", "NaN").encode()
    assert data(asked(client, with_nan, path), "label") == right
    infinite = json.dumps(body).replace("null", "NaN").replace("3.0", "-Infinity").encode()
    assert "failed to parse the request JSON buffer" in refusal(client, infinite, path)


def test_what_is_odd_about_rows_is_said(client: httpx.Client) -> None:
    answered = asked(client, person({**PERSON, "job": "astronaut"}), "/v2/models/people/infer")
    assert answered["parameters"] == {
        "warnings": "row 0, column 'job': 'astronaut' was not seen in training and is taken as the rare categories are"
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "failed to parse the request JSON buffer: "),
        (b"{", "failed to parse the request JSON buffer: "),
        ([], "failed to parse the request JSON buffer: "),
        ({}, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
        ({"inputs": {}}, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
        ({"inputs": [1]}, "Unable to parse 'inputs': attempt to access JSON non-object as object"),
        (
            {"inputs": []},
            "expected 1 inputs but got 0 inputs for model 'houses'. Got input(s) [], but missing required input(s) "
            "['x']. Please provide all required input(s).",
        ),
        ({**of(), "id": 7}, "Unable to parse 'id': attempt to access JSON non-string as string"),
        ({**of(), "parameters": {"a": [1]}}, "parameter 'a' has invalid type. It should be either 'int', 'bool', or"),
        ({**of(), "parameters": {"triton_a": 1}}, "parameter keys starting with 'triton_' are reserved"),
        ({**of(), "parameters": 1}, "Unable to parse 'parameters': attempt to access JSON non-object as object"),
        ({**of(), "parameters": {"binary_data_output": 1}}, "Unable to parse 'binary_data_output'"),
        ({"inputs": [MATRIX, MATRIX]}, "input 'x' already exists in request"),
        (of(name="z"), "unexpected inference input 'z' for model 'houses'"),
        (of(name=None), "Unable to parse 'name': attempt to access non-existing object member 'name'"),
        (of(shape=None), "Unable to parse 'shape': attempt to access non-existing object member 'shape'"),
        (of(datatype=None), "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'"),
        (of(data=None), "But no field is set"),
        (of(parameters={"binary_data_size": 104}), "But set 'data' 'binary_data_size'"),
        (of(datatype="FLOAT"), "invalid datatype for input x"),
        (of(datatype="BF16"), "inference input 'x' data-type is 'BF16', but model 'houses' expects 'FP32'"),
        (of(datatype="BYTES", data=["a"] * 26), "data-type is 'BYTES', but model 'houses' expects 'FP32'"),
        (of(datatype="BOOL", data=[True] * 26), "data-type is 'BOOL', but model 'houses' expects 'FP32'"),
        (of(shape=[1, 13]), "Unable to parse 'data': Shape does not match true shape of 'data' field"),
        (of(shape=[26]), "unexpected shape for input 'x' for model 'houses'. Expected [-1,13], got [26]"),
        (of(shape=[2, 12], data=[[1.0] * 12] * 2), "Expected [-1,13], got [2,12]"),
        (of(shape=[1, 2, 13]), "Expected [-1,13], got [1,2,13]"),
        (of(shape=[-2, 13]), "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as"),
        (of(shape=[2.0, 13]), "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as"),
        (of(shape=[True, 13]), "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as"),
        (of(shape=[0, 13], data=[]), "the request has no rows; send at least one"),
        (of(data=7), "Unable to parse 'data': attempt to access JSON non-array as array"),
        (of(data=["1"] * 26), "Unable to parse 'data': attempt to access JSON non-number as number"),
        (of(data=[True] * 26), "Unable to parse 'data': attempt to access JSON non-number as number"),
        (of(data=[None] * 26), "row 0, column 'c0': is null, and training saw no gaps in this column; send a value"),
        (of(data=[1e39] * 26), "row 0, column 'c0': must lie within"),
        ({**of(), "outputs": 1}, "Unable to parse 'outputs': attempt to access JSON non-array as array"),
        ({**of(), "outputs": [{}]}, "Unable to parse 'name': attempt to access non-existing object member 'name'"),
        ({**of(), "outputs": [{"name": "z"}]}, "unexpected inference output 'z' for model 'houses'"),
        (
            {**of(), "outputs": [{"name": "y", "parameters": {"classification": -1}}]},
            "Unable to parse 'classification'",
        ),
    ],
)
def test_requests_that_cannot_be_taken(client: httpx.Client, body: Any, text: str) -> None:
    assert text in refusal(client, body)


def test_deeply_nested_cells(client: httpx.Client) -> None:
    cells: Any = [1.0] * 26
    for _ in range(30):
        cells = [cells]
    assert "nests deeper than 16 levels" in refusal(client, of(data=cells))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("99999", "inference header size should be in range (0, "),
        ("-1", "inference header size should be in range (0, "),
        ("many", "inference header size should be in range (0, "),
        ("10", "failed to parse the request JSON buffer: "),
    ],
)
def test_lengths_that_do_not_fit(client: httpx.Client, header: str, text: str) -> None:
    assert text in refusal(client, binary()[0], headers={LENGTH: header})


def test_binary_tensors_that_do_not_fit(client: httpx.Client) -> None:
    content, headers = binary()
    text = "unexpected size for input 'x', expecting 1 additional bytes for model 'houses'"
    assert refusal(client, content[:-1], headers=headers) == text
    assert refusal(client, content + b"1", headers=headers) == "unexpected additional input data for model 'houses'"
    content, headers = binary({"inputs": [{**HEAD["inputs"][0], "shape": [1, 13]}]})
    text = "input byte size mismatch for input 'x' for model 'houses'. Expected 52, got 104"
    assert refusal(client, content, headers=headers) == text
    region = of(data=None, parameters={"shared_memory_region": "a", "shared_memory_byte_size": 52})
    assert refusal(client, region, status=404) == "Unable to find shared memory region: 'a'"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (texts("nurse"), "expected 2 string elements for inference input 'job' for model 'people', got 1"),
        (texts("nurse", "cook", "cook"), "unexpected number of string elements 3 for inference input 'job'"),
        (texts("nurse") + b"\x01", "incomplete string length indicator for inference input 'job', expecting 4 bytes"),
        (texts("nurse") + b"\xff\xff\xff\xffa", "expecting string of length 4294967295 but only 1 bytes available"),
        (texts("nurse") + b"\x01\x00\x00\x00\xff", "string element 1 of inference input 'job' is not UTF-8"),
    ],
)
def test_binary_texts_that_do_not_fit(client: httpx.Client, raw: bytes, text: str) -> None:
    given = person(PERSON, OTHER_PERSON)
    job = {"name": "job", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = {"inputs": [job if item["name"] == "job" else item for item in given["inputs"]]}
    content, headers = binary(head, raw)
    assert text in refusal(client, content, "/v2/models/people/infer", headers=headers)


def test_columns_that_cannot_be_taken(client: httpx.Client) -> None:
    path = "/v2/models/people/infer"

    def with_(name: str, **fields: Any) -> dict[str, Any]:
        inputs = person(PERSON)["inputs"]
        return {"inputs": [{**item, **fields} if item["name"] == name else item for item in inputs]}

    inputs = person(PERSON)["inputs"]
    assert "missing required input(s) ['weight']" in refusal(
        client, {"inputs": [item for item in inputs if item["name"] != "weight"]}, path
    )
    shorter = with_("job", shape=[2, 1], data=["cook", "cook"])
    assert refusal(client, shorter, path) == "input 'job' batch size does not match other inputs for 'people'"
    assert "Expected [-1,1], got [1,1,1]" in refusal(client, with_("job", shape=[1, 1, 1]), path)
    assert "non-string as string" in refusal(client, with_("job", data=[7]), path)
    assert "non-boolean as boolean" in refusal(client, with_("flag", data=[1]), path)
    number = with_("job", datatype="FP32", data=[7])
    assert "data-type is 'FP32', but model 'people' expects 'BYTES'" in refusal(client, number, path)
    assert "column 'floor': must be a number; got 'attic'" in refusal(client, with_("floor", data=["attic"]), path)
    assert "column 'member': must be true or false; got 'maybe'" in refusal(
        client, with_("member", data=["maybe"]), path
    )
    assert "must be a date" in refusal(client, with_("since", data=["yesterday"]), path)


def test_labels_have_no_scores(client: httpx.Client) -> None:
    outputs = [{"name": "label", "parameters": {"classification": 1}}]
    body = {**of(shape=[1, 64], data=pictures(1)), "outputs": outputs}
    assert "holds labels and no scores" in refusal(client, body, "/v2/models/pictures/infer")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v2/models/none", 404, "Request for unknown model: 'none' is not found"),
        ("GET", "/v2/models/none/config", 404, "Request for unknown model: 'none' is not found"),
        ("GET", "/v2/models/none/stats", 404, "Request for unknown model: 'none' is not found"),
        ("GET", "/v2/models/none/ready", 404, "Request for unknown model: 'none' is not found"),
        ("POST", "/v2/models/none/infer", 404, "Request for unknown model: 'none' is not found"),
        ("POST", "/v2/repository/models/none/load", 404, "Request for unknown model: 'none' is not found"),
        ("GET", "/v2/models/houses/versions/9", 404, "Request for unknown model: 'houses' version 9 is not found"),
        (
            "POST",
            "/v2/models/houses/versions/9/infer",
            404,
            "Request for unknown model: 'houses' version 9 is not found",
        ),
        ("GET", "/v2/models/houses/versions/9999999999999999999", 404, None),
        ("GET", "/v2/models/houses/versions/one", 404, "Not Found"),
        ("GET", "/v2/models", 404, "Not Found"),
        ("GET", "/v2/", 404, "Not Found"),
        ("GET", "/v2/logging", 404, "Not Found"),
        ("GET", "/v2/models/houses/infer", 405, "Method Not Allowed"),
        ("GET", "/v2/repository/index", 405, "Method Not Allowed"),
        ("POST", "/v2/health/live", 405, "Method Not Allowed"),
        ("DELETE", "/v2/models/houses", 405, "Method Not Allowed"),
    ],
)
def test_addresses_that_lead_nowhere(
    client: httpx.Client, method: str, path: str, status: int, text: str | None
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert text is None or answer.json() == {"error": text}


def test_repository(client: httpx.Client) -> None:
    everything = post(client, b"", "/v2/repository/index").json()
    assert {"name": "houses", "version": "2", "state": "READY"} in everything
    assert post(client, {"ready": True}, "/v2/repository/index").json() == everything
    assert "non-boolean as boolean" in refusal(client, {"ready": 1}, "/v2/repository/index")
    assert "failed to parse" in refusal(client, b"{", "/v2/repository/index")
    loaded = post(client, {}, "/v2/repository/models/houses/load")
    assert (loaded.status_code, loaded.content) == (200, b"")
    other = {"parameters": {"config": "{}"}}
    assert "send no parameters" in refusal(client, other, "/v2/repository/models/houses/load", 501)
    assert "none has to be unloaded" in refusal(client, {}, "/v2/repository/models/houses/unload", 501)


def test_configuration_names_columns_and_classes(client: httpx.Client) -> None:
    found = client.get("/v2/models/flowers/config").json()
    parameters = {name: json.loads(value["string_value"]) for name, value in found["parameters"].items()}
    assert parameters == {"columns": ["petal", "sepal"], "classes": ["rose", 'a "tulip"', "Veilchen, weiß"]}
    assert found["max_batch_size"] == 100_000
    optional = {item["name"]: item["optional"] for item in client.get("/v2/models/people/config").json()["input"]}
    assert optional == {name: name in ("age", "job", "flag", "since") for name in PERSON}


def test_failed_requests_are_counted_where_the_network_failed(client: httpx.Client) -> None:
    def counts() -> dict[str, Any]:
        [stats] = client.get("/v2/models/brittle/versions/1/stats").json()["model_stats"]
        found: dict[str, Any] = stats["inference_stats"]
        return found

    before = counts()
    path = "/v2/models/brittle/infer"
    far = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [3e38, 3e38]}]}
    assert "row 0 has values too far from those that the model was trained on" in refusal(client, far, path)
    refusal(client, {"inputs": []}, path)
    after = counts()
    assert after["fail"]["count"] == before["fail"]["count"] + 1
    assert after["success"] == before["success"]


def test_shapes_without_measure(client: httpx.Client) -> None:
    assert "has more than 8 dimensions" in refusal(client, of(shape=[10**18] * 100_000))
    assert "at most 8,388,608 cells are answered at once" in refusal(client, of(shape=[2**64 - 1] * 8))
    raw = b"\x00" * 8_400_000
    item = {"name": "x", "shape": [600_000, 14], "datatype": "INT8", "parameters": {"binary_data_size": len(raw)}}
    content, headers = binary({"inputs": [item]}, raw)
    assert "has 8,400,000 cells in input 'x'" in refusal(client, content, headers=headers)
    for datatype in ("BYTES", "BOOL"):
        item = {"name": "job", "shape": [100_001], "datatype": datatype, "parameters": {"binary_data_size": 400_004}}
        content, headers = binary({"inputs": [item]}, b"\x00" * 400_004)
        found = refusal(client, content, "/v2/models/people/infer", headers=headers)
        assert "the request has 100,001 rows; at most 100,000" in found


def test_large_requests(client: httpx.Client) -> None:
    rows = houses(9000)
    raw = np.array(rows, np.float32).tobytes()
    item = {"name": "x", "shape": [9000, 13], "datatype": "FP32"}
    right = predicted(client, "houses", rows)["predictions"]
    assert data(asked(client, {"inputs": [{**item, "data": rows}]})) == right
    content, headers = binary({"inputs": [{**item, "parameters": {"binary_data_size": len(raw)}}]}, raw)
    assert data(asked(client, content, headers=headers)) == right
    many = of(shape=[100_001, 13], data=[0] * 1_300_013)
    assert "has 100,001 rows; at most 100,000" in refusal(client, many)
    long = b'{"inputs": []' + b" " * (8 * 2**20) + b"}"
    assert "at most 8,388,608 are read at once" in refusal(client, long, status=413)
    larger = b" " * (65 * 2**20)
    assert "larger than the 67,108,864 bytes" in refusal(client, larger, status=413)
