"""A full disk in the middle of a training; that it can be any disk is what ``test_service_guarantees.py`` looks at."""

from contextlib import closing

import httpx2 as httpx

from service.domain.jobs import EventKind
from tests.chaos import snapshot
from tests.chaos.checker import Run, check
from tests.chaos.client import Client
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.injector import Injector
from tests.chaos.run import SPECS
from tests.chaos.topology import Topology
from tests.patience import until
from tests.processes import linux_only

pytestmark = linux_only

FULL_SECONDS = 6.0
SPEC = "digits-dropout"


def test_training_goes_on_after_the_disk_was_full() -> None:
    history = History()
    with Topology(workers=1) as topology, closing(Client(topology.addresses, history, 1, SPECS, backlog=1)) as users:
        injector = Injector(topology, history)
        job_id = users.submit(SPEC, "during")
        assert job_id is not None

        def stored() -> snapshot.StoredJob:
            return topology.look(snapshot.read).jobs[job_id]

        until(lambda: stored().checkpoints, told=lambda: topology.log("worker"))
        trainer = topology.trainer(0)
        assert injector.do(Fault("fill_disk", 0.0, 0.0, FULL_SECONDS))
        answers, accepted = set(), []
        while injector.in_force:
            answer = httpx.post(f"{topology.addresses[0]}/jobs", json={"dataset": "iris"}, timeout=60)
            answers.add((answer.status_code, "Retry-After" in answer.headers))
            accepted += [answer.json()["id"]] if answer.status_code == 202 else []
            injector.tick()
        assert (503, True) in answers
        assert answers <= {(202, True), (503, True)}
        for other in accepted:  # there was room in the log that was there already
            httpx.post(f"{topology.addresses[0]}/jobs/{other}/cancel", timeout=60)
        assert users.wait(120) == []
        after = topology.look(snapshot.read)
        assert check(Run(after, history)) == []
        assert [event.data["attempt"] for event in after.jobs[job_id].all_of(EventKind.STARTED)] == [1]
        assert topology.trainer(0) == trainer
