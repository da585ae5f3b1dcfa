"""Counts by name, some of them within objects: sums and differences."""

from typing import Any


def add(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Add counts to counts, those within objects by their names."""
    total = dict(one)
    for name, count in other.items():
        before = total.get(name)
        if isinstance(count, dict):
            total[name] = add(before or {}, count)
        else:
            total[name] = (before or 0) + count
    return total


def subtract(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Take counts from counts, as ``add`` adds them; what is not in ``other`` stays."""
    return add(one, _negated(other))


def _negated(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: _negated(count) if isinstance(count, dict) else -count for name, count in counts.items()}
