"""Cells that come as text, from CSV or as BYTES, as the JSON values that a column's encoder takes."""

from collections.abc import Sequence

from service.domain.encoders import Encoder

WORDS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
Cell = str | int | float | bool | None


def read_cells(encoder: Encoder, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a column; a text that is none of its values stays, for its reader to say so."""
    if encoder.kind == "date" or (encoder.kind == "categorical" and encoder.holds == "text"):
        return list(cells)
    is_boolean = encoder.kind == "boolean" or (encoder.kind == "categorical" and encoder.holds == "boolean")
    read = _boolean if is_boolean else _number
    return [read(cell) if isinstance(cell, str) else cell for cell in cells]


def _boolean(text: str) -> Cell:
    return WORDS.get(text.strip().lower(), text)


def _number(text: str) -> Cell:
    if "_" in text:  # Python reads 1_000 as a number
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return None if number != number else number  # what is written as NaN is a gap
