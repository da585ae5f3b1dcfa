"""The tables of the reference, made from the code itself: settings, errors, metrics."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from service.api.app import create_app
from service.api.errors import CODES, STATUS
from service.api.gate.scopes import ScopedRoute, contexts, needed
from service.api.metering import counts, gauges, process, traffic
from service.api.metering import refusals as refused
from service.api.services import Services
from service.domain import comparison_errors, errors, key_errors, model_errors, quotas, training_errors, webhook_errors
from service.domain.errors import SelfnormError
from service.domain.jobs import RESUMABLE_ERRORS
from service.domain.keys import Scope
from service.settings import PREFIX, Settings
from service.storage.database import Database
from service.task_queue import Doorbell

MARKS = "<!-- {name}:begin (make reference writes this) -->\n{content}<!-- {name}:end -->"
MODULES = (errors, quotas, model_errors, comparison_errors, training_errors, webhook_errors, key_errors)
COUNTING = (traffic, counts, refused, process)
"""Where metrics are."""
KEEPERS_OWN = {
    "worker_lost": "The job lost its worker three times without a new checkpoint between: it probably kills them.",
    "stalled": "No step of the training ended for a long time, three times.",
    "too_many_attempts": "The job lost its worker in its hundredth attempt.",
    "out_of_memory": "The training took more memory than it may.",
    "out_of_time": "The job occupied a worker for longer than it may.",
    "internal_error": "Something that nobody has thought of; the worker's log has it.",
}
"""Why a job fails, where no class says so: it is found out from outside of the training."""


def settings() -> Iterator[str]:
    """Describe every setting."""
    yield from _head("variable", "default", "what it does")
    for name, field in Settings.model_fields.items():
        default = (
            "none"
            if field.default in (None, ())
            else f"`{field.default:.0f}`"
            if _is_number(field)
            else f"`{field.default}`"
        )
        yield _row(f"`{PREFIX}{name.upper()}`", default, " ".join((field.description or "").split()))


def refusals() -> Iterator[str]:
    """Describe every code of an error that the API answers with."""
    yield from _head("code", "status", "what it says")
    found = {kind.code: (_status(kind), _first_line(kind)) for kind in _kinds() if _status(kind)}
    plain = {code: (status, f"{HTTPStatus(status).phrase}.") for status, code in CODES.items() if code not in found}
    unavailable = {
        "database_down": "The database does not answer, or is kept busy by others.",
        "database_damaged": "The database finds its own files damaged; run `selfnorm doctor`.",
        "database_unmigrated": "The database lacks what this version needs; run `selfnorm migrate`.",
        "disk_full": "There is no room left on the disk.",
        "too_late": "The answer did not begin in time; nobody waits for it any more.",
        "too_many_connections": "The process serves as many connections as it may.",
        "object_store_down": "The object store, where large files are kept, does not answer.",
        "object_store_unset": "The file is in an object store, and `SELFNORM_BLOB_URL` names none.",
    }
    found |= plain | {code: (503, text) for code, text in unavailable.items()}
    for code, (status, text) in sorted(found.items(), key=lambda item: (item[1][0], item[0])):
        yield _row(f"`{code}`", str(status), text)


def failures() -> Iterator[str]:
    """Describe every code of a job that failed."""
    yield from _head("code", "a retry goes on", "what it says")
    found = {kind.code: _first_line(kind) for kind in _kinds() if issubclass(kind, training_errors.TrainingFailed)}
    found.pop(training_errors.TrainingFailed.code)
    found[errors.CorruptBlob.code] = _first_line(errors.CorruptBlob)
    for code, text in sorted((found | KEEPERS_OWN).items()):
        yield _row(f"`{code}`", "yes" if code in RESUMABLE_ERRORS else "no", text)


def counted() -> Iterator[str]:
    """Describe everything that /metrics tells of this service."""
    yield from _head("name", "kind", "labels", "what it says")
    for metric in metrics():
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        yield _row(f"`{metric.name}`", metric.kind, labels, f"{metric.text}.")


@dataclass(frozen=True, slots=True)
class Metric:
    """What /metrics tells under one name."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> set[str]:
        """The names of its series."""
        ends = ("_bucket", "_count", "_sum") if self.kind == "histogram" else ("",)
        return {f"{self.name}{end}" for end in ends}


def metrics() -> Iterator[Metric]:
    """Yield everything that is counted or seen."""
    for module in COUNTING:
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                family = next(iter(metric.describe()))
                name = f"{family.name}_total" if family.type == "counter" else family.name
                yield Metric(name, family.type, tuple(metric._labelnames), family.documentation)
    for gauge in gauges.GAUGES:
        yield Metric(gauge.name, "gauge", gauge.labels, gauge.text)


def scopes() -> Iterator[str]:
    """Describe which scope opens each route."""
    yield from _head("scope", "routes")
    # Nothing is opened: only its routes are looked at.
    app = create_app(Services(Database("sqlite:///nothing.db"), Doorbell("redis://127.0.0.1")))
    opened: dict[str, list[str]] = {}
    for found in contexts(app.routes):
        route = found.original_route
        if isinstance(route, ScopedRoute) and found.endpoint and route.include_in_schema:
            words = " or ".join(scope for scope in Scope if scope in needed(found.endpoint)) or "none"
            opened.setdefault(words, []).append(f"`{' '.join(sorted(found.methods or ()))} {found.path_format}`")
    for words, routes in sorted(opened.items()):
        yield _row(words, ", ".join(dict.fromkeys(routes)))


TABLES: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "settings": ("settings.md", settings),
    "refusals": ("errors.md", refusals),
    "failures": ("errors.md", failures),
    "counted": ("metrics.md", counted),
    "scopes": ("keys.md", scopes),
}
"""The document of each table, and what writes it."""


def written(document: str, text: str) -> str:
    """Return a document with its tables written anew.

    Raises:
        ValueError: a table's place is not marked in it.
    """
    for name, (owner, rows) in TABLES.items():
        if owner != document:
            continue
        place = re.compile(MARKS.format(name=name, content=".*?").replace("(", r"\(").replace(")", r"\)"), re.DOTALL)
        marked = MARKS.format(name=name, content="".join(f"{row}\n" for row in rows()))
        text, count = place.subn(marked.replace("\\", r"\\"), text)
        if count != 1:
            raise ValueError(f"{document} must mark the place of the table {name} once; it is marked {count} times")
    return text


def _is_number(field: object) -> bool:
    return isinstance(getattr(field, "default", None), int | float)


def _kinds() -> list[type[SelfnormError]]:
    return [
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, SelfnormError) and kind is not SelfnormError
    ]


def _status(kind: type[SelfnormError]) -> int:
    """Return the status that an error is answered with; 0 for one that no request meets."""
    return next((int(STATUS[base]) for base in kind.__mro__ if base in STATUS), 0)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield _row(*("---" for _ in cells))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def main(folder: Path) -> None:
    """Write the tables of every document in a folder."""
    for document in dict.fromkeys(owner for owner, _ in TABLES.values()):
        path = folder / document
        path.write_text(written(document, path.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
