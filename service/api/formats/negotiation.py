"""Which format a body has, and which one its client wants back: what the headers say, and nothing of the formats."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from http import HTTPStatus

from fastapi import HTTPException

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
NPY = "application/x-npy"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
FORMATS = (JSON, ARROW, NPY, CSV, NDJSON)
"""Where a client likes several equally well, the first of them is taken."""
ALIASES = {"application/ndjson": NDJSON, "application/jsonl": NDJSON, "application/x-jsonlines": NDJSON}
UTF8 = ("utf-8", "utf8", "us-ascii")

_RANGE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type in lower case, with its parameters; empty where a header has none."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_header_line(self) -> bool:
        """Whether CSV of this type begins with the names of its columns, as RFC 4180 lets it say."""
        return self.parameters.get("header", "").lower() != "absent"


def body_type(header: str | None) -> MediaType:
    """Return the format of a body by its Content-Type.

    Raises:
        HTTPException: it is none of those that /predict takes, or text in another encoding than UTF-8.
    """
    found = _parsed(header or "")
    name = ALIASES.get(found.name, found.name)
    if name not in FORMATS:
        got = found.name[:64] or "no Content-Type"
        detail = f"the body must be one of {', '.join(FORMATS)}; got {got}. Send the header Content-Type"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    charset = found.parameters.get("charset", "utf-8").lower()
    if name in (CSV, NDJSON) and charset not in UTF8:
        detail = f"text must be UTF-8; got charset={charset[:64]}. Send it as UTF-8"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    return MediaType(name, found.parameters)


def check_encoding(header: str | None) -> None:
    """Refuse a compressed body, which could hold a thousand times what it weighs.

    Raises:
        HTTPException: there is a Content-Encoding.
    """
    encoding = (header or "identity").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"the rows must come as they are; got Content-Encoding: {encoding[:64]}. Send them uncompressed"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"Accept-Encoding": "identity"})


@lru_cache(256)
def answer_type(accept: str | None, formats: tuple[str, ...] = FORMATS) -> MediaType:
    """Return the format that a client likes best by its Accept header: the first of them where it does not care.

    The most specific range that fits a format says how much it is liked. Of formats that are liked equally, the one
    that is named more precisely wins, then the one that is named first.

    Raises:
        HTTPException: none of them is acceptable to it.
    """
    if not accept or accept == "*/*":
        return MediaType(formats[0])
    ranges = [_parsed(text) for text in _RANGE.findall(accept)]
    liked = []
    for place, name in enumerate(formats):
        fits = [(_precision(one, name), -at, one) for at, one in enumerate(ranges) if _precision(one, name)]
        if not fits:
            continue
        precision, at, best = max(fits, key=lambda fit: fit[:2])
        if quality := _quality(best):
            liked.append((quality, precision, at, -place, MediaType(name, best.parameters)))
    if not liked:
        detail = f"none of what is accepted can be given; there is {', '.join(formats)}. Accept one of them, or */*"
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, detail)
    return max(liked, key=lambda choice: choice[:4])[-1]


def _parsed(text: str) -> MediaType:
    message = Message()
    message["content-type"] = " ".join(text.split())
    name, *rest = message.get_params() or [("", "")]
    # A value with a charset of its own, as in header*=utf-8''absent, comes as three parts.
    texts = {key.lower(): value if isinstance(value, str) else value[-1] for key, value in rest}
    return MediaType(name[0].strip().lower(), texts)


def _precision(wanted: MediaType, name: str) -> int:
    """Return how precisely a range names a format: 0 where it does not."""
    if wanted.name == name:
        return 3
    if wanted.name == f"{name.partition('/')[0]}/*":
        return 2
    return 1 if wanted.name == "*/*" else 0


def _quality(wanted: MediaType) -> float:
    """Return how much a range is liked, 0 to 1; one that cannot be read is not."""
    text = wanted.parameters.get("q", "1").strip()
    return float(text) if _QUALITY.fullmatch(text) else 0.0
