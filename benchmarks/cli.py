"""How long `selfnorm --help` takes, from the start of the process to its end.

Bar: a median of 300 ms. What Python itself takes to start is measured beside it.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

RUNS = 20
BAR_MILLISECONDS = 300.0


def main() -> int:
    """Run each command so many times, in turn, so that a busy moment falls on all of them."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "selfnorm --help": [sys.executable, "-m", "service.cli", "--help"],
        "selfnorm train --help": [sys.executable, "-m", "service.cli", "train", "--help"],
    }
    measured: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            measured[name].append(_milliseconds(command))
    for name, found in measured.items():
        print(f"{name:<22} median {statistics.median(found):4.0f} ms, {min(found):.0f} to {max(found):.0f}")
    return 0 if statistics.median(measured["selfnorm --help"]) < BAR_MILLISECONDS else 1


def _milliseconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    sys.exit(main())
