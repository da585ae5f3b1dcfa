"""Runs the clients of other protocols, each as a program in the environment that ``make clients`` has made."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-clients"
PROGRAMS = Path(__file__).parent / "clients"
TIMEOUT_SECONDS = 240


def run_client(program: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a program, which gets what it is to ask as JSON, and return what it says it was answered."""
    return _run([_installed("bin/python"), PROGRAMS / f"{program}.py"], asked, {})


def run_tensorflow_serving(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the program that reads messages of TensorFlow Serving, for which it needs the TensorFlow that is here."""
    environment = {"PYTHONPATH": str(_installed("tensorflow-serving")), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return _run([sys.executable, PROGRAMS / "tensorflow_messages.py"], asked, environment)


def run_snippets(program: str) -> str:
    """Run what a page of documentation shows, and return what it prints."""
    command: list[str | Path] = [_installed("bin/python"), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def _installed(part: str) -> Path:
    path = ENVIRONMENT / part
    if not path.exists():
        raise AssertionError(f"{path} is missing: the clients are not installed. Run: make clients")
    return path


def _run(command: list[str | Path], asked: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        command,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
