"""Looks at the layers of a network between epochs, always on the same training rows, and follows what becomes of it.

Which epochs are looked at depends on the sizes alone, so equal trainings are told alike: the first ones all, later ones
so seldom that looking takes a small part of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from service.domain.diagnostics import Diagnosis
from service.domain.spec import JobSpec
from service.domain.verdict import Verdict, judge
from service.inference import layers
from service.inference.diagnosis import Probe, look, probe_rows
from workers.engine.feeds import Examples

FIRST_EPOCHS = 10
"""So many epochs are all looked at."""
LATER_SHARE = 0.05
"""Later ones so that the rows looked at are at most this part of those trained on."""
LATER_LOOKS = 200
"""... and so that there are about so many of them at most ..."""
LATER_LAYERS = 5_000
"""... and at most so many layers in all of them, for whoever reads them reads them all."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen after an epoch, 0 before the first, and what is to be said of the network since."""

    diagnosis: Diagnosis
    verdict: Verdict


class Monitor:
    """Follows one training."""

    def __init__(self, spec: JobSpec, training: Examples, outputs: int) -> None:
        self.verdict: Verdict | None = None
        self.looked_at = -1
        """The last epoch that was looked at."""
        self._network = spec.network
        rows = probe_rows(len(training), training.rows.shape[1], spec.network.widths, outputs)
        places = np.linspace(0, len(training) - 1, rows).astype(np.int64)
        self._probe = Probe(
            np.asarray(training.rows[places], np.float32), training.targets[places], spec.task == "classification"
        )
        by_rows = -(-rows // max(1, int(LATER_SHARE * len(training))))
        later_looks = min(LATER_LOOKS, LATER_LAYERS // len(spec.network.widths))
        by_epochs = -(-(spec.training.epochs - FIRST_EPOCHS) // later_looks)
        self._interval = max(1, by_rows, by_epochs)
        self._threads = ThreadpoolController()

    def is_due(self, epoch: int) -> bool:
        """Say whether the network is looked at after an epoch."""
        return epoch <= FIRST_EPOCHS or (epoch - FIRST_EPOCHS) % self._interval == 0

    def look(self, epoch: int, tensors: Tensors, before: Tensors | None = None) -> Look:
        """Look at the network that has these tensors; ``before`` are those before the epoch's last step."""
        network = layers.from_tensors(tensors, self._network, folds=epoch > 0)
        steps = [] if before is None else _steps(before, tensors, len(network) - 1)
        # Threads of a matrix product wait actively for the next one, on cores that the training needs.
        with self._threads.limit(limits=1):
            diagnosis = look(self._network, network, self._probe, epoch, steps)
        self.verdict = judge(self.verdict, diagnosis, self._network)
        self.looked_at = epoch
        return Look(diagnosis, self.verdict)

    def judge_kept(self, epoch: int, tensors: Tensors) -> Verdict:
        """Judge the network that is kept, that of the best epoch: what came after it does not count."""
        layers_kept = layers.from_tensors(tensors, self._network)
        with self._threads.limit(limits=1):
            diagnosis = look(self._network, layers_kept, self._probe, epoch)
        lost_before = self.verdict is not None and self.verdict.epoch is not None and self.verdict.epoch <= epoch
        return judge(self.verdict if lost_before else None, diagnosis, self._network)


def _steps(before: Tensors, after: Tensors, hidden_layers: int) -> list[float]:
    """Return the norms of a step of every hidden layer's kernel."""
    names = [f"network/dense_{number}/kernel" for number in range(1, hidden_layers + 1)]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is not told
        return [float(np.linalg.norm(after[name] - before[name])) for name in names]
