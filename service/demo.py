"""The demonstration: the article's network on a real table, through the public API and nothing else."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2 as httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.processes import LOCK_NAME, CannotStart, die_with_parent, locked

DATA_DIR = Path(".demo")
JOB_TIMEOUT_SECONDS = 600.0
POLL_SECONDS = 0.3
BARS = "▁▂▃▄▅▆▇█"
SHOWN_ROWS = 6

SPEC: dict[str, Any] = {
    "dataset": "digits",
    "network": {"kind": "snn", "hidden_layers": 20, "units": 100, "dropout": 0.0},
    "training": {
        "optimizer": "nadam",
        "learning_rate": 1e-4,
        "epochs": 50,
        "batch_size": 32,
        "validation_fraction": 0.2,
        "test_fraction": 0.25,
        "early_stopping": None,
        "seed": 0,
    },
    "model": "demo",
}
"""The article's network, 20 hidden layers of 100 units with Nadam, on 1,797 real images of handwritten digits."""

console = Console(highlight=False)


def run() -> int:
    """Start the service, train, show the result, end the service; return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        with locked(DATA_DIR):
            for path in DATA_DIR.iterdir():
                if path.name != LOCK_NAME:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    except CannotStart as error:
        console.print(str(error))
        return 1
    console.print("[bold]Selfnorm[/]: starting the service (API, worker, broker, database) ...")
    command = [sys.executable, "-m", "service.cli", "up", "--port", "0", "--data-dir", str(DATA_DIR)]
    service = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid()),
    )
    try:
        address = _wait_for_address(service)
        console.print(f"ready at {address}\n")
        with httpx.Client(base_url=address, timeout=40) as client:
            return _train_and_show(client)
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _wait_for_address(service: "subprocess.Popen[str]") -> str:
    said = []
    assert service.stdout is not None
    for line in service.stdout:
        said.append(line)
        if found := re.search(r"ready at (\S+)", line):
            return found.group(1)
    raise SystemExit("the service did not start:\n" + "".join(said))


def _train_and_show(client: httpx.Client) -> int:
    console.print(
        f"POST /jobs: a self-normalizing network of 20 x 100 SELU units on [bold]{SPEC['dataset']}[/], a real table"
    )
    answer = client.post("/jobs", json=SPEC)
    answer.raise_for_status()
    job = _follow(client, answer.json()["id"])
    if job["state"] != "succeeded":
        console.print(f"[red]the job {job['state']}[/]: {job['error']}")
        return 1
    _show_curves(client.get(f"/jobs/{job['id']}/metrics").json()["items"], job["metrics"]["best"])
    test = job["metrics"]["test"]
    console.print(
        f"\ntest part (25 % of the rows, never seen in training): accuracy [bold]{test['accuracy']:.3f}[/], "
        f"macro F1 {test['f1']:.3f}\n"
    )
    _show_predictions(client)
    _show_next_steps(job["id"], job["model"]["version"])
    return 0


def _follow(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Show a bar until the job has ended."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("queued", total=SPEC["training"]["epochs"])
        deadline = time.monotonic() + JOB_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
            latest = job["metrics"]["latest"] or {}
            text = (
                job["state"]
                if "val_loss" not in latest
                else f"{job['state']}, validation loss {latest['val_loss']:.3f}"
            )
            progress.update(bar, completed=job["progress"]["epoch"], description=text)
            if job["state"] in ("succeeded", "failed", "cancelled"):
                return job
            time.sleep(POLL_SECONDS)
    raise SystemExit(f"job {job_id} did not end within {JOB_TIMEOUT_SECONDS:.0f} s")


def _show_curves(epochs: list[dict[str, Any]], best: dict[str, Any]) -> None:
    table = Table(title="learning curve", title_justify="left")
    for name in ("epoch", "loss", "val_loss", "accuracy", "val_accuracy"):
        table.add_column(name, justify="right")
    step = max(1, len(epochs) // 8)
    shown = {1, len(epochs), best["epoch"], *range(step, len(epochs) + 1, step)}
    for measured in epochs:
        if measured["epoch"] in shown:
            mark = " (best)" if measured["epoch"] == best["epoch"] else ""
            values = [f"{measured[name]:.4f}" for name in ("loss", "val_loss", "accuracy", "val_accuracy")]
            table.add_row(f"{measured['epoch']}{mark}", *values)
    console.print(table)
    for name in ("loss", "val_loss"):
        console.print(f"{name:>9} {_sparkline([measured[name] for measured in epochs])}")


def _sparkline(values: list[float]) -> str:
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    return "".join(BARS[round((value - low) / spread * (len(BARS) - 1))] for value in values)


def _show_predictions(client: httpx.Client) -> None:
    """Predict some raw rows and show the truth beside the answers."""
    rows = client.get(f"/datasets/{SPEC['dataset']}/rows", params={"page_size": 100}).json()["items"]
    chosen = rows[:: len(rows) // SHOWN_ROWS][:SHOWN_ROWS]
    truth = [row.pop("target") for row in chosen]
    answer = client.post("/predict", json={"model": SPEC["model"], "instances": chosen})
    answer.raise_for_status()
    predicted = answer.json()
    table = Table(title="POST /predict with raw rows", title_justify="left")
    for name in ("truth", "prediction", "probability"):
        table.add_column(name, justify="right")
    for actual, label, chances in zip(truth, predicted["predictions"], predicted["probabilities"], strict=True):
        color = "green" if actual == label else "red"
        table.add_row(str(actual), f"[{color}]{label}[/]", f"{max(chances):.3f}")
    console.print(table)


def _show_next_steps(job_id: str, version: int) -> None:
    address = "http://127.0.0.1:8000"
    as_json = "-H 'Content-Type: application/json'"
    console.print(
        "\nGo on: start the service again on the same data, and talk to it from a second terminal.", style="bold"
    )
    for line in (
        f".venv/bin/selfnorm up --data-dir {DATA_DIR}",
        f"curl -s {address}/jobs/{job_id}/metrics",
        f"curl -s {address}/models/{SPEC['model']}/versions/{version}",
        f"""curl -s {address}/jobs {as_json} -d '{{"dataset": "iris", "training": {{"test_fraction": 0.25}}}}'""",
        f"curl -s '{address}/jobs?state=running'",
        f"""curl -s {address}/predict {as_json} -d '{{"model": "iris", "instances": [[5.1, 3.5, 1.4, 0.2]]}}'""",
    ):
        console.print(f"  {line}", soft_wrap=True, markup=False)
