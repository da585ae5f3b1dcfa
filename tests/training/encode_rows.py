"""Encodes rows by what ``encoder.json`` says and nothing else: what a reader in another language would write.

Run as a program: encode_rows.py ENCODER ROWS RESULT, all of them JSON.
"""

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Values = dict[str, Any]


def is_missing(feature: Values, cell: Any) -> bool:
    words = feature["missing_tokens"]
    if isinstance(cell, str):
        return cell.strip() in ("", *words)
    numbers = [float(word) for word in words if word.lstrip("+-").replace(".", "", 1).isdigit()]
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool) and cell in numbers)


def number(cell: float, transform: Values | None) -> float:
    if transform is None:
        return float(cell)
    if transform["kind"] == "robust":
        s = (cell - transform["center"]) / transform["scale"]
        return float(s / math.sqrt(1 + (s / 3) ** 2))
    xs: list[float] = transform["values"]
    ys: list[float] = transform["normal"]
    if cell <= xs[0] or cell >= xs[-1]:
        return ys[0] if cell <= xs[0] else ys[-1]
    k = max(place for place, x in enumerate(xs) if x <= cell)
    return ys[k] + (ys[k + 1] - ys[k]) * (cell - xs[k]) / (xs[k + 1] - xs[k])


def date(cell: str, feature: Values) -> list[float]:
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        moment = datetime.strptime(cell.strip(), feature["written"])
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    days = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86400
    around = [(moment.month - 1) / 12, moment.weekday() / 7, days % 1]
    month, week, hour = ([round(f(2 * math.pi * part), 12) for f in (math.sin, math.cos)] for part in around)
    return [days, moment.year, *month, moment.day, *week, *(hour if feature["has_time"] else [])]


def encode(feature: Values, cell: Any) -> list[float]:
    gap, kind = is_missing(feature, cell), feature["kind"]
    if kind == "categorical":
        found = [float(not gap and cell == category) for category in feature["categories"]]
        encoded = found + [float(not gap and 1.0 not in found)] * feature["other"]
    elif kind == "date":
        width = len(feature["columns"]) - feature["gaps"]
        encoded = (feature["fill"] or [0.0] * width) if gap else date(cell, feature)
    elif kind == "boolean":
        encoded = [feature["fill"] if gap else float(cell)]
    else:
        encoded = [feature["fill"] if gap else number(cell, feature["transform"])]
    return [*encoded, float(gap)] if feature["gaps"] else list(encoded)


if __name__ == "__main__":
    document, rows = (json.loads(Path(path).read_text()) for path in sys.argv[1:3])
    encoded = [
        [value for feature in document["features"] for value in encode(feature, row.get(feature["name"]))]
        for row in rows
    ]
    Path(sys.argv[3]).write_text(json.dumps(encoded))
