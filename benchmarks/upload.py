"""How fast a large CSV file becomes a data set: an upload over HTTP against plain pyarrow on the same file, in turns.

Plain pyarrow is ``read_csv`` and ``write_table`` in a fresh process that times only these two calls. The upload is
timed from its first byte to the 201 and includes the profile of every column and the commit. Bars: twice the time of
plain pyarrow; 1 GB in the process that reads the file; 200 MB of growth in the API process.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from tests.api_process import ApiProcess, api_process, memory_of

RATIO_BAR = 2.0
IMPORT_BYTES_BAR = 1e9
API_BYTES_BAR = 200e6
POLL_SECONDS = 0.1
BLOCK_BYTES = 1 << 20
PLAIN = """
import sys, time
import pyarrow.csv, pyarrow.parquet
started = time.perf_counter()
table = pyarrow.csv.read_csv(sys.argv[1])
pyarrow.parquet.write_table(table, sys.argv[2])
print(time.perf_counter() - started)
"""


def main() -> int:
    """Measure both in turns and return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = _make_csv(folder / "table.csv", wanted.rows)
        print(f"{wanted.rows:,} rows x 20 columns, {file.stat().st_size / 1e6:.0f} MB of CSV", flush=True)
        with api_process(_make_database(folder), folder) as api:
            return _measure(api, file, wanted.repeats)


def _measure(api: ApiProcess, file: Path, repeats: int) -> int:
    before = api.memory("VmHWM")
    plain, upload, import_bytes = [], [], 0
    for _ in range(repeats):
        plain.append(_plain(file))
        seconds, peak = _upload(api, file)
        upload.append(seconds)
        import_bytes = max(import_bytes, peak)
    growth = api.memory("VmHWM") - before
    ratio = statistics.median(upload) / statistics.median(plain)
    print("plain pyarrow, s:", ", ".join(f"{seconds:.2f}" for seconds in plain))
    print("upload, s:       ", ", ".join(f"{seconds:.2f}" for seconds in upload))
    print(
        f"medians {statistics.median(upload):.2f} s / {statistics.median(plain):.2f} s = {ratio:.2f} (bar {RATIO_BAR})"
    )
    print(f"peak of the importing process {import_bytes / 1e6:.0f} MB (bar {IMPORT_BYTES_BAR / 1e6:.0f} MB)")
    print(f"growth of the API process {growth / 1e6:.0f} MB (bar {API_BYTES_BAR / 1e6:.0f} MB)")
    return 0 if ratio < RATIO_BAR and import_bytes < IMPORT_BYTES_BAR and growth < API_BYTES_BAR else 1


def _plain(file: Path) -> float:
    command = [sys.executable, "-c", PLAIN, str(file), str(file.with_suffix(".parquet"))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _upload(api: ApiProcess, file: Path) -> tuple[float, int]:
    """Upload the file, delete the data set again; return the seconds and the importing process' peak memory."""
    done = threading.Event()
    peaks = [0]

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            peaks.extend(memory_of(pid, "VmHWM") for pid in api.importers())

    watching = threading.Thread(target=watch)
    watching.start()
    headers = {"Content-Type": "text/csv", "Content-Length": str(file.stat().st_size)}
    connection = http.client.HTTPConnection("127.0.0.1", api.port, blocksize=BLOCK_BYTES)
    try:
        with file.open("rb") as body:
            started = time.perf_counter()
            connection.request("POST", "/datasets?name=large", body, headers)
            answer = connection.getresponse()
            dataset = json.loads(answer.read())
            seconds = time.perf_counter() - started
        assert answer.status == http.client.CREATED, dataset
    finally:
        connection.close()
        done.set()
        watching.join()
    assert api.client.delete(f"/datasets/{dataset['id']}").status_code == http.client.NO_CONTENT
    return seconds, max(peaks)


def _make_csv(file: Path, rows: int) -> Path:
    """Write the same table every time: measurements, counts, words, a code with leading zeros and a day."""
    random = np.random.default_rng(0)
    columns: dict[str, object] = {f"measured_{i}": random.normal(100, 15, rows).round(6) for i in range(14)}
    columns |= {f"count_{i}": random.integers(0, 10 ** (3 + 2 * i), rows) for i in range(2)}
    words = np.array([f"category_{i}" for i in range(40)])
    columns |= {f"word_{i}": words[random.integers(0, 40, rows)] for i in range(2)}
    columns["code"] = np.char.zfill(random.integers(0, 900, rows).astype(str), 5)
    columns["day"] = np.datetime64("2020-01-01") + random.integers(0, 1500, rows)
    pacsv.write_csv(pa.table(columns), file)
    return file


def _make_database(folder: Path) -> Path:
    database = folder / "selfnorm.db"
    environment = {**os.environ, "SELFNORM_DATABASE_URL": f"sqlite:///{database}"}
    subprocess.run([sys.executable, "-m", "service.cli", "migrate"], env=environment, check=True)
    return database


if __name__ == "__main__":
    sys.exit(main())
