"""Log lines: one JSON object each, or text for people, from whatever is logged; none of them holds a secret.

Modules log as ever, with ``logging.getLogger(__name__)``; roots call ``set_up``. What is asked for from outside cannot
make a second line, and what lines say of the request or the job that they belong to comes by itself.
"""

import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

Format = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]

REQUEST: ContextVar[dict[str, Any] | None] = ContextVar("request", default=None)
"""The state of the request that is being served here; lines say what stands in it under ``OF_A_REQUEST``."""
TALKERS = ("httpx2", "httpcore2", "urllib3")
"""They would tell every address that this service asks, and somebody's secret may stand in one."""
OF_A_REQUEST = ("request_id", "client_request_id", "trace_id", "owner", "key_id")
MOST_CHARACTERS = 16_384
"""A longer text is cut; somebody may have sent it."""
MOST_DEPTH = 5

HIDDEN = "***"
_NAMED = (
    r"authorization|cookie|passwd|passw(?:or)?d|passphrase|secret|token|credential|(?<=[_-])signature|\bsig\b"
    # Only so is a word of prose, and of programs, told from the variable of an environment.
    r"|(?:api|access|private|encryption)[_-]?key|(?-i:(?<=[A-Z0-9])_KEY\b)"
)
SECRET_NAMES = re.compile(_NAMED, re.IGNORECASE)
SECRETS = (
    # First what stands in an address, for a password there may look like anything.
    (re.compile(r"(?<=://)([^\s/?#@:'\"]*):[^\s@'\"]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"(?<=://)[^\s/?#@:'\"]+@"), f"{HIDDEN}@"),
    (re.compile(r"\bsn_[A-Za-z0-9_.\-]+"), f"sn_{HIDDEN}"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_\-]+"), f"whsec_{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # A header, a parameter or a field of JSON, also as Python shows it; what stands before the word may be anything.
    (
        re.compile(
            rf"({_NAMED}|\bpwd)((?:[_-][\w-]{{0,20}})?(?:['\"]?\s?[:=]\s?b?['\"]?|['\"]\s?,\s?b?['\"]))"
            rf"[^\s'\"&,;][^'\"\r\n&]*",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    # What Redis and SQL are told.
    (re.compile(r"\b(requirepass|masterauth)([\s'\",]{1,4})[^\s'\"]+", re.IGNORECASE), rf"\1\2{HIDDEN}"),
    (re.compile(r"\b(password|identified by)(\s+e?')[^'\r\n]*", re.IGNORECASE), rf"\1\2{HIDDEN}"),
)
SUSPECT = (
    "://",
    "sn_",
    "whsec_",
    "bearer",
    "basic",
    "authorization",
    "cookie",
    "credential",
    "identified",
    "masterauth",
    "pass",
    "pwd",
    "secret",
    "sig",
    "token",
    "key",
)
"""Only a text with one of these is looked through, which takes longer than all the rest of a line."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
OF_OTHERS = frozenset({"color_message", "data"})
"""What uvicorn and Celery give with their lines, which say the same."""

logger = logging.getLogger(__name__)

_about: dict[str, Any] = {}


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Let every line of this process say what it works on meanwhile, whichever thread writes it."""
    _about.update(fields)
    try:
        yield
    finally:
        for name in fields:
            _about.pop(name, None)


def set_up(process: str, log_format: Format = "auto", level: Level = "info") -> None:
    """Write what this process logs to the standard error, and what would end it too.

    ``process`` says which one it is, in every line. ``auto`` is text where a terminal shows it, else JSON.
    """
    is_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = _Lines(sys.stderr.fileno())
    handler.setFormatter(TextLines() if is_text else JsonLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in TALKERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    sys.excepthook = _on_exception
    threading.excepthook = _on_thread_exception


def announce(speaker: logging.Logger, text: str) -> None:
    """Write a line at every level: somebody waits for it."""
    speaker.handle(speaker.makeRecord(speaker.name, logging.INFO, "", 0, text, (), None))


class _Lines(logging.Handler):
    """Writes each line at once, in one piece: several processes may write to the same file or pipe."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            rest = memoryview(f"{self.format(record)}\n".encode(errors="backslashreplace"))
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # nobody reads any more, or the disk is full: what runs goes on all the same
            pass
        except Exception:  # noqa: BLE001  # as logging does: a mistake in a line must not end what it tells of
            self.handleError(record)


class JsonLines(logging.Formatter):
    """Makes a JSON object of a record."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": clean(_message(record)),
            "process": self._process,
            "pid": record.process,
        }
        line |= {name: value for name, value in _fields(record).items() if name not in line}
        if told := _trouble(self, record):
            line["exception"] = clean(told)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """Makes text of a record, for people; only a traceback takes several lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text."""
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        event = _shown(clean(_message(record)))
        text = f"{self.formatTime(record)} {record.levelname} {record.name}: {event}{fields}"
        told = _trouble(self, record)
        return f"{text}\n{CONTROL.sub(_escape_but_line_ends, clean(told))}" if told else text


def clean(text: str) -> str:
    """Return a text without the secrets that it holds, and not longer than a line should be."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}... ({len(text):,} characters)"
    lower = text.lower()
    if any(word in lower for word in SUSPECT):
        for pattern, instead in SECRETS:
            text = pattern.sub(instead, text)
    return text


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return SECRET_NAMES.search(name) is not None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # of another package, whose text does not take its own values
        return f"{record.msg} {record.args}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line says besides: of its request, of what the process works on, and of its own."""
    state = REQUEST.get() or {}
    found = {name: state[name] for name in OF_A_REQUEST if state.get(name) is not None}
    own = {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD | OF_OTHERS}
    return {name: _plain(name, value) for name, value in {**_about, **found, **own}.items()}


def _plain(name: str, value: Any, depth: int = 0) -> Any:
    """Return a value as JSON can say it."""
    if _is_secret(name):
        return HIDDEN
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping) and depth < MOST_DEPTH:
        return {clean(str(key)): _plain(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple) and depth < MOST_DEPTH:
        return [_plain("", inner, depth + 1) for inner in value]
    return clean(str(value))


def _trouble(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    traceback = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    return "\n".join(filter(None, (traceback or record.exc_text, record.stack_info)))


def _shown(value: Any) -> str:
    return CONTROL.sub(_escape, str(value))


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


def _escape_but_line_ends(found: re.Match[str]) -> str:
    return "\n" if found.group() == "\n" else _escape(found)


def _on_exception(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logger.critical("this process ends with an error", exc_info=(kind, error, traceback))


def _on_thread_exception(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = ended.thread.name if ended.thread is not None else "unknown"
    logger.critical(
        "the thread %s ends with an error", name, exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback)
    )
