"""What pages load: style and scripts of this package, and D3; read once, never changed."""

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import distribution
from pathlib import Path

from fastapi import APIRouter, Header, HTTPException, Response

from service.api.gate.scopes import ScopedRoute, public

router = APIRouter(prefix="/dashboard/static", include_in_schema=False, route_class=ScopedRoute)

D3 = "d3.js"
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
"""An address holds the hash of all assets, so what lies at it never changes."""
ONCE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""While one version takes the place of another, a page may ask for its assets where the other one answers."""


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    media_type: str
    content: bytes
    compressed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Read every asset, by name."""
    files = {path.name: path for path in _files()}
    if D3 not in files:
        files[D3] = _d3()
    return {name: _read(files[name]) for name in sorted(files)}


@cache
def version() -> str:
    """Return the hash of all assets, the folder in their addresses."""
    digest = hashlib.sha256()
    for name, asset in assets().items():
        digest.update(name.encode() + b"\n" + asset.content)
    return digest.hexdigest()[:16]


def address(name: str) -> str:
    """Return where an asset lies.

    Raises:
        KeyError: there is none of this name.
    """
    assets()[name]
    return f"/dashboard/static/{version()}/{name}"


@router.get("/{folder}/{name}")
@public
def asset(folder: str, name: str, accept_encoding: str = Header("")) -> Response:
    """Send an asset; under the hash of another version this one's, for that is better than none."""
    found = assets().get(name)
    if found is None:
        raise HTTPException(404)
    kept = FOR_EVER if folder == version() else ONCE
    is_compressed = "gzip" in accept_encoding
    headers = {**kept, "Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if is_compressed else {})
    return Response(found.compressed if is_compressed else found.content, 200, headers, found.media_type)


def _files() -> Iterator[Path]:
    with resources.as_file(resources.files("service.api.dashboard") / "static") as folder:
        yield from folder.iterdir()


def _d3() -> Path:
    # A built package holds it (setup.py), a checkout does not. Importing mpld3 would import Matplotlib.
    return Path(str(distribution("mpld3").locate_file("mpld3/js/d3.v5.min.js")))


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0] or "text/plain"
    return Asset(media_type, content, gzip.compress(content, mtime=0))
