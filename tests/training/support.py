"""Small made-up tables, and trainings on them that a test can watch, stop, and repeat in another process."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from service.domain.completion import complete_spec
from service.domain.datasets import Column
from service.domain.jobs import Measure
from service.domain.limits import RESIDENT_BYTES, Limits
from service.domain.spec import JobSpec
from service.domain.table import Table
from tests.factories import make_dataset
from tests.patience import PATIENCE_SECONDS
from workers.epochs import ChunkEnd, EpochEnd
from workers.monitor import Look
from workers.state import TrainingState
from workers.training import TrainedNetwork, train

ROOT = Path(__file__).parents[2]
FEATURES = ("a", "b", "c", "d", "e")
SMALL: dict[str, Any] = {"kind": "snn", "hidden_layers": 2, "units": 16}
SMALL_MLP: dict[str, Any] = {**SMALL, "kind": "mlp"}


def classes_table(rows: int, classes: int = 3, seed: int = 0) -> Table:
    """Classes that overlap, named k0, k1 and so on; ``weight`` says how much a row counts."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, len(FEATURES)))
    centers = rng.normal(size=(len(FEATURES), classes))
    labels = (values @ centers + rng.gumbel(size=(rows, classes))).argmax(axis=1)
    columns: dict[str, Any] = dict(zip(FEATURES, values.T, strict=True))
    columns["weight"] = rng.uniform(0.0, 3.0, rows)
    columns["y"] = np.array([f"k{label}" for label in labels], object)
    return Table(columns)


def numbers_table(rows: int, seed: int = 0) -> Table:
    """A number that depends on the features and on chance."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, len(FEATURES)))
    columns: dict[str, Any] = dict(zip(FEATURES, values.T, strict=True))
    columns["weight"] = rng.uniform(0.0, 3.0, rows)
    columns["y"] = 40.0 + 9.0 * (np.tanh(values @ rng.normal(size=len(FEATURES))) + 0.3 * rng.normal(size=rows))
    return Table(columns)


def described(table: Table) -> dict[str, Column]:
    """Describe a table without gaps."""
    found = {}
    for name, values in table.columns.items():
        if values.dtype.kind == "O":
            found[name] = Column(name, "categorical", "text", missing=0, unique=len(set(values.tolist())))
        else:
            found[name] = Column(name, "numeric", missing=0, unique=len(np.unique(values)))
    return found


def completed(table: Table, **fields: Any) -> JobSpec:
    """Write out the defaults of a spec that predicts ``y`` of this table from the features."""
    dataset = make_dataset(*described(table).values(), rows=table.rows)
    asked = {"dataset": "d1", "target": "y", "features": list(FEATURES), **fields}
    return complete_spec(JobSpec.model_validate(asked), dataset, Limits()).spec


@dataclass
class Watched:
    """A finished training and everything that it said on its way."""

    trained: TrainedNetwork
    chunks: list[ChunkEnd]
    epochs: list[EpochEnd]
    looks: list[Look]

    @property
    def measured(self) -> list[tuple[int, dict[str, Measure], float]]:
        """What every epoch came to, without how long it took."""
        return [(end.record.epoch, end.record.metrics, end.record.learning_rate) for end in self.epochs]


class Killed(Exception):
    """Stands for whatever ends a worker between two chunks."""


@dataclass
class Case:
    """A table and what is asked of it."""

    table: Table
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> JobSpec:
        return completed(self.table, **self.fields)

    def run(
        self,
        state: TrainingState | None = None,
        resident_bytes: int = RESIDENT_BYTES,
        on_chunk: Callable[[ChunkEnd], None] = lambda _: None,
    ) -> Watched:
        """Train to the end."""
        chunks: list[ChunkEnd] = []
        epochs: list[EpochEnd] = []
        looks: list[Look] = []

        def note(end: ChunkEnd) -> None:
            chunks.append(end)
            on_chunk(end)

        trained = train(
            self.spec,
            self.table,
            described(self.table),
            state,
            resident_bytes=resident_bytes,
            on_chunk=note,
            on_epoch=epochs.append,
            on_look=looks.append,
        )
        return Watched(trained, chunks, epochs, looks)

    def run_until(self, chunk: int, state: TrainingState | None = None) -> bytes:
        """Train until so many chunks are done, die there, and return the state at that moment."""
        saved: list[bytes] = []
        seen = 0

        def die(end: ChunkEnd) -> None:
            nonlocal seen
            seen += 1
            if seen == chunk:
                saved.append(end.state.to_bytes())
                raise Killed

        try:
            self.run(state, on_chunk=die)
        except Killed:
            return saved[0]
        raise AssertionError(f"the training ended after {seen} chunks, before chunk {chunk}")


DROPOUT_AND_CLASS_WEIGHTS = "alpha dropout, AdamW, class weights, early stopping"
COSINE_AND_NORMALIZATION = "batch normalization, Nadam, cosine with warm-up"
PLATEAU_AND_SAMPLE_WEIGHTS = "regression, SGD, plateau, sample weights"


def case(name: str) -> Case:
    """Return one of the trainings that differ in everything a state has to hold."""
    if name == DROPOUT_AND_CLASS_WEIGHTS:
        training: dict[str, Any] = {
            "optimizer": "adamw",
            "learning_rate": 0.01,
            "class_weights": "balanced",
            "batch_size": 8,
            "epochs": 12,
            "early_stopping": {"patience": 3},
            "test_fraction": 0.1,
            "clip_norm": 1.0,
            "seed": 3,
        }
        return Case(classes_table(1500), {"network": {**SMALL, "dropout": 0.1}, "training": training})
    if name == COSINE_AND_NORMALIZATION:
        network = {**SMALL_MLP, "normalization": "batch", "dropout": 0.2}
        schedule = {"kind": "cosine", "warmup_epochs": 1.5, "final_fraction": 0.1}
        training = {
            "optimizer": "nadam",
            "learning_rate": 0.005,
            "schedule": schedule,
            "batch_size": 7,
            "epochs": 5,
            "monitor": "val_f1",
            "label_smoothing": 0.1,
            "l2": 1e-4,
            "seed": 4,
        }
        return Case(classes_table(1500), {"network": network, "training": training})
    if name == PLATEAU_AND_SAMPLE_WEIGHTS:
        schedule = {"kind": "plateau", "patience": 1, "factor": 0.5, "min_delta": 0.02}
        training = {
            "optimizer": "sgd",
            "momentum": 0.9,
            "learning_rate": 0.01,
            "schedule": schedule,
            "batch_size": 7,
            "epochs": 6,
            "sample_weight_column": "weight",
            "early_stopping": None,
            "seed": 5,
        }
        return Case(numbers_table(1500), {"task": "regression", "network": SMALL, "training": training})
    raise KeyError(name)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def start_python(script: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a script in a new process that can import the tests."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output_of(process: "subprocess.Popen[str]") -> str:
    """Wait for a script and return the last line that it printed."""
    said, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors[-4000:]
    return said.splitlines()[-1]
