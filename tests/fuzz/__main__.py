"""Fuzz for as long as asked: ``python -m tests.fuzz --seconds 60``; a failure prints the command that repeats it.

Each target runs in a process of its own with bounded memory, so that one that crashes is a finding as well.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from random import SystemRandom

from tests.fuzz.contract import fuzz_contract
from tests.fuzz.mutator import mutated
from tests.fuzz.targets import TARGETS, Target

READERS = "readers"
CONTRACT = "schemathesis"
"""All that are given bytes, and what asks a whole service what its OpenAPI document says."""
MEMORY_BYTES = 3 << 30
MOST_CPU_SECONDS = 10.0
"""A body of 64 kB that keeps a core busy for so long would hold others up."""


def main() -> int:
    """Fuzz; return how many targets failed."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--target", choices=[*names, READERS, CONTRACT], help="this one only")
    parser.add_argument("--seed", type=int, help="the number of the first case; drawn where it is not given")
    parser.add_argument("--cases", type=int, default=1 << 62, help="at most so many of each target")
    parser.add_argument("--here", action="store_true", help="in this process, which a crash ends")
    asked = parser.parse_args()
    wanted = names if asked.target == READERS else [asked.target] if asked.target else [*names, CONTRACT]
    first = SystemRandom().randrange(10**9) if asked.seed is None else asked.seed
    shares = [share / sum(map(_share, wanted)) * asked.seconds for share in map(_share, wanted)]
    if asked.here:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, resource.RLIM_INFINITY))
        return sum(not fuzz_named(name, first, share, asked.cases) for name, share in zip(wanted, shares, strict=True))
    return sum(not _fuzz_apart(name, first, share, asked.cases) for name, share in zip(wanted, shares, strict=True))


def _share(name: str) -> float:
    """Return how much of the time a target gets; a whole service takes more than a reader."""
    return len(TARGETS) if name == CONTRACT else 1


def fuzz_named(name: str, first: int, seconds: float, cases: int) -> bool:
    """Fuzz what a target is called."""
    if name == CONTRACT:
        return fuzz_contract(first, seconds, cases, _say)
    return fuzz(next(target for target in TARGETS if target.name == name), first, seconds, cases)


def fuzz(target: Target, first: int, seconds: float, cases: int) -> bool:
    """Give a target one case after the other; a file that is named before holds the number of the present one."""
    seeds = target.seeds()
    until, number = time.monotonic() + seconds, first
    with tempfile.NamedTemporaryFile("w", prefix="selfnorm-fuzz-") as note:
        _say(f"{target.name}: {note.name}")
        while number < first + cases and time.monotonic() < until:
            os.pwrite(note.fileno(), b"%20d" % number, 0)
            if not _is_good(target, number, mutated(number, seeds)):
                return False
            number += 1
        _say(f"{target.name}: {number - first} cases")
    return True


def _is_good(target: Target, number: int, content: bytes) -> bool:
    began = time.process_time()
    try:
        with warnings.catch_warnings(action="error"):
            target.read(content)
    except target.allowed:
        pass
    except Exception:  # noqa: BLE001  # whatever it is, it is a finding
        traceback.print_exc()
        return _report(target, number, content, "raises what nobody expects")
    if (taken := time.process_time() - began) > MOST_CPU_SECONDS:
        return _report(target, number, content, f"took {taken:.1f} s of a core")
    return True


def _report(target: Target, number: int, content: bytes, what: str) -> bool:
    _say(f"FOUND {target.name} {what}: {content[:2000]!r} ({len(content)} bytes)")
    _say(f"again: python -m tests.fuzz --here --target {target.name} --seed {number} --cases 1")
    return False


def _fuzz_apart(name: str, first: int, seconds: float, cases: int) -> bool:
    options = ["--here", "--target", name, "--seed", str(first), "--cases", str(cases)]
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", *options, "--seconds", str(seconds)]
    done = subprocess.run(command, check=False)
    if done.returncode < 0:
        _say(f"FOUND {name} ends its process by signal {-done.returncode}; its last case is in its note")
    return done.returncode == 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(min(main(), 100))
