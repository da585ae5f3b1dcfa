"""What a version takes and answers as named tensors, the same under every protocol that speaks of tensors."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from service.domain.models import ClassLabel, Inputs, ModelVersion, Outputs
from service.domain.wording import JSON_WORDS
from service.inference.rows import MAX_ROWS, RowReader
from service.use_cases.predict import MAX_PROBABILITIES
from service.use_cases.serving import Served

MATRIX = "x"
REGRESSION = "y"
PROBABILITIES = "probabilities"
LABEL = "label"
INT64 = range(-(2**63), 2**63)
COLUMN_TYPES = {"numeric": "FP32", "boolean": "BOOL", "categorical": "BYTES", "date": "BYTES"}
"""By the kind of a column, in the words of the Open Inference Protocol."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of shape (rows, width)."""

    name: str
    datatype: str
    width: int = 1
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors of a version."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    takes_matrix: bool
    """Whether the one input is the whole row, in the order of the columns; else every column is an input."""
    most_rows: int
    label_texts: tuple[str, ...]
    """The classes as text; none for a regression."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(tensor.name for tensor in self.inputs)


_signatures: WeakKeyDictionary[RowReader, Signature] = WeakKeyDictionary()


def signature_of(served: Served) -> Signature:
    """Return the tensors of a version; they are made once for as long as it is in memory."""
    signature = _signatures.get(served.reader)
    if signature is None:
        signature = _signatures[served.reader] = make_signature(served.version)
    return signature


def make_signature(version: ModelVersion) -> Signature:
    """Describe a version as tensors."""
    takes_matrix = all(encoder.kind == "numeric" for encoder in version.inputs.encoders)
    classes = version.outputs.classes
    return Signature(
        inputs=_matrix(version.inputs) if takes_matrix else _columns(version.inputs),
        outputs=_outputs(version.outputs),
        takes_matrix=takes_matrix,
        most_rows=min(MAX_ROWS, MAX_PROBABILITIES // max(len(classes), 1)),
        label_texts=tuple(map(label_text, classes)),
    )


def label_text(label: ClassLabel) -> str:
    """Return a class as text."""
    return JSON_WORDS[label] if isinstance(label, bool) else str(label)


def label_datatype(classes: tuple[ClassLabel, ...]) -> str:
    """Return the type of a tensor that holds classes."""
    kinds = set(map(type, classes))
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int} and all(label in INT64 for label in classes):
        return "INT64"
    return "FP64" if kinds <= {int, float} else "BYTES"


def _matrix(inputs: Inputs) -> tuple[Tensor, ...]:
    return (Tensor(MATRIX, "FP32", len(inputs.encoders)),)


def _columns(inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(encoder.name, COLUMN_TYPES[encoder.kind], is_optional=encoder.gaps) for encoder in inputs.encoders
    )


def _outputs(outputs: Outputs) -> tuple[Tensor, ...]:
    if outputs.task == "regression":
        return (Tensor(REGRESSION, "FP64"),)
    width = len(outputs.classes)
    return Tensor(PROBABILITIES, "FP32", width), Tensor(LABEL, label_datatype(outputs.classes))
