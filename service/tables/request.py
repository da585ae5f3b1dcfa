"""What an upload is asked to be read as."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.datasets import ColumnKind
from service.domain.table_formats import TableFormat


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The format of a file, and what its owner knows about it."""

    format: TableFormat
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)
    """What columns are to be taken for, by name; others are guessed."""
    missing: tuple[str, ...] | None = None
    """Words that stand for a missing cell, beside the empty one; None: the usual ones in text files, none in others."""
