"""Which figures of a training are shown first, and what people call them."""

from collections.abc import Mapping
from typing import Any

NAMES = {"accuracy": "accuracy", "f1": "F1", "auc": "AUC", "r2": "R²", "rmse": "RMSE", "mae": "MAE", "loss": "loss"}
MOST = 2


def headline(best: Mapping[str, Any] | None, test: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """Return the two figures that say most, by name: of the test part, else of validation rows, else of training."""
    known = best or {}
    parts = (
        ("test", test or {}),
        ("validation", {name.removeprefix("val_"): value for name, value in known.items() if name.startswith("val_")}),
        ("training", known),
    )
    for part, values in parts:
        if found := [(f"{part} {said}", values[name]) for name, said in NAMES.items() if name in values]:
            return found[:MOST]
    return []
