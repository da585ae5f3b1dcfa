"""An alias that flips between two versions under load: nothing fails, and every answer is one of the two versions'."""

import json
import threading
import time

import httpx2 as httpx
import numpy as np

from benchmarks.predict.clients import Clients
from benchmarks.predict.networks import SMALL, Network
from benchmarks.predict.protocols import NATIVE
from benchmarks.predict.report import Figure
from benchmarks.predict.running import serving
from benchmarks.predict.servers import Server

CONNECTIONS = 8
EVERY_SECONDS = 0.2
FLIPPING_SECONDS = 20.0
FOLLOW_SECONDS = 1.0
"""So soon every process serves the version that an alias stands for."""
SAME = 1e-4
ALIAS = f"/models/{SMALL.name}/aliases/production"
VERSIONS = [Network(SMALL.name, SMALL.features, seed=seed) for seed in range(3)]
"""The alias never stands for the third, which is the newest: an answer of it would be neither old nor new."""


def measure(_rounds: int, _seconds: float) -> list[Figure]:
    """Flip an alias under load, in one process and in two."""
    figures = []
    for processes in (1, 2):
        with serving(VERSIONS, processes) as server:
            answer = httpx.put(server.address + ALIAS, json={"version": 1})
            if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
                return [Figure("alias flip", f"not measured, for there is no such route: PUT {ALIAS}")]
            figures += _flip(server)
    return figures


def _flip(server: Server) -> list[Figure]:
    body = NATIVE.encode(SMALL, SMALL.rows(1))
    expected = {number: _ask(server, number) for number in (1, 2)}
    time.sleep(FOLLOW_SECONDS)

    def look(answer: bytes) -> str | None:
        found = json.loads(answer)
        right = expected.get(found["version"])
        if right is None or not np.allclose(found["predictions"], right, rtol=SAME, atol=SAME):
            return f"neither old nor new: {answer[:200]!r}"
        return None

    flips = 0
    with Clients(server.port, NATIVE.path(SMALL), body, CONNECTIONS, look) as clients, httpx.Client() as client:
        ends = time.monotonic() + FLIPPING_SECONDS
        while time.monotonic() < ends:
            flips += 1
            put = client.put(server.address + ALIAS, json={"version": 1 + flips % 2})
            if not put.is_success:
                clients.seen.faults.append(f"PUT: {put.status_code} {put.text[:200]}")
            threading.Event().wait(EVERY_SECONDS)
    value = f"{len(clients.seen.faults)} of {clients.seen.count:,} answers, {flips} flips"
    for fault in clients.seen.faults[:5]:
        print(fault)
    late = _late(server, body, 1 + flips % 2)
    return [
        Figure(f"{server.name}, wrong or failed answers", value, "0", not clients.seen.faults and flips > 0),
        Figure(f"{server.name}, old answers {FOLLOW_SECONDS:.0f} s after the last flip", str(late), "0", late == 0),
    ]


def _ask(server: Server, version: int) -> list[float]:
    body = {"model": SMALL.name, "version": version, "instances": SMALL.rows(1).tolist()}
    answer = httpx.post(f"{server.address}/predict", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    found: list[float] = answer.json()["predictions"]
    return found


def _late(server: Server, body: bytes, version: int) -> int:
    """Return how many answers come from another version once every process must have followed."""
    time.sleep(FOLLOW_SECONDS)
    headers = {"Content-Type": "application/json"}
    answers = [
        httpx.post(server.address + NATIVE.path(SMALL), content=body, headers=headers).json()["version"]
        for _ in range(50)
    ]
    return sum(answer != version for answer in answers)
