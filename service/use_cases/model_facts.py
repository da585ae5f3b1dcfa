"""All that is known of a version: what is stored with it, and what is stored elsewhere about it."""

import zlib
from contextlib import suppress
from dataclasses import dataclass

from service.domain.errors import CorruptBlob, UnknownDataset, UnknownJob
from service.domain.jobs import PART_CODES
from service.domain.models import ModelVersion
from service.storage import aliases, datasets, jobs, models
from service.storage.database import Connection, Database
from service.use_cases.model_files import ModelFile, list_files


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A version, and everything around it."""

    version: ModelVersion
    aliases: list[str]
    files: list[ModelFile]
    rows: int | None
    """Rows of its data set; None where it has been deleted."""
    parts: dict[str, int] | None
    """How many of them went to which part; None where the job has been deleted."""


def read_facts(database: Database, name: str, version: int) -> VersionFacts:
    """Read all that is known of a version.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
    """
    with database.read() as connection:
        found = models.get_version(connection, name, version)
        return VersionFacts(
            version=found,
            aliases=aliases.names(connection, name, version),
            files=list_files(connection, found),
            rows=_rows(connection, found),
            parts=_parts(connection, found.job_id),
        )


def _rows(connection: Connection, version: ModelVersion) -> int | None:
    with suppress(UnknownDataset):
        return datasets.get(connection, version.spec["dataset"]).rows
    return None


def _parts(connection: Connection, job_id: str) -> dict[str, int] | None:
    # A damaged split says nothing about the model; the doctor names it.
    with suppress(UnknownJob, CorruptBlob):
        if (content := jobs.split(connection, job_id)) is not None:
            parts = zlib.decompress(content)
            return {name: parts.count(code) for name, code in PART_CODES.items()}
    return None
