"""What a tree of processes costs, and which of them answers a connection; read from /proc, which Linux alone has."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.processes import descendants

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
ESTABLISHED = "01"


@dataclass(frozen=True)
class Memory:
    """Of one process or of several, in bytes."""

    resident: int
    """Pages that several share are counted for each."""
    proportional: int
    """Pages that several share are divided among them."""

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.resident + other.resident, self.proportional + other.proportional)


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    return [pid, *descendants(pid)]


def cpu_seconds(pids: list[int]) -> float:
    """Return the processor time that they have used so far, their own and the kernel's for them."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended in the meantime
            continue
        total += int(fields[11]) + int(fields[12])
    return total * TICK_SECONDS


def memory(pid: int) -> Memory:
    """Return what a process holds now."""
    found = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return Memory(found["Rss"], found["Pss"])


def command(pid: int) -> str:
    """Return how a process was started."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def answering(pids: list[int], port: int) -> dict[int, int]:
    """Return which process answers each open connection to a port, by the client's port."""
    clients = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, state, inode = fields[1], fields[2], fields[3], fields[9]
        if state == ESTABLISHED and _port(local) == port:
            clients[f"socket:[{inode}]"] = _port(remote)
    found = {}
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                client = clients.get(os.readlink(link))
            except OSError:  # closed in the meantime
                continue
            if client is not None:
                found[client] = pid
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
