"""The code of documents, run as it stands and in its order: shell, Python, and JSON specs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import Service

ROOT = Path(__file__).parents[1]
ADDRESS = "http://127.0.0.1:8000"
"""Where documents have the service."""
FENCE = re.compile(r"^(?:<!-- (not run: [^>]+) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELLS = ("sh", "bash")
LIMIT_SECONDS = 400
DONE = "block done"
SESSION = f"""
import sys
names = {{"__name__": "__main__"}}
while length := sys.stdin.buffer.readline():
    exec(compile(sys.stdin.buffer.read(int(length)), "document", "exec"), names)
    print("{DONE}", flush=True)
"""
"""A Python session that runs one block after the other."""


@dataclass(frozen=True)
class Block:
    """A block of code; ``excuse`` says why it is not run, where the document says so."""

    language: str
    code: str
    line: int
    excuse: str | None


def blocks(document: Path) -> list[Block]:
    """Read the blocks of a document, in order."""
    text = document.read_text()
    return [
        Block(found.group(2), found.group(3), text.count("\n", 0, found.start(3)), found.group(1))
        for found in FENCE.finditer(text)
    ]


class Reader:
    """Somebody who types what a document says: in shells in one folder, and in one Python session."""

    def __init__(self, service: Service, folder: Path, session: "subprocess.Popen[bytes]") -> None:
        self._service = service
        self._folder = folder
        self._session = session

    @property
    def address(self) -> str:
        return str(self._service.client.base_url).rstrip("/")

    def run(self, block: Block) -> str:
        """Run a block; return what it printed."""
        code = block.code.replace(ADDRESS, self.address)
        if block.language in SHELLS:
            return self._type(code)
        if block.language == "python":
            return self._continue(code)
        assert block.language == "json", (
            f"line {block.line}: nobody knows how to run {block.language or 'a bare block'}"
        )
        answer = self._service.client.post(
            "/jobs?validate_only=true", content=code, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        return answer.text

    def _type(self, code: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=environment(self.address, self._folder),
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _continue(self, code: str) -> str:
        assert self._session.stdin is not None
        assert self._session.stdout is not None
        content = code.encode()
        self._session.stdin.write(b"%d\n%b" % (len(content), content))
        self._session.stdin.flush()
        printed: list[str] = []
        for line in self._session.stdout:
            if line.decode().strip() == DONE:
                return "".join(printed)
            printed.append(line.decode())
        raise AssertionError(f"{code}\n{''.join(printed)}")


@contextmanager
def reading(service: Service, folder: Path) -> Iterator[Reader]:
    """Be somebody who reads a document beside a running service."""
    address = str(service.client.base_url).rstrip("/")
    # Else curl would call a refusal a success.
    (folder / ".curlrc").write_text("fail-with-body\nshow-error\n")
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment(address, folder),
    )
    with session:
        yield Reader(service, folder, session)


def environment(address: str, folder: Path | None = None) -> dict[str, str]:
    """Return what a reader's shell knows: our commands, where the service is, and in ``folder`` how curl behaves."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    curl = {} if folder is None else {"CURL_HOME": str(folder)}
    return {**os.environ, "PATH": programs, "SELFNORM_URL": address, "COLUMNS": "120"} | curl
