"""The demonstration, run as `make demo` runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from service.processes import locked
from tests.patience import until
from tests.processes import STOP_TIMEOUT_SECONDS, alive, descendants, linux_only

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "service.cli", "demo"]

pytestmark = linux_only


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def test_demo_trains_predicts_and_says_how_to_go_on(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "epoch 50/50",
        "learning curve",
        "never seen in training",
        "POST /predict",
        "selfnorm up --data-dir .demo",
    ):
        assert words in done.stdout, words


def test_demo_does_not_touch_a_folder_in_use(tmp_path: Path) -> None:
    with locked(tmp_path / ".demo"):
        (tmp_path / ".demo" / "selfnorm.db").write_text("precious")
        done = subprocess.run(COMMAND, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False)
        assert done.returncode == 1
        assert "already runs on the folder" in done.stdout.replace("\n", " ")
        assert (tmp_path / ".demo" / "selfnorm.db").read_text() == "precious"


def test_demo_that_is_ended_leaves_no_process(tmp_path: Path) -> None:
    demo = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment())
    until(lambda: any("workers" in command for command in descendants(demo.pid).values()))
    below = descendants(demo.pid)
    demo.send_signal(signal.SIGTERM)
    demo.wait(STOP_TIMEOUT_SECONDS)
    assert alive(below) == []
