"""What the API answers, for tests that answer in its place."""

from typing import Any

EMPTY_DATASET: dict[str, Any] = {
    "id": "1",
    "name": "table",
    "rows": 1,
    "columns": [],
    "source": {},
    "duplicate_rows": 0,
    "related": [],
    "warnings": [],
    "sha256": None,
    "size_bytes": 0,
    "builtin": False,
    "created_at": "2026-01-01T00:00:00Z",
}
"""A data set as the API shows it, for servers made by hand."""
