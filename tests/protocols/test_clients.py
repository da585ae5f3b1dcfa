"""The clients that people have, asking the service; what they get is what the native route answers."""

from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from tests.api_process import ApiProcess
from tests.protocols.clients_environment import run_client, run_tensorflow_serving
from tests.protocols.conftest import predicted
from tests.protocols.models import FLOWER, OTHER_PERSON, PERSON, houses, pictures

HOUSES, PICTURES = houses(5), pictures(4)
PEOPLE = [PERSON, OTHER_PERSON]
WHOLE_PERSON = [PERSON, {**PERSON, "age": None}]
FLOWERS = [[1.5, 2.0], [None, 40.0], [-30.0, 5.0]]


@pytest.fixture(scope="module")
def asked(api: ApiProcess) -> dict[str, Any]:
    return {
        "url": f"127.0.0.1:{api.port}",
        "houses": HOUSES,
        "pictures": PICTURES,
        "people": PEOPLE,
        "flowers": FLOWERS,
    }


@pytest.fixture(scope="module")
def triton(asked: dict[str, Any]) -> dict[str, Any]:
    return run_client("triton", asked)


@pytest.fixture(scope="module")
def kserve(asked: dict[str, Any]) -> dict[str, Any]:
    return run_client("kserve_rest", {**asked, "people": [PERSON, {**PERSON, "age": None, "job": None}]})


@pytest.fixture(scope="module")
def mlflow(asked: dict[str, Any]) -> dict[str, Any]:
    return run_client("mlflow_scoring", asked)


def column(values: list[Any]) -> list[list[Any]]:
    return [[value] for value in values]


def test_triton_client_asks_about_server_and_models(triton: dict[str, Any]) -> None:
    about = triton["about"]
    assert (about["live"], about["ready"], about["model_ready"], about["version_ready"]) == (True,) * 4
    assert about["missing_ready"] is False
    assert about["server"]["name"] == "selfnorm"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(about["server"]["extensions"])
    assert about["metadata"]["houses"] == {
        "name": "houses",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 13]}],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 1]}],
    }
    assert about["metadata"]["pictures"]["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "label", "datatype": "INT64", "shape": [-1, 1]},
    ]
    kinds = {tensor["name"]: tensor["datatype"] for tensor in about["metadata"]["people"]["inputs"]}
    assert kinds == {
        "age": "FP32",
        "weight": "FP32",
        "job": "BYTES",
        "floor": "BYTES",
        "member": "BYTES",
        "flag": "BOOL",
        "since": "BYTES",
    }
    assert about["metadata"]["leavers"]["outputs"][1]["datatype"] == "BOOL"
    assert (about["config"]["name"], about["config"]["input"][0]["dims"]) == ("pictures", [64])
    listed = {(entry["name"], entry["version"]) for entry in about["index"]}
    assert {("houses", "1"), ("houses", "2"), ("people", "1")} <= listed
    assert {entry["state"] for entry in about["index"]} == {"READY"}


def test_triton_client_gets_the_same_numbers_in_every_form(client: httpx.Client, triton: dict[str, Any]) -> None:
    found = triton["numbers"]
    expected = column(predicted(client, "houses", HOUSES)["predictions"])
    of_next = column(predicted(client, "houses", HOUSES, version=2)["predictions"])
    assert expected != of_next
    assert found["values"].pop("next") == of_next
    assert len(found["values"]) == 12
    for name, values in found["values"].items():
        assert values == expected, name
    assert found["body_is_longer_than_json"]


def test_triton_client_gets_binary_where_it_asks_for_it(triton: dict[str, Any]) -> None:
    is_binary = triton["numbers"]["is_binary"]
    assert {name for name, binary in is_binary.items() if not binary} == {
        "json",
        "binary in",
        "gzip json",
        "deflate json",
    }


def test_triton_client_finds_its_request_again(triton: dict[str, Any]) -> None:
    heads = triton["numbers"]["heads"]
    assert heads["named"]["id"] == "order 66"
    assert "id" not in heads["binary"]
    assert (heads["binary"]["model_version"], heads["next"]["model_version"]) == ("1", "2")


def test_triton_client_gets_classes(client: httpx.Client, triton: dict[str, Any]) -> None:
    found, expected = triton["classes"], predicted(client, "pictures", PICTURES)
    assert np.array_equal(np.float32(found["probabilities"]), np.float32(expected["probabilities"]))
    assert found["label"] == found["label alone"] == column(expected["predictions"])
    assert found["names"] == ["label"]
    assert found["classification True"] == found["classification False"]
    for texts, probabilities in zip(found["classification True"], expected["probabilities"], strict=True):
        places = sorted(range(10), key=lambda place: -probabilities[place])[:3]
        assert texts == [f"{probabilities[place]:f}:{place}:{place}" for place in places]


def test_triton_client_sends_rows_with_texts_and_gaps(client: httpx.Client, triton: dict[str, Any]) -> None:
    found = triton["people"]
    expected = column(predicted(client, "people", PEOPLE)["predictions"])
    assert found["binary"] == expected
    assert found["json"] == expected[:1]
    leavers = predicted(client, "leavers", PEOPLE)
    assert np.array_equal(np.float32(found["probabilities"]), np.float32(leavers["probabilities"]))
    assert found["label"] == column(leavers["predictions"])


def test_triton_client_gets_labels_that_are_texts(client: httpx.Client, triton: dict[str, Any]) -> None:
    expected = column(predicted(client, "flowers", FLOWERS)["predictions"])
    assert triton["flowers"] == {"binary": expected, "json": expected}
    assert {label for [label] in expected} <= set(FLOWER.classes)


def test_triton_client_is_told_what_is_wrong(triton: dict[str, Any]) -> None:
    missing = "Request for unknown model: 'nothing' is not found"
    assert triton["wrong"] == {
        "missing model": {"status": "404", "message": missing},
        "missing version": {"status": "404", "message": "Request for unknown model: 'houses' version 9 is not found"},
        "missing metadata": {"status": "404", "message": missing},
        "shape": {
            "status": "400",
            "message": "unexpected shape for input 'x' for model 'houses'. Expected [-1,13], got [1,12]",
        },
        "name": {"status": "400", "message": "unexpected inference input 'z' for model 'houses'"},
        "type": {
            "status": "400",
            "message": "inference input 'x' data-type is 'BYTES', but model 'houses' expects 'FP32'",
        },
        "output": {"status": "400", "message": "unexpected inference output 'z' for model 'houses'"},
        "unload": {"status": "501", "message": triton["wrong"]["unload"]["message"]},
    }


def test_triton_client_in_asyncio(client: httpx.Client, triton: dict[str, Any]) -> None:
    expected = column(predicted(client, "houses", HOUSES)["predictions"])
    assert triton["aio"]["values"] == [expected] * 4
    assert triton["aio"]["refused"] == "Request for unknown model: 'nothing' is not found"
    assert triton["aio"]["metadata"] == triton["about"]["metadata"]["houses"]


def test_triton_client_reads_what_was_answered(triton: dict[str, Any]) -> None:
    before, after, every = triton["statistics"]
    [old], [new] = before["model_stats"], after["model_stats"]
    assert (new["name"], new["version"]) == ("houses", "1")
    requests = 12 + 4  # all of the numbers but those of the other version, and those in asyncio
    assert new["execution_count"] - old["execution_count"] == requests
    assert new["inference_count"] - old["inference_count"] == requests * len(HOUSES)
    assert new["last_inference"] > old["last_inference"]
    took, parts = new["inference_stats"]["success"], ("compute_input", "compute_infer", "compute_output")
    assert took["count"] == new["execution_count"]
    assert took["ns"] == sum(new["inference_stats"][part]["ns"] for part in parts) > 0
    assert new["inference_stats"]["fail"] == {"count": 0, "ns": 0}
    assert new in every["model_stats"]


def test_kserve_client_under_v1(client: httpx.Client, kserve: dict[str, Any]) -> None:
    expected = column(predicted(client, "houses", HOUSES)["predictions"])
    assert kserve["v1"]["instances"] == {"predictions": expected}
    assert kserve["v1"]["inputs"] == {"outputs": expected}
    people = [PERSON, {**PERSON, "age": None, "job": None}]
    assert kserve["v1"]["people"] == {"predictions": column(predicted(client, "people", people)["predictions"])}
    assert kserve["v1"]["missing"]["status"] == 404
    assert "Servable not found for request: Latest(nothing)" in kserve["v1"]["missing"]["message"]


def test_kserve_client_under_v2(client: httpx.Client, kserve: dict[str, Any]) -> None:
    found = kserve["v2"]
    assert (found["live"], found["ready"], found["model_ready"], found["missing_ready"]) == (True, True, True, False)
    assert (found["id"], found["model"]) == ("7", "houses")
    assert found["values"] == [column(predicted(client, "houses", HOUSES)["predictions"])] * 3
    assert found["label"] == column(predicted(client, "pictures", PICTURES)["predictions"])
    assert found["missing"]["status"] == 404
    assert "Request for unknown model: 'nothing' is not found" in found["missing"]["message"]


def test_mlflow_client_sends_data_frames(client: httpx.Client, mlflow: dict[str, Any]) -> None:
    expected = predicted(client, "people", PEOPLE)["predictions"]
    assert len(mlflow["predictions"]) == 4
    for name, predictions in mlflow["predictions"].items():
        assert predictions == expected, name
    assert mlflow["as a frame"] == {"0": expected}
    assert mlflow["as an array"] == expected


def test_mlflow_client_is_told_what_is_wrong(mlflow: dict[str, Any]) -> None:
    assert "error code 400" in mlflow["wrong"]
    assert "Model is missing inputs ['weight']." in mlflow["wrong"]


def test_messages_of_tensorflow_serving_hold_status_and_metadata(client: httpx.Client) -> None:
    names = ("houses", "people", "leavers")
    status = [client.get(f"/v1/models/{name}").json() for name in names]
    metadata = [client.get(f"/v1/models/{name}/metadata").json() for name in names]
    found = run_tensorflow_serving({"status": status, "metadata": metadata})
    available = found["available"]
    assert found["status"] == [[[2, available, 0], [1, available, 0]], [[1, available, 0]], [[1, available, 0]]]
    numbers, people, leavers = found["metadata"]
    assert numbers["spec"] == ["houses", 1]
    assert numbers["signatures"]["serving_default"] == {
        "method": "tensorflow/serving/predict",
        "inputs": {"x": [DOUBLE, [-1, 13]]},
        "outputs": {"y": [DOUBLE, [-1, 1]]},
    }
    assert people["signatures"]["serving_default"]["inputs"] == {
        "age": [DOUBLE, [-1, 1]],
        "weight": [DOUBLE, [-1, 1]],
        "job": [STRING, [-1, 1]],
        "floor": [DOUBLE, [-1, 1]],
        "member": [BOOL, [-1, 1]],
        "flag": [BOOL, [-1, 1]],
        "since": [STRING, [-1, 1]],
    }
    assert leavers["signatures"]["serving_default"]["outputs"] == {"probabilities": [FLOAT, [-1, 2]]}
    assert leavers["signatures"]["classification"]["method"] == "tensorflow/serving/classify"


FLOAT, DOUBLE, STRING, BOOL = 1, 2, 7, 10
"""What TensorFlow's messages call these types."""
