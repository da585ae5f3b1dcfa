"""Every reason for which a job ends as failed, one class per fact; the code and the text are stored with the job.

TrainingFailed
├── UnusableColumn, UnusableSplit, UnusableClassWeights, UnusableSampleWeights     the rows do not fit the spec
├── DatasetUnavailable, NoRoom                                                     the rows are not to be had
├── NoRoomForFiles                                                                 what is made cannot be written
├── UnusableState                                                                  a saved state does not fit
├── TrainingDiverged, NothingToKeep                                                it did not learn
└── ParityFailed                                                                   what it learned is served wrongly
"""

from collections.abc import Sequence

from service.domain.errors import SelfnormError


class TrainingFailed(SelfnormError):
    """A training that ends without a model; the code and the text are stored with the job."""

    code = "training_failed"


class TrainingDiverged(TrainingFailed):
    """The loss became NaN or infinite."""

    code = "training_diverged"

    def __init__(self, epoch: int, step: int | None, layer: str | None, found: str, advice: str) -> None:
        self.epoch = epoch
        self.step = step
        self.layer = layer
        where = f"epoch {epoch}" if step is None else f"epoch {epoch}, step {step}"
        super().__init__(f"the loss was not finite in {where}: {found}. {advice}")


class ParityFailed(TrainingFailed):
    """A form of the network does not agree with Keras."""

    code = "parity_failed"

    def __init__(self, form: str, difference: float, tolerance: float) -> None:
        super().__init__(
            f"{form} differs from the trained network by {difference:.3g} where {tolerance:g} is allowed; "
            "no model was registered. Activations that have grown very large cause this: try a lower learning rate"
        )


class NothingToKeep(TrainingFailed):
    """No epoch was the best, for the monitor was never finite."""

    code = "nothing_to_keep"

    def __init__(self, monitor: str) -> None:
        super().__init__(
            f"{monitor} was finite in no epoch, so none was the best: the validation rows may all have one class or "
            "one value. Choose another training.monitor, such as val_loss, or another split"
        )


class UnusableColumn(TrainingFailed):
    """A column whose values lie too far apart to be standardized."""

    code = "unusable_column"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"column {name[:64]!r} has values so far from its training rows' mean that they overflow; "
            "mend or leave out these rows, or list the features without it"
        )


class NoRoom(TrainingFailed):
    """The temporary file for encoded rows does not fit."""

    code = "no_room"

    def __init__(self, folder: str, size: int, reason: str) -> None:
        super().__init__(
            f"the encoded rows take {size / 2**30:.2f} GiB, which {folder}, the worker's folder for temporary files, "
            f"does not have ({reason}). Set TMPDIR to one with room, or raise SELFNORM_RESIDENT_BYTES"
        )


class NoRoomForFiles(TrainingFailed):
    """Temporary files do not fit: those of a prediction, or those of a trained network."""

    code = "no_room"

    def __init__(self, what: str, folder: str, reason: str) -> None:
        super().__init__(
            f"{what} do not fit into {folder}, the worker's folder for temporary files ({reason}). "
            "Set TMPDIR to one with room"
        )


class UnusableSplit(TrainingFailed):
    """Rows that cannot be divided as the spec asks."""

    code = "unusable_split"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the split {problem}; choose another split, or other fractions")


class UnusableClassWeights(TrainingFailed):
    """Class weights that name a class which the target does not have."""

    code = "unusable_class_weights"

    def __init__(self, name: str, classes: Sequence[str]) -> None:
        self.name = name
        self.classes = tuple(classes)
        known = ", ".join(repr(known[:64]) for known in self.classes[:20])
        more = f" and {len(self.classes) - 20:,} more" if len(self.classes) > 20 else ""
        super().__init__(
            f"class_weights names {name[:64]!r}; the classes are {known}{more}. Name these, or leave it out"
        )


class UnusableSampleWeights(TrainingFailed):
    """Sample weights that say nothing about how much a row counts."""

    code = "unusable_sample_weights"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the sample weight column {problem}; mend these rows, or leave sample_weight_column out")


class UnusableState(TrainingFailed):
    """A saved state that does not belong to this training, or is damaged."""

    code = "unusable_state"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the saved state cannot be continued: {problem}; start the training anew")


class DatasetUnavailable(TrainingFailed):
    """The data cannot be read where the training runs."""

    code = "dataset_unavailable"
