"""What Triton's own client gets from the service; runs in the clients' environment."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from tritonclient import http
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

COMPRESSION = ("gzip", "deflate")
NUMBERS = {"age": "FP32", "weight": "FP64", "flag": "FP32"}


def tensor(name: str, array: Any, datatype: str, module: Any = http, **options: Any) -> Any:
    given = module.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, **options)
    return given


def floats(rows: Any) -> Any:
    return np.array(rows, np.float32)


def person(rows: list[dict[str, Any]], **options: Any) -> list[Any]:
    """One input for each column; a gap is NaN or an empty text."""
    inputs = []
    for name in rows[0]:
        cells = [row[name] for row in rows]
        if name in NUMBERS:
            array = np.array([[np.nan if cell is None else float(cell)] for cell in cells], np.float64)
            array = array.astype(np.float32) if NUMBERS[name] == "FP32" else array
            inputs.append(tensor(name, array, NUMBERS[name], **options))
        else:
            texts = ["" if cell is None else str(cell).encode() for cell in cells]
            inputs.append(tensor(name, np.array([[text] for text in texts], object), "BYTES", **options))
    return inputs


def numbers(result: Any, name: str = "y") -> list[Any]:
    found: list[Any] = result.as_numpy(name).tolist()
    return found


def texts(result: Any, name: str) -> list[list[str]]:
    cells = result.as_numpy(name).tolist()
    return [[cell.decode() if isinstance(cell, bytes) else cell for cell in row] for row in cells]


def refusal(work: Any) -> dict[str, Any]:
    try:
        work()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    raise AssertionError("this should have been refused")


def ask_about(client: Any) -> dict[str, Any]:
    client.load_model("houses")
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("houses"),
        "version_ready": client.is_model_ready("houses", "2"),
        "missing_ready": client.is_model_ready("nothing"),
        "server": client.get_server_metadata(),
        "metadata": {name: client.get_model_metadata(name) for name in ("houses", "pictures", "people", "leavers")},
        "config": client.get_model_config("pictures"),
        "index": client.get_model_repository_index(),
    }


def ask_for_numbers(client: Any, rows: Any) -> dict[str, Any]:
    binary, text = tensor("x", floats(rows), "FP32"), tensor("x", floats(rows), "FP32", binary_data=False)
    wanted = [http.InferRequestedOutput("y", binary_data=False)]
    answers = {
        "binary": client.infer("houses", [binary]),
        "json": client.infer("houses", [text], outputs=wanted),
        "binary in": client.infer("houses", [binary], outputs=wanted),
        "double": client.infer("houses", [tensor("x", np.array(rows, np.float64), "FP64")]),
        "async": client.async_infer("houses", [binary]).get_result(),
        "next": client.infer("houses", [binary], model_version="2"),
        "named": client.infer("houses", [binary], request_id="order 66"),
    }
    for way in COMPRESSION:
        answers[f"{way} in"] = client.infer("houses", [binary], request_compression_algorithm=way)
        answers[f"{way} out"] = client.infer("houses", [binary], response_compression_algorithm=way)
        answers[f"{way} json"] = client.infer(
            "houses", [text], outputs=wanted, request_compression_algorithm=way, response_compression_algorithm=way
        )
    body, length = client.generate_request_body([binary])
    heads = {name: answer.get_response() for name, answer in answers.items()}
    return {
        "values": {name: numbers(answer) for name, answer in answers.items()},
        "heads": {
            name: {**head, "outputs": [output["datatype"] for output in head["outputs"]]}
            for name, head in heads.items()
        },
        "is_binary": {name: "data" not in head["outputs"][0] for name, head in heads.items()},
        "body_is_longer_than_json": len(body) > length,
    }


def ask_for_classes(client: Any, rows: Any) -> dict[str, Any]:
    given = [tensor("x", floats(rows), "FP32")]
    whole = client.infer("pictures", given)
    label = client.infer("pictures", given, outputs=[http.InferRequestedOutput("label", binary_data=False)])
    found = {"probabilities": numbers(whole, "probabilities"), "label": numbers(whole, "label")}
    found["label alone"] = numbers(label, "label")
    found["names"] = [output["name"] for output in label.get_response()["outputs"]]
    for way in (True, False):
        wanted = [http.InferRequestedOutput("probabilities", binary_data=way, class_count=3)]
        found[f"classification {way}"] = texts(client.infer("pictures", given, outputs=wanted), "probabilities")
    return found


def ask_for_people(client: Any, rows: Any) -> dict[str, Any]:
    wanted = [http.InferRequestedOutput("probabilities", binary_data=False), http.InferRequestedOutput("label")]
    leavers = client.infer("leavers", person(rows), outputs=wanted)
    return {
        "binary": numbers(client.infer("people", person(rows))),
        "json": numbers(client.infer("people", person(rows[:1], binary_data=False))),
        "probabilities": numbers(leavers, "probabilities"),
        "label": numbers(leavers, "label"),
    }


def ask_for_flowers(client: Any, rows: Any) -> dict[str, Any]:
    result = client.infer("flowers", [tensor("x", floats(rows), "FP32")])
    wanted = [http.InferRequestedOutput("label", binary_data=False)]
    text = client.infer("flowers", [tensor("x", floats(rows), "FP32", binary_data=False)], outputs=wanted)
    return {"binary": texts(result, "label"), "json": texts(text, "label")}


def ask_wrongly(client: Any) -> dict[str, Any]:
    good, narrow = tensor("x", floats([[0.0] * 13]), "FP32"), tensor("x", floats([[0.0] * 12]), "FP32")
    return {
        "missing model": refusal(lambda: client.infer("nothing", [good])),
        "missing version": refusal(lambda: client.infer("houses", [good], model_version="9")),
        "missing metadata": refusal(lambda: client.get_model_metadata("nothing")),
        "shape": refusal(lambda: client.infer("houses", [narrow])),
        "name": refusal(lambda: client.infer("houses", [tensor("z", floats([[0.0] * 13]), "FP32")])),
        "type": refusal(lambda: client.infer("houses", [tensor("x", np.array([["a"] * 13], object), "BYTES")])),
        "output": refusal(lambda: client.infer("houses", [good], outputs=[http.InferRequestedOutput("z")])),
        "unload": refusal(lambda: client.unload_model("houses")),
    }


async def ask_in_turns(url: str, rows: Any) -> dict[str, Any]:
    async with aio.InferenceServerClient(url) as client:
        binary, text = tensor("x", floats(rows), "FP32", aio), tensor("x", floats(rows), "FP32", aio, binary_data=False)
        wanted = [aio.InferRequestedOutput("y", binary_data=False)]
        answers = await asyncio.gather(
            client.infer("houses", [binary]),
            client.infer("houses", [text], outputs=wanted),
            client.infer("houses", [binary], request_compression_algorithm="gzip"),
            client.infer("houses", [binary], response_compression_algorithm="deflate"),
        )
        try:
            await client.infer("nothing", [binary])
        except InferenceServerException as error:
            refused = error.message()
        metadata = await client.get_model_metadata("houses")
        return {"values": [numbers(answer) for answer in answers], "refused": refused, "metadata": metadata}


def main() -> None:
    asked = json.load(sys.stdin)
    with http.InferenceServerClient(asked["url"], concurrency=2, network_timeout=120) as client:
        before = client.get_inference_statistics("houses", "1")
        found = {
            "about": ask_about(client),
            "numbers": ask_for_numbers(client, asked["houses"]),
            "classes": ask_for_classes(client, asked["pictures"]),
            "people": ask_for_people(client, asked["people"]),
            "flowers": ask_for_flowers(client, asked["flowers"]),
            "wrong": ask_wrongly(client),
            "aio": asyncio.run(ask_in_turns(asked["url"], asked["houses"])),
            "statistics": [before, client.get_inference_statistics("houses", "1"), client.get_inference_statistics()],
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
