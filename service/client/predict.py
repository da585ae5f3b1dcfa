"""Answers to rows: what a model says of each, as NumPy arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from service.client import answers
from service.client.errors import ApiError
from service.client.requests import encoded, given
from service.client.rows import ARROW, JSON, Rows, rows_of
from service.client.steps import Call, Exchange, Steps, Work

if TYPE_CHECKING:
    import httpx2
    from numpy.typing import NDArray

    from service.api.views.predict import ExplanationsView, UncertaintyView
    from service.domain.models import ClassLabel

PROBABILITY = "probability: "
"""What the names of columns of probabilities begin with; the class follows."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of rows, in their order."""

    model: str
    version: int
    predictions: NDArray[Any]
    """A number a row in the target's units, float64; for a classification the label of the likeliest class."""
    classes: list[ClassLabel] | None
    """Null for a regression, as are the probabilities."""
    probabilities: NDArray[Any] | None
    """float32 (rows, classes), in the order of the classes."""
    warnings: list[str]
    """What is odd about the rows, such as values far from those that the model was trained on."""
    uncertainty: UncertaintyView | None = None
    """How sure the network is, where that was asked."""
    explanations: ExplanationsView | None = None
    """What each feature contributes, where that was asked."""

    def __len__(self) -> int:
        return len(self.predictions)

    def to_pandas(self) -> Any:
        """Return a DataFrame with the column ``prediction`` and, for classes, ``probability: CLASS`` each."""
        import pandas as pd

        return pd.DataFrame(self._columns())

    def to_polars(self) -> Any:
        """Return a polars DataFrame with the same columns."""
        import polars as pl

        return pl.DataFrame(self._columns())

    def _columns(self) -> dict[str, NDArray[Any]]:
        columns = {"prediction": self.predictions}
        if self.probabilities is not None:
            names = [f"{PROBABILITY}{_said(label)}" for label in self.classes or ()]
            columns |= dict(zip(names, self.probabilities.T, strict=True))
        return columns


def predict(
    model: str,
    rows: Any,
    *,
    version: int | None = None,
    alias: str | None = None,
    uncertainty: bool | int | Mapping[str, int] | None = None,
    explain: bool = False,
) -> Steps[Prediction]:
    """Ask a model about raw rows: lists in the order of its columns, dicts by column name, a frame or an array.

    Without ``version`` or ``alias`` the default version answers. NaN, None, NaT and NA are missing cells; a pandas
    index is left out. ``uncertainty`` is True, a number of samples, or ``{"samples": 100, "seed": 0}``; it and
    ``explain`` are for few rows. More rows than the service takes at once are sent in parts, all to the version that
    answered first.
    """
    is_insight = (uncertainty is not None and uncertainty is not False) or explain
    found = yield from Work(lambda: rows_of(rows, as_json=is_insight))
    asked = given(model=model, version=version, alias=alias)
    if is_insight:
        more = given(uncertainty=_uncertainty(uncertainty), explain=explain or None)
        return (yield from _asked(found, asked | more, 0, found.count))
    parts: dict[int, Prediction] = {}
    start = 0
    while start < found.count or not parts:
        stop = min(found.stop(start), found.count)
        try:
            parts[start] = yield from _asked(found, asked, start, stop)
        except ApiError as error:
            if start:
                error.add_note(f"this is about the part of the rows that begins at row {start:,}")
            raise
        asked, start = {"model": model, "version": parts[0].version}, stop
    return parts[0] if len(parts) == 1 else _joined(parts)


def _asked(rows: Rows, asked: Mapping[str, Any], start: int, stop: int) -> Steps[Prediction]:
    body = yield from Work(lambda: rows.part(start, stop))
    if rows.media_type == JSON:
        content = b'%b, "instances": %b}' % (encoded(asked, has_gaps=False)[:-1], body)
        return (yield from Call(Exchange("POST", "/predict", {}, {"Content-Type": JSON}, content), _read_json))
    headers = {"Content-Type": rows.media_type, "Accept": ARROW}
    answer = yield from Call(Exchange("POST", "/predict", asked, headers, body), lambda answer: answer)
    return (yield from Work(lambda: _read_arrow(answer)))


def _uncertainty(asked: bool | int | Mapping[str, int] | None) -> Mapping[str, int] | None:
    if asked is None or asked is False:
        return None
    if asked is True:
        return {}
    return {"samples": asked} if isinstance(asked, int) else asked


def _read_json(answer: httpx2.Response) -> Prediction:
    import numpy as np

    from service.api.views.predict import PredictionView

    found = answers.view(PredictionView)(answer)
    probabilities = None if found.probabilities is None else np.asarray(found.probabilities, np.float32)
    return Prediction(
        found.model,
        found.version,
        np.asarray(found.predictions) if found.classes else np.asarray(found.predictions, np.float64),
        found.classes,
        probabilities,
        found.warnings or [],
        found.uncertainty,
        found.explanations,
    )


def _read_arrow(answer: httpx2.Response) -> Prediction:
    import numpy as np
    import pyarrow as pa

    if answer.headers.get("content-type") != ARROW:
        raise answers.unexpected(answer, f"the type {answer.headers.get('content-type')} in place of {ARROW}")
    with pa.ipc.open_stream(answer.content) as stream:
        table = stream.read_all()
    about = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    first, *columns = (column.to_numpy() for column in table.columns)
    kind = table.schema.field(0).type
    names = [name.removeprefix(PROBABILITY) for name in table.column_names[1:]]
    return Prediction(
        about["model"],
        int(about["version"]),
        first.astype(str) if first.dtype.kind == "O" else first,
        [_label(name, kind) for name in names] if columns else None,
        np.column_stack(columns) if columns else None,
        json.loads(about["warnings"]),
    )


def _label(text: str, kind: Any) -> ClassLabel:
    """Return a class from its text, as the type of the predictions says."""
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return text == "true"
    if pa.types.is_integer(kind):
        return int(text)
    return float(text) if pa.types.is_floating(kind) else text


def _said(label: ClassLabel) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


def _joined(parts: Mapping[int, Prediction]) -> Prediction:
    """Put the answers to parts together, by their beginnings, from which the rows in a part's warnings count."""
    import numpy as np

    said = [
        f"in the rows from {start:,} on: {warning}" if start else warning
        for start, part in parts.items()
        for warning in part.warnings
    ]
    shares = [part.probabilities for part in parts.values() if part.probabilities is not None]
    return replace(
        parts[0],
        predictions=np.concatenate([part.predictions for part in parts.values()]),
        probabilities=np.concatenate(shares) if shares else None,
        warnings=said,
    )
