"""10,000 rows of 784 numbers as binary bodies, and the same as JSON: from the first byte sent to the last received.

Clients' own encoding and decoding is not counted; the answers are checked once. The bar is against JSON that holds the
same float32 numbers, as ``json.dumps(rows.tolist())`` writes them; JSON with four decimals is measured beside it.
"""

import http.client
import io
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.predict.networks import WIDE
from benchmarks.predict.protocols import NATIVE, OPEN_INFERENCE, Rows
from benchmarks.predict.report import Figure
from benchmarks.predict.running import serving
from benchmarks.predict.servers import Server

ROWS = 10_000
RATIO_BAR = 5.0
SAME = 1e-5
BLOCK_BYTES = 1 << 20
TIMEOUT_SECONDS = 300
NPY, ARROW, BINARY = "application/x-npy", "application/vnd.apache.arrow.stream", "application/octet-stream"
JSON_LENGTH = "Inference-Header-Content-Length"
NATIVE_QUERY = f"/predict?model={WIDE.name}"
"""Where a body has no place for the model's name."""


@dataclass(frozen=True)
class Form:
    """One way to send the rows."""

    name: str
    path: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[bytes, int], Rows]
    """Takes an answer, and the length of its JSON part; returns probabilities (rows, classes)."""
    beside: str = ""
    """The JSON form that it is held against."""


def measure(rounds: int, _seconds: float) -> list[Figure]:
    """Send 10,000 x 784 in every form, in turns."""
    rows = WIDE.rows(ROWS)
    with serving([WIDE], 1) as server:
        forms = []
        expected = None
        for form in _forms(rows):
            status, length, answer, _ = _send(server, form)
            if status != http.client.OK:
                print(f"not measured, for it was answered with {status}: {form.name}: {answer[:300]!r}")
                continue
            found = form.read(answer, length)
            expected = found if expected is None else expected
            assert np.abs(found - expected).max() <= SAME, f"{form.name}: other answers"
            forms.append(form)
        seconds: dict[str, list[float]] = {form.name: [] for form in forms}
        for _ in range(rounds):
            for form in forms:
                status, _, _, took = _send(server, form)
                assert status == http.client.OK, f"{form.name}: {status}"
                seconds[form.name].append(took)
    return [_figure(form, seconds) for form in forms]


def _figure(form: Form, seconds: dict[str, list[float]]) -> Figure:
    value = f"{len(form.body) / 1e6:.0f} MB, {statistics.median(seconds[form.name]):.3f} s"
    if form.beside not in seconds:
        return Figure(form.name, value)
    pairs = zip(seconds[form.beside], seconds[form.name], strict=True)
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    return Figure(form.name, f"{value}, {ratio:.1f} x {form.beside}", f"{RATIO_BAR:.0f} x", ratio >= RATIO_BAR)


def _forms(rows: Rows) -> list[Form]:
    narrow = rows.astype(np.float32)
    same = narrow.astype(np.float64)
    array, stream = io.BytesIO(), io.BytesIO()
    np.save(array, narrow)
    table = pa.table({f"x{number}": narrow[:, number] for number in range(WIDE.features)})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    infer = OPEN_INFERENCE.path(WIDE)
    json_type = {"Content-Type": "application/json"}
    head, body = _binary_tensor(narrow)
    return [
        Form("JSON", "/predict", json_type, NATIVE.encode(WIDE, same), _read_json),
        Form("JSON, 4 decimals", "/predict", json_type, NATIVE.encode(WIDE, rows), _read_json),
        Form(".npy", NATIVE_QUERY, _both(NPY), array.getvalue(), _read_npy, "JSON"),
        Form("Arrow", NATIVE_QUERY, _both(ARROW), stream.getvalue(), _read_arrow, "JSON"),
        Form(
            "Open Inference JSON",
            infer,
            json_type,
            OPEN_INFERENCE.encode(WIDE, same),
            lambda text, _: OPEN_INFERENCE.decode(WIDE, text),
        ),
        Form(
            "Open Inference binary",
            infer,
            {"Content-Type": BINARY, JSON_LENGTH: str(len(head))},
            head + body,
            _read_binary_tensors,
            "Open Inference JSON",
        ),
    ]


def _both(kind: str) -> dict[str, str]:
    return {"Content-Type": kind, "Accept": kind}


def _binary_tensor(rows: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> tuple[bytes, bytes]:
    tensor = {"name": "x", "shape": rows.shape, "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head, rows.tobytes()


def _read_json(answer: bytes, _: int) -> Rows:
    return NATIVE.decode(WIDE, answer)


def _read_npy(answer: bytes, _: int) -> Rows:
    return np.asarray(np.load(io.BytesIO(answer), allow_pickle=False), np.float64)


def _read_arrow(answer: bytes, _: int) -> Rows:
    """Read the columns of numbers, one for each class, or one of lists."""
    table = pa.ipc.open_stream(answer).read_all()
    numbers = [column for column in table.columns if pa.types.is_floating(column.type)]
    if numbers:
        return np.column_stack([column.to_numpy() for column in numbers]).astype(np.float64)
    [lists] = [column for column in table.columns if not pa.types.is_string(column.type)]
    return np.array(lists.to_pylist(), np.float64)


def _read_binary_tensors(answer: bytes, length: int) -> Rows:
    found, start = None, length
    for output in json.loads(answer[:length])["outputs"]:
        stop = start + output["parameters"]["binary_data_size"]
        if output["datatype"] in ("FP32", "FP64"):
            kind = {"FP32": np.float32, "FP64": np.float64}[output["datatype"]]
            found = np.frombuffer(answer[start:stop], kind).reshape(output["shape"]).astype(np.float64)
        start = stop
    assert found is not None, "no numbers in the answer"
    return found


def _send(server: Server, form: Form) -> tuple[int, int, bytes, float]:
    """Return the status, the length of the answer's JSON part, the answer, and the seconds that it took."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS, blocksize=BLOCK_BYTES)
    started = time.perf_counter()
    connection.request("POST", form.path, form.body, form.headers)
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - started
    connection.close()
    return answer.status, int(answer.headers.get(JSON_LENGTH, 0)), content, seconds
