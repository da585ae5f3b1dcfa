"""Saves answers as files: whole under their name, or not at all."""

import os
import uuid
from dataclasses import replace
from pathlib import Path

from service.client import answers
from service.client.steps import Call, Exchange, Steps, Work


def downloaded(exchange: Exchange, path: Path, name: str) -> Steps[Path]:
    """Save what a request answers and return where; ``name`` is what it is called within a folder.

    Raises:
        OSError: it cannot be written there.
    """
    target = path / name if path.is_dir() else path
    if target.exists() and not target.is_file():
        # Taking its place would remove a device or a pipe, which whoever is root may do.
        raise FileExistsError(f"{target} is there and is no regular file; say where else to save it")
    # Beside its place, so that it can take it at once: who looks there finds all of the file, or what was there before.
    beside = target.parent / f".{target.name[:100]}.{uuid.uuid4().hex}"
    # It gets the rights of any other new file, which a temporary one of the standard library has not.
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield from Call(replace(exchange, into=beside), answers.nothing)
        yield from Work(lambda: beside.replace(target))
    finally:
        beside.unlink(missing_ok=True)
    return target
