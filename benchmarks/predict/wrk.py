"""Load by wrk: a few requests, sent again and again over some connections, with the figures that wrk counts."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPORT = "selfnorm-report "
TIMEOUT_SECONDS = 30
WAIT_SECONDS = 60
"""How much longer than the load wrk itself may take."""

SCRIPT = """
local requests, last = {{}}, 0
function init()
  local headers = {{["Content-Type"] = "{content_type}"}}
  for number = 1, {count} do
    local file = io.open("{folder}/" .. number, "rb")
    requests[number] = wrk.format("POST", nil, headers, file:read("*all"))
    file:close()
  end
end
function request()
  last = last % {count} + 1
  return requests[last]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{report}{{"requests": %d, "microseconds": %d, "p50": %f, "p99": %f, "worst": %f, "refused": %d, "broken": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True)
class Request:
    """What is sent, and where."""

    url: str
    bodies: tuple[bytes, ...]
    """Sent in turns: servers that watch their inputs see a table's rows, and none can answer from memory."""
    content_type: str = "application/json"


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests: int
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    worst_milliseconds: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


class NoWrk(SystemExit):
    """wrk is not installed."""

    def __init__(self) -> None:
        super().__init__("this benchmark needs wrk: apt-get install wrk (Debian, Ubuntu), brew install wrk (macOS)")


def program() -> str:
    """Return where wrk is.

    Raises:
        NoWrk: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise NoWrk
    return found


def send(request: Request, connections: int, seconds: float) -> Load:
    """Send requests over and over from one thread, so that the servers keep the other core.

    Raises:
        NoWrk: wrk is not installed.
        AssertionError: an answer was not 200, or a connection broke.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, body in enumerate(request.bodies, start=1):
            (folder / str(number)).write_bytes(body)
        script = folder / "request.lua"
        count = len(request.bodies)
        script.write_text(SCRIPT.format(content_type=request.content_type, count=count, folder=folder, report=REPORT))
        options = [f"-t1 -c{connections} -d{seconds:.0f}s --timeout {TIMEOUT_SECONDS}s".split(), ["-s", str(script)]]
        command = [program(), *options[0], *options[1], request.url]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + WAIT_SECONDS)
    return _read(ended.stdout)


def _read(output: str) -> Load:
    [line] = [line for line in output.splitlines() if line.startswith(REPORT)]
    found = json.loads(line.removeprefix(REPORT))
    assert found["refused"] == 0, f"{found['refused']} answers were not 200: {output}"
    assert found["broken"] == 0, f"{found['broken']} connections broke: {output}"
    assert found["requests"] > 0, f"nothing was answered: {output}"
    milliseconds = (found[key] / 1000 for key in ("p50", "p99", "worst"))
    return Load(found["requests"], found["microseconds"] / 1e6, *milliseconds)
