"""Runs the epochs of a prepared training, chunk by chunk; between two chunks it is a value that can be stored."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.domain.jobs import EpochRecord, Progress
from service.domain.spec import JobSpec
from service.domain.training_errors import TrainingDiverged, UnusableState
from service.domain.verdict import Verdict
from workers import network as networks
from workers import training_metrics
from workers.engine.chunks import Engine, Trained
from workers.engine.faults import diagnose, largest_of
from workers.engine.feeds import Chunk, Feed, count_steps, permutation
from workers.engine.layout import Vectors
from workers.environment import Environment, environment
from workers.forms import Form, engine_for
from workers.history import History
from workers.monitor import Look, Monitor
from workers.pace import Pace
from workers.preparation import Prepared
from workers.schedules import learning_rates
from workers.state import Packed, TrainingState, identity

LARGE = 1e5
"""An input, or a standardized target, beyond this is the likely cause of a loss that is not finite."""


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """What is known between two chunks."""

    state: TrainingState
    progress: Progress
    best_epoch: int


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """What is known when an epoch has ended."""

    record: EpochRecord
    best_epoch: int
    progress: Progress


class Epochs:
    """A training under way."""

    def __init__(
        self,
        spec: JobSpec,
        data: Prepared,
        *,
        on_wait: Callable[[], None] = lambda: None,
        on_chunk: Callable[[ChunkEnd], None] = lambda _: None,
        on_epoch: Callable[[EpochEnd], None] = lambda _: None,
        on_look: Callable[[Look], None] | None = None,
    ) -> None:
        """Prepare a training; without ``on_look`` nobody looks at its layers."""
        self.spec, self.data = spec, data
        self._on_chunk, self._on_epoch, self._on_look = on_chunk, on_epoch, on_look
        outputs = len(data.outputs.classes) or 1
        features = data.training.rows.shape[1]
        form = Form.of(
            spec,
            features=features,
            outputs=outputs,
            training_rows=len(data.training),
            validation_rows=len(data.validation),
        )
        self.engine: Engine = engine_for(form, on_wait)
        self._feed = Feed(data.training, self.engine.shape)
        self._validation = Feed(data.validation, self.engine.evaluation_shape)
        self._steps = count_steps(len(data.training), form.batch_rows)
        self._identity = identity(spec, data.split.to_bytes(data.rows))
        self._pace = Pace(self._steps)
        self.history = History(spec.training)
        self.monitor = None if on_look is None else Monitor(spec, data.training, outputs)
        self.environments: tuple[Environment, ...] = (environment(),)
        self.best: Vectors | None = None
        self._epoch, self._step, self._seconds = 1, 0, 0.0
        self._now: Vectors = ()
        self._before_last_step: Vectors | None = None
        self._totals = self.engine.fresh_totals

    def run(self, state: TrainingState | None) -> None:
        """Train to the end, from the beginning or from a saved state.

        Raises:
            UnusableState: the state belongs to another training.
            TrainingDiverged: the loss became NaN or infinite.
        """
        if state is None:
            self._now = self.engine.start(networks.draw_kernels(self.engine.network, self.spec.training.seed))
            self._look(0)
        else:
            self._continue(state)
        training = self.spec.training
        while self._epoch <= training.epochs and not self.history.should_stop:
            self._run_epoch()
        self._look(self._epoch - 1)
        self._on_chunk(ChunkEnd(self.state(), self._progress(), self.history.best_epoch))

    def state(self) -> TrainingState:
        """Return the training as it is now."""
        return TrainingState(
            identity=self._identity,
            environments=self.environments,
            epoch=self._epoch,
            step=self._step,
            seconds=self._seconds,
            records=self.history.records,
            now=Packed(self.engine.layout, self._now),
            totals=Packed(self.engine.totals_layout, self._totals),
            best=None if self.best is None else Packed(self.engine.network_layout, self.best),
            verdict=None if self.monitor is None else self.monitor.verdict,
            looked_at=-1 if self.monitor is None else self.monitor.looked_at,
        )

    def _continue(self, state: TrainingState) -> None:
        if state.identity != self._identity:
            raise UnusableState("it belongs to another spec or another split")
        try:
            self._now = self.engine.layout.join(state.now.arrays())
            self._totals = self.engine.totals_layout.join(state.totals.arrays())
            if state.best is not None:
                self.best = self.engine.network_layout.join(state.best.arrays())
        except (KeyError, ValueError) as error:
            raise UnusableState(f"it does not fit the network ({error})") from None
        is_chunk_end = state.step % self.engine.shape.steps == 0 or state.step == self._steps
        if state.step > self._steps or not is_chunk_end or state.epoch != len(state.history) + 1:
            raise UnusableState(f"it stands at epoch {state.epoch}, step {state.step}, where no training can be")
        self._epoch, self._step, self._seconds = state.epoch, state.step, state.seconds
        self.history = History(self.spec.training, state.history)
        if self.monitor is not None:
            self.monitor.verdict, self.monitor.looked_at = state.verdict, state.looked_at
        self.environments = state.environments
        if self.environments[-1] != environment():
            self.environments = (*self.environments, environment())

    def _run_epoch(self) -> None:
        began, is_whole = time.perf_counter() - self._seconds, self._step == 0
        training = self.spec.training
        rates = learning_rates(training, self.history, self._epoch, self._steps)
        order = permutation(training.seed, self._epoch, len(self.data.training))
        trained = None
        # A state saved between training and validation has no step left; an empty chunk says what the metrics hold.
        left = (
            self._feed.chunks(order, self._step)
            if self._step < self._steps
            else [self.engine.nothing(self.engine.shape)]
        )
        for chunk in left:
            chunk_began = time.perf_counter()
            trained = self._train_chunk(chunk, rates[self._step : self._step + chunk.steps])
            self._step += chunk.steps
            now = time.perf_counter()
            self._seconds = now - began
            self._pace.chunk(chunk.steps, now - chunk_began)
            self._on_chunk(ChunkEnd(self.state(), self._progress(), self.history.best_epoch))
        assert trained is not None
        logs = dict(zip(self.engine.metric_names, trained.measured, strict=True)) | self._validate()
        seconds = time.perf_counter() - began
        if is_whole:
            self._pace.epoch(seconds)
        self._end_epoch(training_metrics.in_target_units(logs, self.data.outputs.scale), float(rates[-1]), seconds)

    def _train_chunk(self, chunk: Chunk, rates: Any) -> Trained:
        key = (self.spec.training.seed, (self._epoch - 1) * self._steps + self._step)
        is_last = self._step + chunk.steps == self._steps
        if is_last and chunk.steps and self.monitor is not None and self.monitor.is_due(self._epoch):
            trained = self._train_last_step_alone(chunk, rates, key)
        else:
            trained = self.engine.train(self._now, self._totals, chunk, rates, key)
        if not np.isfinite(trained.losses).all():
            fault = diagnose(self.engine, self._now, chunk, trained.losses, rates, key)
            step = self._step + fault.step + 1
            raise TrainingDiverged(self._epoch, step, fault.layer, fault.found, self._advice(fault.largest))
        self._now, self._totals = trained.state, trained.totals
        return trained

    def _train_last_step_alone(self, chunk: Chunk, rates: Any, key: tuple[int, int]) -> Trained:
        """Take a chunk's steps, the last by itself, so that it can be said how large it was; the bits are the same."""
        earlier, last = chunk.without_last_step()
        state, totals, losses = self._now, self._totals, np.zeros(0)
        if earlier.steps:
            trained = self.engine.train(state, totals, earlier, rates[:-1], key)
            state, totals, losses = trained.state, trained.totals, trained.losses
        self._before_last_step = self.engine.network_of(state)
        seed, first = key
        trained = self.engine.train(state, totals, last, rates[-1:], (seed, first + earlier.steps))
        return replace(trained, losses=np.concatenate([losses, trained.losses]))

    def _look(self, epoch: int) -> None:
        """Look at the layers after an epoch, unless that has been done."""
        if self.monitor is None or self._on_look is None or self.monitor.looked_at >= epoch:
            return
        split = self.engine.network_layout.split
        before = None if self._before_last_step is None else split(self._before_last_step)
        self._before_last_step = None
        self._on_look(self.monitor.look(epoch, split(self.engine.network_of(self._now)), before))

    def judge_kept(self) -> Verdict | None:
        """Judge the network of the best epoch; None where nobody looks, or none was the best."""
        if self.monitor is None or self.best is None:
            return None
        return self.monitor.judge_kept(self.history.best_epoch, self.engine.network_layout.split(self.best))

    def _validate(self) -> dict[str, float]:
        """Measure the validation rows as the network answers them now."""
        if not len(self.data.validation):
            return {}
        measured, totals = np.zeros(0), self.engine.fresh_totals
        network = self.engine.network_of(self._now)
        for chunk in self._validation.chunks(np.arange(len(self.data.validation))):
            evaluated = self.engine.evaluate(network, totals, chunk)
            totals, measured = evaluated.totals, evaluated.measured
            self._on_chunk(ChunkEnd(self.state(), self._progress(), self.history.best_epoch))
        return {f"val_{name}": value for name, value in zip(self.engine.metric_names, measured, strict=True)}

    def _end_epoch(self, measured: dict[str, Any], learning_rate: float, seconds: float) -> None:
        for name, part in (("loss", self.data.training), ("val_loss", self.data.validation)):
            if name in measured and measured[name] is None:
                found = f"{name} came to {measured[f'{name}_not_finite']}"
                largest = max(largest_of(part.rows), largest_of(part.targets))
                raise TrainingDiverged(self._epoch, None, None, found, self._advice(largest))
        self.history.add(EpochRecord(self._epoch, measured, learning_rate, seconds))
        if self.history.best_epoch == self._epoch:
            self.best = self.engine.network_of(self._now)
        if self.monitor is not None and self.monitor.is_due(self._epoch):
            self._look(self._epoch)
        self._epoch, self._step, self._seconds = self._epoch + 1, 0, 0.0
        self._totals = self.engine.fresh_totals
        self._on_epoch(EpochEnd(self.history.records[-1], self.history.best_epoch, self._progress()))

    def _progress(self) -> Progress:
        done = (self._epoch - 1) * self._steps + self._step
        total = self.spec.training.epochs * self._steps
        each = self._pace.seconds_per_step
        rows = None if each is None else len(self.data.training) / self._steps / each
        eta = None if each is None else (total - done) * each
        return Progress(self._epoch - 1, done / total, rows, eta)

    def _advice(self, largest: float) -> str:
        """Name the likely cause and what to try."""
        training = self.spec.training
        if largest > LARGE:
            return (
                f"A value is {largest:.3g} once it is prepared, where most lie within a few units of 0: mend "
                'or leave out such rows, or set preparation.numeric to "quantile" or "robust"'
            )
        rate = training.learning_rate or 0.0
        clip = "" if training.clip_norm else ", clip_norm 1"
        return (
            f"The learning rate {rate:g} is probably too high for this network: try {rate / 10:g}{clip}, "
            "or fewer hidden layers"
        )
