"""``python -m tests.chaos --database postgresql --kills 100``: disturb the service at random and check what is left."""

import argparse
import secrets
import signal
import sys
from typing import get_args

from tests.chaos.run import Plan, run
from tests.chaos.topology import Kind


def main() -> int:
    """Do a run, or only show its schedule; return the exit status."""
    chosen = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as ctrl-C, which leaves nothing behind
    plan = Plan(
        chosen.database,
        chosen.seed,
        chosen.kills,
        chosen.seconds,
        chosen.faults,
        workers=chosen.workers,
        apis=chosen.apis,
        longest=chosen.longest,
    )
    _say(f"seed {plan.seed}: {plan.command}")
    if chosen.show:
        for fault in plan.schedule():
            _say(str(fault))
        return 0
    outcome = run(plan, _say, keeps=chosen.keep)
    _say(outcome.summary())
    for violation in outcome.violations:
        _say(f"VIOLATION {violation.invariant}: {violation.detail}")
    if outcome.violations:
        _say(f"{len(outcome.violations)} violations; to do the same again: {plan.command}")
    return bool(outcome.violations)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--database", choices=get_args(Kind), default="sqlite")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--kills", type=int, help="end after so many kill -9")
    end.add_argument("--seconds", type=float, help="end after so many seconds of faults")
    end.add_argument("--faults", type=int, help="end after so many faults")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="draws the faults; default: any")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--apis", type=int, default=1)
    parser.add_argument("--longest", type=float, default=45.0, help="no fault lasts for more seconds")
    parser.add_argument("--keep", action="store_true", help="keep logs, database and history in any case")
    parser.add_argument("--show", action="store_true", help="only print the schedule")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command speaks to its user


if __name__ == "__main__":
    sys.exit(main())
