"""The command line as people and scripts use it: with pipes, or on a terminal of some size."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 120
HEIGHT = 40
HOSTILE = "\x1b]0;taken\x07\u202e[red]\r:skull:"
"""A name that would do something to a terminal, to the direction of writing, and to rich."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What rich says to a terminal: colours, and where the cursor goes."""


@dataclass(frozen=True)
class CommandLine:
    """Somebody in a folder who talks to one service."""

    url: str
    folder: Path

    def run(self, *words: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command with pipes, as a script does."""
        return subprocess.run(
            command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.environment(**environment),
            timeout=LIMIT_SECONDS,
        )

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command(*words), stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=self.folder, env=self.environment()
        )

    def on_terminal(self, *words: str, width: int = 100, known: Mapping[str, str] | None = None) -> str:
        """Run a command on a terminal, in a shell that also knows something; return what the terminal is told."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
        with subprocess.Popen(
            command(*words),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self.folder,
            env=self.environment(TERM="xterm-256color", **(known or {})),
        ) as process:
            os.close(theirs)
            said = b""
            while piece := _read(ours):
                said += piece
            process.wait(LIMIT_SECONDS)
        os.close(ours)
        return said.decode().replace("\r\n", "\n")

    def environment(self, **others: str) -> dict[str, str]:
        """Return what a shell of this person knows."""
        unset = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        return {**kept, "SELFNORM_URL": self.url, **others}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", *words]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # nobody holds the other end any more
        return b""
