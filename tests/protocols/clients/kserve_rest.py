"""What KServe's own client gets from the service under both of its protocols; runs in the clients' environment."""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput


def request(rows: Any, *, binary: bool, **options: Any) -> InferRequest:
    array = np.array(rows, np.float32)
    given = InferInput("x", list(array.shape), "FP32")
    given.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(options.pop("model", "houses"), [given], **options)


async def refusal(work: Any) -> dict[str, Any]:
    try:
        await work
    except httpx.HTTPStatusError as error:
        return {"status": error.response.status_code, "message": str(error)}
    raise AssertionError("this should have been refused")


async def ask_v1(url: str, asked: dict[str, Any]) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    rows, people = asked["houses"], asked["people"]
    return {
        "instances": await client.infer(url, {"instances": rows}, model_name="houses"),
        "inputs": await client.infer(url, {"inputs": rows}, model_name="houses"),
        "people": await client.infer(url, {"instances": people}, model_name="people"),
        "missing": await refusal(client.infer(url, {"instances": rows}, model_name="nothing")),
    }


async def ask_v2(url: str, asked: dict[str, Any]) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    rows = asked["houses"]
    text = await client.infer(url, request(rows, binary=False, request_id="7"), model_name="houses")
    binary = await client.infer(url, request(rows, binary=True), model_name="houses")
    both = await client.infer(
        url, request(rows, binary=True, parameters={"binary_data_output": True}), model_name="houses"
    )
    wanted = [RequestedOutput("label")]
    label = await client.infer(
        url, request(asked["pictures"], binary=False, request_outputs=wanted, model="pictures"), model_name="pictures"
    )
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, "houses"),
        "missing_ready": await client.is_model_ready(url, "nothing"),
        "id": text.id,
        "model": text.model_name,
        "values": [answer.outputs[0].as_numpy().tolist() for answer in (text, binary, both)],
        "label": label.outputs[0].as_numpy().tolist(),
        "missing": await refusal(client.infer(url, request(rows, binary=False), model_name="nothing")),
    }


async def ask(asked: dict[str, Any]) -> dict[str, Any]:
    url = f"http://{asked['url']}"
    return {"v1": await ask_v1(url, asked), "v2": await ask_v2(url, asked)}


if __name__ == "__main__":
    json.dump(asyncio.run(ask(json.load(sys.stdin))), sys.stdout)
