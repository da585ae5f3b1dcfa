"""The command line: ``python -m benchmarks.predict [MEASURE ...] [--rounds N] [--seconds S]``; without a measure, all.

The status is 1 if a bar is missed. It needs Linux and wrk.
"""

import argparse
import signal
import sys
from collections.abc import Callable

from benchmarks.predict import beside, binary, flip, memory, peers, report, spread, wrk
from benchmarks.predict.report import Figure

MEASURES: dict[str, Callable[[int, float], list[Figure]]] = {
    "peers": peers.measure,
    "binary": binary.measure,
    "memory": memory.measure,
    "beside": beside.measure,
    "flip": flip.measure,
    "spread": spread.measure,
}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__.splitlines()[0])
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, "all"], default="all", metavar="MEASURE")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every server in every case")
    parser.add_argument("--seconds", type=float, default=2, help="how long a turn takes")
    wanted = parser.parse_args()
    names = MEASURES if "all" in wanted.measures else dict.fromkeys(wanted.measures)
    wrk.program()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    figures = []
    for name in names:
        print(f"\n== {name}; {report.machine()}", flush=True)
        found = MEASURES[name](wanted.rounds, wanted.seconds)
        report.print_figures(name, found)
        figures += found
    missed = sum(figure.is_held is False for figure in figures)
    print(f"\n{missed} of {sum(figure.is_held is not None for figure in figures)} bars missed; {report.machine()}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
