"""A tripwire: it listens to every statement of this process, and keeps those that forget whose things they touch.

In a session that was opened for an owner, every table of a user's things must be held against that owner in the WHERE
of the very SELECT, UPDATE or DELETE that names it, a child's through its parent; an INSERT must carry the owner. A
request opens no session without an owner to touch them. What tests say to the database themselves is left out.
"""

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

from sqlalchemy import Connection, Delete, Engine, Insert, Select, Table, TextClause, Update, event
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, ClauseElement, Grouping
from sqlalchemy.sql.operators import and_, eq, in_op, is_, or_
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromClause, Join

from service.storage import tables
from service.storage.database import OWNER

ROOT = Path(__file__).parents[1]
TESTS = str(ROOT / "tests")
SERVICE = (str(ROOT / "service"), str(ROOT / "workers"), TESTS)
IN_REQUESTS = ("AnyIO worker thread", "answering")
"""How the threads are called that work for requests; the service's own have names of their own."""

OF_THE_SERVICE = {"api_keys", "turns"}
"""Keys say who the owner is, and are asked before that is known; turns say whose job is to be taken next."""
OWNED = {name for name, table in tables.metadata.tables.items() if "owner" in table.c} - OF_THE_SERVICE
PARENTS = ("jobs", "comparisons", "webhooks")
CHILDREN = {
    name
    for name, table in tables.metadata.tables.items()
    if "owner" not in table.c and any(key.column.table.name in PARENTS for key in table.foreign_keys)
}
"""They have no owner of their own, and belong to whom their parent does."""
NAMES = re.compile(rf"\b({'|'.join(sorted(OWNED | CHILDREN))})\b")

EVERYBODYS = {f"service/storage/{name}.py" for name in ("blobs", "observation", "schema")}
"""May look at everybody's things, whoever asks: the same bytes are stored once for all, until nobody needs them, and an
operator's /metrics tells how many jobs there are, of nobody's which. A migration changes what is everybody's."""
LEASES, LOSSES = "service/storage/leases.py", "service/storage/losses.py"
NOT_IN_REQUESTS = {
    *((LEASES, name) for name in ("claim_with", "claim_next", "has_claimable", "hand_back")),
    *((LOSSES, name) for name in ("expired", "lose_expired", "needs_sweep", "follow_clock")),
    ("service/storage/checkpoints.py", "old_jobs"),
    ("service/storage/checkpoints.py", "purge"),
    ("service/storage/idempotency.py", "purge"),
    ("service/storage/inputs.py", "purge"),
    ("service/storage/datasets.py", "builtin_ids"),
    ("service/storage/audit.py", "record"),  # told whose it is, where an operator did it
}
"""Look after everybody's things for workers and for the service itself, whichever session a test hands them."""

violations: list[str] = []
"""What was found since somebody last looked."""
_known: set[Any] = set()
"""The forms of statements that are in order; looking at each takes longer than most queries."""


def install() -> None:
    """Listen to every engine."""
    if not event.contains(Engine, "before_execute", _look):
        event.listen(Engine, "before_execute", _look)


def _look(connection: Connection, statement: Any, multi: Any, single: Any, _options: Any) -> None:
    place = _caller()
    if place is None:
        return
    file, line, function = place
    where, owner = f"{file}:{line} {function}", connection.get_execution_options().get(OWNER)
    is_in_request = threading.current_thread().name.startswith(IN_REQUESTS)
    if (file, function) in NOT_IN_REQUESTS and not is_in_request:
        return
    rows = [*(multi or ()), *([single] if single else ())]
    if owner is None:
        if not is_in_request:
            return
        faults = [f"{name} without an owner, in a request" for name in sorted(_touched(statement))]
    else:
        faults = faults_of(statement, owner, rows)
    if faults:
        text = statement.compile(dialect=connection.dialect)
        violations.extend(f"{where}: {fault}: {text}" for fault in faults)


def faults_of(statement: Any, owner: str, rows: list[dict[str, Any]] = []) -> list[str]:  # noqa: B006  # never changed
    """Say what a statement forgets."""
    if isinstance(statement, TextClause):
        return [f"{name} in plain SQL" for name in set(NAMES.findall(str(statement)))]
    if not isinstance(statement, Select | Insert | Update | Delete) and not hasattr(statement, "selects"):
        return []
    key = statement._generate_cache_key()
    others = {bound.value for bound in key.bindparams if bound._orig_key == "owner"} - {owner, None}
    if others and not rows:
        return [f"owner {sorted(others)} in a session for {owner}"]
    if key.key in _known and not isinstance(statement, Insert):
        return []
    found = _faults_of_part(statement, owner, rows, set())
    if not found:
        _known.add(key.key)
    return found


def _within(element: Any) -> Iterator[ClauseElement]:
    """Return the statements within something, and not those within them."""
    for child in element.get_children():
        if isinstance(child, Select | Insert | Update | Delete):
            yield child
        else:
            yield from _within(child)


def _faults_of_part(part: Any, owner: str, rows: list[dict[str, Any]], around: set[FromClause]) -> list[str]:
    """Say what a statement forgets, or one within it; ``around`` is what those around it select from."""
    if isinstance(part, Insert):
        return [*_faults_of_insert(part, owner, rows), *_faults_within(part, owner, around)]
    if not isinstance(part, Select | Update | Delete):  # such as a union
        return _faults_within(part, owner, around)
    conditions: list[ClauseElement] = []
    sources: list[FromClause] = []
    roots = part.get_final_froms() if isinstance(part, Select) else [part.table]
    for root in roots:
        _flatten(root, sources, conditions)
    if (where := part.whereclause) is not None:
        conditions.extend(_all_of(where))
    all_sources = around | set(sources)
    if len(sources) > 1:  # what is also around it is the same row there
        sources = [source for source in sources if source not in around]
    safe = {source for source in sources if any(_is_owner(condition, source, owner) for condition in conditions)}
    reached = _reached(sources, conditions, safe | around)
    faults = [
        f"{_name(source)} is not held against the owner"
        for source in sources
        if (_name(source) in OWNED and source not in safe and not _is_builtin(source, conditions))
        or (_name(source) in CHILDREN and source not in reached)
    ]
    return [*faults, *_faults_within(part, owner, all_sources)]


def _faults_within(part: Any, owner: str, around: set[FromClause]) -> list[str]:
    return [fault for within in _within(part) for fault in _faults_of_part(within, owner, [], around)]


def _faults_of_insert(part: Insert, owner: str, rows: list[dict[str, Any]]) -> list[str]:
    name = cast("Table", part.table).name
    if name not in OWNED:
        return []
    stored = dict(part._values or {})
    values = [bound.value for column, bound in stored.items() if getattr(column, "name", column) == "owner"]
    values += [row.get("owner") for row in rows]
    for several in cast("Any", part)._multi_values or ():
        values += [row[column].value for row in several for column in row if getattr(column, "name", column) == "owner"]
    return [] if values and set(values) == {owner} else [f"{name} is given to {values or 'nobody'}"]


def _flatten(source: Any, sources: list[FromClause], conditions: list[ClauseElement]) -> None:
    """Take joins apart, into what is joined and the conditions of the joins."""
    if isinstance(source, Join):
        _flatten(source.left, sources, conditions)
        _flatten(source.right, sources, conditions)
        if source.onclause is not None:
            conditions.extend(_all_of(source.onclause))
    elif _name(source):
        sources.append(source)


def _all_of(condition: Any) -> Iterator[ClauseElement]:
    """Return the conditions all of which must hold."""
    if isinstance(condition, Grouping):
        yield from _all_of(condition.element)
    elif isinstance(condition, BooleanClauseList) and condition.operator is and_:
        for one in condition.clauses:
            yield from _all_of(one)
    else:
        yield condition


def _is_owner(condition: Any, source: FromClause, owner: str) -> bool:
    if isinstance(condition, Grouping):
        return _is_owner(condition.element, source, owner)
    if isinstance(condition, BooleanClauseList) and condition.operator is or_:  # the owner's, or built in
        parts = list(condition.clauses)
        return all(_is_owner(one, source, owner) or _is_null(one, source) for one in parts)
    if not isinstance(condition, BinaryExpression) or condition.operator is not eq:
        return False
    column, value = condition.left, condition.right
    if getattr(column, "table", None) is not source or getattr(column, "name", "") != "owner":
        return False
    # Another column is that of what stands beside or around it, and is looked at there.
    return getattr(value, "name", "") == "owner" or (
        isinstance(value, BindParameter) and value.effective_value == owner
    )


def _is_null(condition: Any, source: FromClause) -> bool:
    return (
        isinstance(condition, BinaryExpression)
        and condition.operator is is_
        and getattr(condition.left, "table", None) is source
        and getattr(condition.left, "name", "") == "owner"
    )


def _is_builtin(source: FromClause, conditions: list[ClauseElement]) -> bool:
    return any(_is_null(condition, source) for condition in conditions)


def _reached(sources: list[FromClause], conditions: list[ClauseElement], safe: set[FromClause]) -> set[FromClause]:
    """Add to the safe sources the children that are compared with a safe one, or with what a SELECT within finds.

    That SELECT is looked at for itself.
    """
    grown = set(safe)
    pairs = [
        (side, other)
        for condition in conditions
        if isinstance(condition, BinaryExpression) and condition.operator in (eq, in_op)
        for side, other in ((condition.left, condition.right), (condition.right, condition.left))
    ]
    for _ in sources:  # a child of a child is reached one step later
        for source in sources:
            for side, other in pairs:
                is_tied = getattr(other, "table", None) in grown or next(_within(other), None) is not None
                if _name(source) in CHILDREN and getattr(side, "table", None) is source and is_tied:
                    grown.add(source)
    return grown


def _name(source: Any) -> str:
    """Return which table something selects from; empty where it is none."""
    while isinstance(source, AliasedReturnsRows):
        source = source.element
    return source.name if isinstance(source, Table) else ""


def _touched(statement: Any) -> set[str]:
    if isinstance(statement, TextClause):
        return set(NAMES.findall(str(statement)))
    if not isinstance(statement, ClauseElement):
        return set()
    found = {_name(element) for element in visitors.iterate(statement)}
    return found & (OWNED | CHILDREN)


def _caller() -> tuple[str, int, str] | None:
    """Say which file, line and function of ours executes a statement; None for one that is left out."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(SERVICE) and file != __file__:
            place = file.removeprefix(f"{ROOT}/")
            if file.startswith(TESTS) or place in EVERYBODYS:
                return None
            return place, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back
    return None
