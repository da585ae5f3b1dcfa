"""A training as a value: all that it is between two chunks, to be stored as bytes and continued to the same bits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from service.domain.bounds import Frozen
from service.domain.jobs import EpochRecord
from service.domain.spec import JobSpec
from service.domain.training_errors import UnusableState
from service.domain.verdict import Verdict
from workers.engine.layout import Layout, Vectors
from workers.environment import Environment

FORMAT: Literal[1] = 1
METADATA = "selfnorm"
LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header in so many bytes."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors as the engine holds them; arrays by name when somebody asks."""

    layout: Layout
    vectors: Vectors

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return every tensor by its name."""
        return self.layout.split(self.vectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Everything that a training is: a cheap reference while it runs, complete once it is bytes."""

    identity: str
    """Which training this is: the hash of its spec and of its split."""
    environments: tuple[Environment, ...]
    """Where it has run so far, first to last."""
    epoch: int
    """The epoch that is being trained, from 1."""
    step: int
    """How many of its steps are done."""
    seconds: float
    """How long they took."""
    records: Sequence[EpochRecord]
    """What epochs measured; it may grow while the training goes on."""
    now: Packed
    """Weights, moving moments, seed generators and optimizer slots."""
    totals: Packed
    """What the metrics of the unfinished epoch hold."""
    best: Packed | None
    """The network of the best epoch so far."""
    verdict: Verdict | None = None
    """What was said of the network at the last look."""
    looked_at: int = -1
    """After which epoch that was."""

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """What the epochs before ``epoch`` measured."""
        return tuple(self.records[: self.epoch - 1])

    def to_bytes(self) -> bytes:
        """Return a safetensors file whose metadata holds the rest as JSON."""
        parts = {"now": self.now, "totals": self.totals, "best": self.best}
        tensors = {
            f"{part}/{name}": np.asarray(array, order="C")
            for part, packed in parts.items()
            if packed is not None
            for name, array in packed.arrays().items()
        }
        document = _Document(
            format=FORMAT,
            identity=self.identity,
            environments=self.environments,
            has_best=self.best is not None,
            epoch=self.epoch,
            step=self.step,
            seconds=self.seconds,
            history=self.history,
            verdict=self.verdict,
            looked_at=self.looked_at,
        )
        return save(tensors, {METADATA: document.model_dump_json()})

    @classmethod
    def from_bytes(cls, content: bytes) -> "TrainingState":
        """Undo ``to_bytes``.

        Raises:
            UnusableState: these bytes are no state, or one of another version.
        """
        try:
            tensors = load(content)
            length = int.from_bytes(content[:LENGTH_BYTES], "little")
            metadata = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])["__metadata__"]
            document = _Document.model_validate_json(metadata[METADATA])
            packed = {part: _packed(tensors, part) for part in ("now", "totals", "best")}
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UnusableState(f"it is no saved state ({type(error).__name__})") from None
        return cls(
            identity=document.identity,
            environments=document.environments,
            epoch=document.epoch,
            step=document.step,
            seconds=document.seconds,
            records=document.history,
            now=packed["now"],
            totals=packed["totals"],
            best=packed["best"] if document.has_best else None,
            verdict=document.verdict,
            looked_at=document.looked_at,
        )


class _Document(Frozen):
    """What of a state is no tensor, as it stands in the file."""

    format: Literal[1]
    identity: str
    environments: Annotated[tuple[Environment, ...], Field(min_length=1)]
    has_best: bool
    epoch: Annotated[int, Field(ge=1)]
    step: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    history: tuple[EpochRecord, ...]
    verdict: Verdict | None = None
    looked_at: int = -1


def identity(spec: JobSpec, split: bytes) -> str:
    """Return the hash that a state and the training which continues it must share; names and tags do not matter."""
    document = spec.model_dump(mode="json", exclude={"model", "tags"})
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode() + split).hexdigest()


def _packed(tensors: Mapping[str, NDArray[Any]], part: str) -> Packed:
    arrays = {name.removeprefix(f"{part}/"): array for name, array in tensors.items() if name.startswith(f"{part}/")}
    layout = Layout.of_arrays(arrays)
    return Packed(layout, layout.join(arrays))
