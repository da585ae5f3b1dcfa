"""The model card: what is known of a version, for people to read (Mitchell et al. 2019), as Markdown."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC
from itertools import accumulate
from typing import Any

from service.domain.encoders import BooleanEncoder, CategoricalEncoder, DateEncoder, Encoder, Quantile, Robust
from service.domain.models import ClassLabel, ModelVersion
from service.use_cases.model_facts import VersionFacts

MAX_COLUMNS = 50
"""More columns are not written out."""
MAX_CATEGORIES = 12
KEPT_OUT = "left_out"


def write_card(facts: VersionFacts, address: str) -> str:
    """Return the card of a version; ``address`` is where the service answers, without a slash at the end."""
    sections = (_head(facts), _data(facts), _training(facts), _quality(facts), _inputs(facts), _limits(facts))
    lines = [line for section in (*sections, _use(facts, address)) for line in (*section, "")]
    return "\n".join(lines)


def _head(facts: VersionFacts) -> Iterator[str]:
    version = facts.version
    outputs = version.outputs
    yield f"# {_text(version.name)}, version {version.version}"
    yield ""
    columns = _count(len(version.inputs.encoders), "column")
    if outputs.task == "classification":
        classes = _some(outputs.classes)
        yield f"Names the class of **{_text(outputs.target)}** that a row belongs to, from {columns}: {classes}."
    else:
        yield f"Predicts the number **{_text(outputs.target)}** from {columns}."
    yield ""
    standing = f", known as {', '.join(f'`{alias}`' for alias in facts.aliases)}" if facts.aliases else ""
    yield f"Registered {version.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC by job `{version.job_id}`{standing}."


def _data(facts: VersionFacts) -> Iterator[str]:
    version = facts.version
    yield "## Data"
    yield ""
    rows = "rows unknown, for it has been deleted" if facts.rows is None else _count(facts.rows, "row")
    yield f"* Data set `{_text(version.spec['dataset'])}`: {rows}"
    if version.data_sha256 is not None:
        yield f"* SHA-256 of its table: `{version.data_sha256}`"
    if facts.parts is not None:
        named = [
            f"{count:,} {name.replace('_', ' ')}" for name, count in facts.parts.items() if count or name != KEPT_OUT
        ]
        yield f"* Rows by part: {', '.join(named)}"


def _training(facts: VersionFacts) -> Iterator[str]:
    version = facts.version
    network, training = version.spec.get("network", {}), version.spec.get("training", {})
    yield "## Training"
    yield ""
    yield f"* Network: {_settings(network)}; {version.parameters:,} parameters"
    yield f"* Training: {_settings(training)}"
    yield f"* Seed {training.get('seed', 0)}, of the split and of everything else that is random"
    yield f"* Environment: {_settings(version.environment)}"


def _quality(facts: VersionFacts) -> Iterator[str]:
    metrics = facts.version.metrics
    yield "## How good it is"
    yield ""
    best, test = metrics.get("best") or {}, metrics.get("test") or {}
    if test:
        yield f"* On the test part, which training never saw: {_settings(test)}"
    else:
        yield "* There was no test part, so nothing but the rows that chose the best epoch says how good it is"
    yield f"* In the best epoch, {best.get('epoch', '?')}: {_settings({k: v for k, v in best.items() if k != 'epoch'})}"
    yield f"* The served form and the Keras file differ from the trained network by at most {_parity(facts.version)}"
    if facts.version.verdict is not None:
        yield f"* Self-normalization: {facts.version.verdict['status']}. {facts.version.verdict['detail']}"
    if facts.version.calibration is None:
        return
    yield ""
    yield from _calibration(facts.version)


def _calibration(version: ModelVersion) -> Iterator[str]:
    measured: dict[str, Any] = dict(version.calibration or {})
    rows = _count(measured["rows"], "row")
    part = "of the test part" if measured["part"] == "test" else "of the validation part, which chose the best epoch"
    yield f"Calibration on {rows} {part}:"
    yield ""
    if "bins" not in measured:
        yield f"* A prediction is off by {_number(measured['mean_residual'])} on average (truth minus prediction),"
        yield f"  with a standard deviation of {_number(measured['residual_std'])}"
        one, two = (_share(measured[name]) for name in ("within_one_std", "within_two_std"))
        yield f"* {one} of the rows lie within one such deviation of their prediction, {two} within two;"
        yield "  68 % and 95 % do where errors are normal"
        far = [
            f"{_share(item['share'])} by at most {_number(item['at_most'])}" for item in measured["absolute_residual"]
        ]
        yield f"* Predictions are off: {', '.join(far)}"
        return
    error = _number(measured["expected_calibration_error"])
    yield f"* Expected calibration error {error}: how far the answer's probability is from how often it is right"
    yield f"* Brier score {_number(measured['brier'])} (0 best, 2 worst), log loss {_number(measured['log_loss'])}"
    yield ""
    yield "| probability of the answer | rows | mean | right |"
    yield "| --- | --- | --- | --- |"
    for row in measured["bins"]:
        if row["rows"]:
            span = f"{row['above']:.2f} to {row['to']:.2f}"
            yield f"| {span} | {row['rows']:,} | {_number(row['confidence'])} | {_number(row['accuracy'])} |"


def _inputs(facts: VersionFacts) -> Iterator[str]:
    encoders = facts.version.inputs.encoders
    yield "## Inputs"
    yield ""
    yield "| column | kind | may be missing | values |"
    yield "| --- | --- | --- | --- |"
    for encoder in encoders[:MAX_COLUMNS]:
        gaps = "yes" if encoder.gaps else "no"
        yield f"| {_text(encoder.name)} | {encoder.kind} | {gaps} | {_values(encoder)} |"
    if len(encoders) > MAX_COLUMNS:
        yield ""
        yield f"And {_count(len(encoders) - MAX_COLUMNS, 'more column')}; `encoder.json` names all."


def _limits(facts: VersionFacts) -> Iterator[str]:
    version = facts.version
    yield "## Limits"
    yield ""
    yield "* It knows the rows that it was trained on. Rows far from them get an answer that nothing supports."
    if any(isinstance(encoder, CategoricalEncoder) for encoder in version.inputs.encoders):
        yield "* A category that training did not see is taken as the rare ones are, or as none; the answer says so."
    if version.metrics.get("test") is None:
        yield "* It was not measured on rows that had no part in its training."
    for warning in version.warnings:
        yield f"* {_text(warning)}"


def _use(facts: VersionFacts, address: str) -> Iterator[str]:
    version = facts.version
    yield "## Use"
    yield ""
    where = f"{address}/models/{version.name}/versions/{version.version}"
    if len(version.inputs.encoders) <= MAX_COLUMNS:
        body = {"model": version.name, "version": version.version, "instances": [example_row(version)]}
        yield "```sh"
        yield f"curl -s {shlex.quote(f'{address}/predict')} -H 'Content-Type: application/json' \\"
        yield f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        yield "```"
        yield ""
    yield "| file | bytes | SHA-256 |"
    yield "| --- | --- | --- |"
    for file in facts.files:
        yield f"| [{file.name}]({where}/files/{file.name}) | {file.size_bytes:,} | `{file.sha256}` |"


def example_row(version: ModelVersion) -> dict[str, Any]:
    """Return a row that the model takes: what stands for the middle of every column."""
    encoders = version.inputs.encoders
    starts = accumulate((len(encoder.columns) for encoder in encoders[:-1]), initial=0)
    return {
        encoder.name: _middle(encoder, version.inputs.mean[start])
        for encoder, start in zip(encoders, starts, strict=True)
    }


def _middle(encoder: Encoder, mean: float) -> Any:
    match encoder:
        case CategoricalEncoder():
            return next(iter((*encoder.categories, *encoder.rare)), None)
        case BooleanEncoder():
            return mean >= 0.5
        case DateEncoder():
            return "2020-01-31T12:00" if encoder.has_time else "2020-01-31"
    if isinstance(encoder.transform, Robust):
        mean = encoder.transform.center
    elif isinstance(encoder.transform, Quantile):
        mean = encoder.transform.values[len(encoder.transform.values) // 2]
    return float(f"{mean:.4g}")


def _values(encoder: Encoder) -> str:
    match encoder:
        case CategoricalEncoder():
            others = " or any other" if encoder.other else ""
            return f"{_some(encoder.categories)}{others}"
        case BooleanEncoder():
            return "true, false"
        case DateEncoder():
            return "ISO 8601" if encoder.written == "iso" else f"`{encoder.written}` or ISO 8601"
    return "any number" if encoder.transform is None else f"any number, {encoder.transform.kind} scaling"


def _parity(version: ModelVersion) -> str:
    far = max((value for name, value in version.parity.items() if name.endswith("max_difference")), default=0.0)
    unit = "" if version.outputs.task == "classification" else " standard deviations of the target"
    return f"{far:.1e}{unit}"


def _settings(values: dict[str, Any]) -> str:
    """Write fields side by side, without those that are not set."""
    given = ((name, value) for name, value in values.items() if value is not None and value not in ("", {}, []))
    return ", ".join(f"{name.replace('_', ' ')} {_setting(value)}" for name, value in given)


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_settings(value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    return _text(value)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.3g} %"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _some(labels: Sequence[ClassLabel]) -> str:
    rest = len(labels) - MAX_CATEGORIES
    words = (f'"{_text(label)}"' if "," in str(label) else _text(label) for label in labels[:MAX_CATEGORIES])
    return ", ".join(words) + (f" and {rest:,} more" if rest > 0 else "")


def _text(value: Any) -> str:
    """Write what a user named so that Markdown shows it as it is, on one line."""
    shown = json.dumps(value) if isinstance(value, bool) else str(value)
    shown = "".join(letter if letter.isprintable() else " " for letter in shown)
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", shown)
