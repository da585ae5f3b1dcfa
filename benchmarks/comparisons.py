"""How long the article's experiments take as one request, and what they come to: a preset through the public API.

``python -m benchmarks.comparisons [PRESET ...] [--workers N] [--seeds 0 1] [--output FOLDER]``. It needs
SELFNORM_DATASETS_DIR or internet. Bars on two cores: article/boston_housing (4 arms x 5 seeds) under 3 minutes,
article/fashion_mnist (1 seed) under 15.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.storage.database import sqlite_url
from tests.processes import STOP_TIMEOUT_SECONDS, Service, running

BARS_SECONDS = {"article/boston_housing": 180.0, "article/fashion_mnist": 900.0}
MOST_SECONDS = 4 * 3600
NO_BROKER = "redis://127.0.0.1:1/0"
"""Workers beside the first are not called: they look by themselves every two seconds, and go on while jobs wait."""


def main() -> int:
    """Run the presets, print what they come to, and return 1 if one takes too long."""
    parser = argparse.ArgumentParser()
    parser.add_argument("presets", nargs="*", default=list(BARS_SECONDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="*")
    parser.add_argument("--output", type=Path, help="where to write every result and its pictures")
    chosen = parser.parse_args()
    threads = str(max(1, (os.cpu_count() or 1) // chosen.workers))
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        with (
            running(data_dir, SELFNORM_THREADS=threads) as service,
            more_workers(data_dir, chosen.workers - 1, threads),
        ):
            seeds = {} if chosen.seeds is None else {"seeds": chosen.seeds}
            return 1 if sum([not _holds(service, preset, seeds, chosen.output) for preset in chosen.presets]) else 0


@contextmanager
def more_workers(data_dir: Path, count: int, threads: str) -> Iterator[None]:
    """Run workers beside that of the service, on its database."""
    environment = {
        **os.environ,
        "SELFNORM_DATABASE_URL": sqlite_url(data_dir / "selfnorm.db"),
        "SELFNORM_BROKER_URL": NO_BROKER,
        "SELFNORM_THREADS": threads,
    }
    command = [sys.executable, "-m", "workers"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(command, env=environment, **quiet) for _ in range(count)]  # type: ignore[call-overload]  # files
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(STOP_TIMEOUT_SECONDS)


def _holds(service: Service, preset: str, fields: dict[str, Any], output: Path | None) -> bool:
    began = time.monotonic()
    comparison = service.post("/comparisons", preset=preset, **fields)
    path, deadline = f"/comparisons/{comparison['id']}", began + MOST_SECONDS
    while comparison["finished_at"] is None and time.monotonic() < deadline:
        comparison = service.client.get(f"{path}?wait=30").raise_for_status().json()
    seconds = time.monotonic() - began
    _show(comparison)
    if output is not None:
        _keep(service, comparison, output / preset.rpartition("/")[2])
    bar = BARS_SECONDS.get(preset)
    print(f"{preset}: {comparison['state']} after {seconds:.0f} s" + (f" (bar {bar:.0f})" if bar else ""), flush=True)
    return bool(comparison["state"] == "succeeded" and (bar is None or seconds < bar))


def _keep(service: Service, comparison: dict[str, Any], folder: Path) -> None:
    """Write the result, the curves of all arms, and how the first seed of each arm looked on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(comparison, indent=1))
    paths = {"curves": f"/comparisons/{comparison['id']}/plots/learning_curves.svg"}
    first: dict[str, str] = {}
    for job in comparison["jobs"]:
        first.setdefault(job["arm"], job["id"])
    for arm, job_id in first.items():
        paths |= {
            f"{arm}-{name}": f"/jobs/{job_id}/plots/{name}.svg" for name in ("activations", "gradients", "weights")
        }
    for name, path in paths.items():
        (folder / f"{name}.svg").write_bytes(service.client.get(path).raise_for_status().content)


def _show(comparison: dict[str, Any]) -> None:
    result = comparison["result"]
    metrics = ("accuracy", "f1") if "accuracy" in result["metric"] else ("rmse", "r2")
    heads = ["arm", *metrics, "best epoch", "saved", "seconds", *(f"to {level:g}" for level in result["levels"])]
    print("".join(f"{head:>20}" for head in heads))
    for arm in result["arms"]:
        saved = arm["epochs_saved"]
        cells = [
            arm["arm"],
            *(_told(arm["metrics"].get(metric)) for metric in metrics),
            _told(arm["best_epoch"], 1),
            "" if saved is None else _told(saved, 2),
            _told(arm["seconds"], 1),
            *(
                f"{level['reached']} of {arm['succeeded']}" if level["mean"] is None else f"{level['mean']:.1f}"
                for level in arm["epochs_to_level"]
            ),
        ]
        print("".join(f"{cell:>20}" for cell in cells))
    print(result["verdict"].replace(". ", ".\n"))
    for claim in result["claims"] or ():
        print(f"claim: {claim['claim']}; measured {claim['measured']}, holds: {claim['holds']} ({claim['detail']})")
    if result["ranks"] is not None:
        ranks = result["ranks"]
        print(f"average ranks: {ranks['average']}, critical difference {ranks['critical_difference']}")


def _told(measured: dict[str, Any] | None, digits: int = 4) -> str:
    if measured is None or measured["mean"] is None:
        return "none"
    deviation = measured["standard_deviation"]
    return f"{measured['mean']:.{digits}f}" + ("" if deviation is None else f" +- {deviation:.{digits}f}")


if __name__ == "__main__":
    sys.exit(main())
