"""Parts come back after they have died, and at the end nothing is left."""

import subprocess
from typing import get_args

import pytest

from tests.chaos.topology import Kind, NotEnded, Topology
from tests.patience import until
from tests.processes import alive, linux_only

pytestmark = linux_only


@pytest.mark.parametrize("kind", get_args(Kind))
def test_parts_come_back_and_nothing_is_left(kind: Kind) -> None:
    with Topology(kind, workers=0) as topology:
        parts = [part for parts in topology.parts.values() for part in parts]
        assert len(parts) == (2 if kind == "sqlite" else 3)
        for name in ("api", "broker", "database"):
            topology.kill(name)
        until(lambda: all(part.starts >= 2 and part.pid for part in parts), told=lambda: parts)
        processes = topology.processes()
        assert len(processes) >= len(parts)
        topology.look(lambda connection: connection.exec_driver_sql("SELECT 1"))
    assert alive(processes) == []
    assert not topology.folder.exists()


def test_what_is_left_behind_is_told_and_killed() -> None:
    stray = None
    with pytest.raises(NotEnded, match="was left behind: sleep 600"), Topology(workers=0) as topology:
        stray = subprocess.Popen(["sleep", "600"], cwd=topology.folder)
    assert stray is not None
    assert stray.wait(60) == -9
