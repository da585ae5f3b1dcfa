"""Saves answers as files: whole under their name, or not at all."""

import os
import tempfile
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
    handle, beside = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    os.close(handle)
    try:
        yield from Call(replace(exchange, into=Path(beside)), answers.nothing)
        yield from Work(lambda: _put(Path(beside), target))
    finally:
        Path(beside).unlink(missing_ok=True)
    return target


def _put(beside: Path, target: Path) -> None:
    # A temporary file is its owner's alone; this one gets the rights of any other new file.
    mask = os.umask(0)
    os.umask(mask)
    beside.chmod(0o666 & ~mask)
    beside.replace(target)
