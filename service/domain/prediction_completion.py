"""Fill in what a prediction leaves open, and check that its model can take the data set; pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from service.domain import dates
from service.domain.datasets import Column, Dataset
from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder
from service.domain.errors import InvalidSpec, Violation
from service.domain.models import ClassLabel, Inputs, ModelVersion, Outputs
from service.domain.predictions import MAX_KEPT, PredictionSpec
from service.domain.wording import listed, shown

MAX_RESULT_BYTES = 2**30
"""A larger result would keep the database busy for too long while it is stored."""
MAX_EVALUATION_BYTES = 2**30
"""What is held against the truth is in memory together."""
EVALUATED_ROW_BYTES, EVALUATED_CLASS_BYTES = 160, 24
"""What a row takes then, and each probability of it (measured)."""
ANSWER_BYTES = 8
PROBABILITY_BYTES = 4
MAX_LISTED = 20
HELD = {"number": "numbers", "boolean": "true and false", "text": "text"}
"""What cells are, by how their column is stored."""


@dataclass(frozen=True, slots=True)
class CompletedPrediction:
    """A spec with every default written out, and what its owner should know beforehand."""

    spec: PredictionSpec
    warnings: tuple[str, ...]


def complete_prediction(spec: PredictionSpec, version: ModelVersion, dataset: Dataset) -> CompletedPrediction:
    """Complete a spec for the version that it means.

    Raises:
        InvalidSpec: the data set does not fit the model, or the result would be too large; names every violation.
    """
    found = [*_column_violations(version, dataset), *_kept_violations(spec, dataset)]
    classes = version.outputs.classes
    if spec.probabilities and not classes:
        detail = f"must be false or null: {spec.model} version {version.version} is a regression"
        found.append(Violation("#/probabilities", detail))
    if dataset.rows == 0:
        found.append(Violation("#/dataset", f"{dataset.name} has no rows"))
    found += _target_violations(spec, version.outputs, dataset)
    probabilities = bool(classes) if spec.probabilities is None else spec.probabilities
    kept = dict.fromkeys((*spec.keep, *([] if spec.target is None else [spec.target])))
    defaults = {"version": version.version, "probabilities": probabilities, "keep": tuple(kept)}
    completed = spec.model_copy(update=defaults)
    if not found:
        found += _size_violations(completed, len(classes), dataset)
    if found:
        raise InvalidSpec(found[:MAX_LISTED])
    return CompletedPrediction(completed, (*_warnings(version.inputs, dataset), *_about_weights(completed, version)))


def _column_violations(version: ModelVersion, dataset: Dataset) -> list[Violation]:
    """Name the columns that are missing, and those whose cells the model cannot take."""
    columns = {column.name: column for column in dataset.columns}
    takes = f"{version.name} version {version.version} takes"
    found = []
    if missing := [name for name in version.inputs.features if name not in columns]:
        detail = f"{dataset.name} lacks {len(missing):,} column(s) that {takes}: {listed(missing, MAX_LISTED)}"
        found.append(Violation("#/dataset", detail))
    for encoder in version.inputs.encoders:
        column = columns.get(encoder.name)
        if column is not None and (problem := _misfit(encoder, column)):
            found.append(Violation("#/dataset", f"column {shown(column.name)} {problem}"))
    return found


def _misfit(encoder: Encoder, column: Column) -> str | None:
    """Say why no cell of a column can be taken, or None if they can; single cells are looked at later."""
    if column.unique == 0:
        return None if encoder.gaps else "has no cells at all, and training saw no gaps in it"
    match encoder:
        case CategoricalEncoder():
            return _holds_other(column, encoder.holds, f"categories that are {HELD[encoder.holds]}")
        case DateEncoder():
            return _holds_other(column, "text", "dates") or _other_dates(column, encoder.written)
        case BooleanEncoder() if column.stored == "boolean":
            return None
        case BooleanEncoder():
            return _holds_other(column, "number", HELD["boolean"]) or _other_numbers(column, encoder)
        case _:
            problem = _holds_other(column, "number", HELD["number"])
            advice = f"; upload the table again with ?kinds={column.name[:64]}:numeric"
            return f"{problem}{advice}" if problem and column.stored == "text" else problem


def _holds_other(column: Column, stored: str, taken: str) -> str | None:
    if column.stored == stored:
        return None
    return f"holds {HELD[column.stored]}; the model takes {taken}"


def _other_numbers(column: Column, encoder: BooleanEncoder) -> str | None:
    if encoder.missing_tokens or {column.min, column.max} <= {0, 1, None}:
        return None
    return f"holds numbers from {column.min} to {column.max}; the model takes true and false, or 0 and 1"


def _other_dates(column: Column, written: str) -> str | None:
    """Say that the dates of a column are written in another way; ISO 8601 is understood beside every way."""
    ways = "as 2020-01-31" + ("" if written == dates.ISO else f" or as in {written}")
    if column.date_format not in (None, dates.ISO, written):
        return f"holds dates written as in {column.date_format}; the model takes them {ways}"
    examples = [text for text in column.examples if isinstance(text, str)]
    if column.date_format is None and not any(dates.parse_one(text, written) for text in examples):
        return f"holds text that is no date, such as {listed(examples, 2)}; the model takes dates {ways}"
    return None


def _kept_violations(spec: PredictionSpec, dataset: Dataset) -> Iterator[Violation]:
    columns = {column.name for column in dataset.columns}
    seen: set[str] = set()
    for place, name in enumerate(spec.keep):
        if name not in columns:
            known = listed([column.name for column in dataset.columns], MAX_LISTED)
            detail = f"{shown(name)} is no column of {dataset.name}; its columns are {known}"
            yield Violation(f"#/keep/{place}", detail)
        elif name in seen:
            yield Violation(f"#/keep/{place}", f"{shown(name)} is listed twice")
        seen.add(name)
    if spec.target is not None and len({*spec.keep, spec.target}) > MAX_KEPT:
        yield Violation(
            "#/keep", f"names {len(spec.keep):,} columns; beside a target, at most {MAX_KEPT - 1:,} can be kept"
        )


def _target_violations(spec: PredictionSpec, outputs: Outputs, dataset: Dataset) -> Iterator[Violation]:
    """Say what keeps the answers from being held against the target."""
    if spec.target is None:
        return
    column = dataset.column(spec.target)
    if column is None:
        known = listed([column.name for column in dataset.columns], MAX_LISTED)
        yield Violation("#/target", f"{shown(spec.target)} is no column of {dataset.name}; its columns are {known}")
        return
    kinds = {_stored_as(label) for label in outputs.classes} or {"number"}
    if column.unique == 0:
        yield Violation("#/target", f"column {shown(column.name)} has no cells at all; there is no truth in it")
    elif column.stored not in kinds:
        answers = " and ".join(sorted(HELD[kind] for kind in kinds))
        detail = f"column {shown(column.name)} holds {HELD[column.stored]}; the model answers with {answers}"
        yield Violation("#/target", detail)
    if outputs.classes and spec.probabilities is False:
        detail = "must be true or null beside a target: how answers fit the truth is measured on the probabilities"
        yield Violation("#/probabilities", detail)
    most = MAX_EVALUATION_BYTES // (EVALUATED_ROW_BYTES + EVALUATED_CLASS_BYTES * len(outputs.classes))
    if dataset.rows > most:
        classes = f" of {len(outputs.classes):,} classes" if outputs.classes else ""
        detail = (
            f"{dataset.name} has {dataset.rows:,} rows; at most {most:,}{classes} can be held against the truth at once"
            ". Upload the table in parts, or predict without a target"
        )
        yield Violation("#/dataset", detail)


def _stored_as(label: ClassLabel) -> str:
    """Say how cells that hold such a class are stored."""
    if isinstance(label, bool):
        return "boolean"
    return "text" if isinstance(label, str) else "number"


def _about_weights(spec: PredictionSpec, version: ModelVersion) -> Iterator[str]:
    column = version.spec.get("training", {}).get("sample_weight_column")
    if spec.target is not None and column is not None:
        yield (
            f"{version.name} version {version.version} was trained, and its test part measured, with the weights in "
            f"column {shown(column)}; the evaluation counts every row the same"
        )


def _size_violations(spec: PredictionSpec, classes: int, dataset: Dataset) -> Iterator[Violation]:
    """Refuse a result that would be too large; texts that are kept take no more than the whole table does."""
    wanted = set(spec.keep) - {spec.target}
    kept = [column for column in dataset.columns if column.name in wanted]
    labels = 1 if spec.target is None else 2  # a class is written once, however often it is meant
    answers = dataset.rows * (labels * ANSWER_BYTES + (PROBABILITY_BYTES * classes if spec.probabilities else 0))
    numbers = dataset.rows * ANSWER_BYTES * sum(column.stored != "text" for column in kept)
    texts = dataset.size_bytes if any(column.stored == "text" for column in kept) else 0
    size = answers + numbers + texts
    if size > MAX_RESULT_BYTES:
        detail = (
            f"the result could take {size / 2**30:,.1f} GiB; at most {MAX_RESULT_BYTES / 2**30:,.1f} GiB are allowed. "
            "Keep fewer columns, leave the probabilities out, or upload the table in parts"
        )
        yield Violation("#/probabilities" if spec.probabilities and answers > numbers + texts else "#/keep", detail)


def _warnings(inputs: Inputs, dataset: Dataset) -> Iterator[str]:
    columns = {column.name: column for column in dataset.columns}
    for encoder in inputs.encoders:
        missing = columns[encoder.name].missing
        if missing and not encoder.gaps:
            yield (
                f"column {shown(encoder.name)}: {missing:,} cell(s) are missing, and training saw no gaps in it; "
                "these rows get no prediction"
            )
