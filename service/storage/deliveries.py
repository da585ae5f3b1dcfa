"""What webhooks are to be told: written with what it tells of, claimed and marked by whoever sends, read by owners.

A claim moves the time of the next try by a minute, and counts the tries up. A sender that dies after it has sent leaves
a row that is due again then: what is told may be told twice, under the same id, and is never lost.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, delete, func, insert, select, update

from service.domain.audit import Action
from service.domain.quotas import TooManyDeliveries
from service.domain.webhook_errors import DeliveryIsPending, UnknownDelivery, WebhookIsDisabled
from service.domain.webhooks import ClaimedDelivery, Delivery, message, new_message_id
from service.storage import audit, pages
from service.storage.database import database_time
from service.storage.owners import mine
from service.storage.tables import webhook_deliveries as deliveries
from service.storage.tables import webhooks

CLAIM_SECONDS = 60.0
"""Longer than any sending takes."""
FAILING_SECONDS = 2.5 * 24 * 3600.0
"""A webhook that has taken nothing for so long is switched off when something that it did not take is given up."""
KEPT_SECONDS = 7 * 24 * 3600.0
PURGED_AT_ONCE = 50_000
MOST_OF_AN_OWNER = 2
"""So many of an owner's are sent at once by a process; a few receivers that hang would otherwise hold up everybody."""
MOST_WAITING = 100
"""While so many wait for a webhook, what is to be told is not added to by hand."""


def add(connection: Connection, webhook_ids: Sequence[str], event: str, data: Mapping[str, Any]) -> None:
    """Store what some webhooks are to be told, under one id."""
    now: datetime = connection.execute(select(database_time())).scalar_one()
    body = message(event, data, now)
    told: dict[str, Any] = {"message_id": new_message_id(), "event": event, "body": body, "state": "pending"}
    connection.execute(insert(deliveries), [{"webhook_id": webhook_id, **told} for webhook_id in webhook_ids])


def list_page(connection: Connection, webhook_id: str, page: pages.PageRequest) -> pages.Page[Delivery]:
    """List what a webhook was told, or is to be told, newest first."""
    query = select(deliveries).where(are_of(connection, webhook_id))
    rows, token = pages.fetch(connection, query, deliveries.c.number, page)
    return pages.Page([_delivery(row) for row in rows], token)


def newest(connection: Connection, webhook_id: str) -> Delivery:
    """Read what was stored last for a webhook."""
    query = select(deliveries).where(are_of(connection, webhook_id))
    return _delivery(connection.execute(query.order_by(deliveries.c.number.desc()).limit(1)).mappings().one())


def retry(connection: Connection, webhook_id: str, number: int) -> Delivery:
    """Let something be sent again that was sent, or given up.

    Raises:
        UnknownDelivery: the webhook has none of this number.
        DeliveryIsPending: it has not ended.
    """
    found = and_(are_of(connection, webhook_id), deliveries.c.number == number)
    row = connection.execute(select(deliveries).where(found).with_for_update()).mappings().first()
    if row is None:
        raise UnknownDelivery(webhook_id, number)
    if row["state"] == "pending":
        raise DeliveryIsPending(number)
    again = update(deliveries).where(found).values(state="pending", next_at=database_time(), finished_at=None)
    return _delivery(connection.execute(again.returning(deliveries)).mappings().one())


def are_of(connection: Connection, webhook_id: str) -> ColumnElement[bool]:
    """Return the condition that deliveries are for a webhook, which belongs to whom the session was opened for."""
    own = select(webhooks.c.id).where(mine(connection, webhooks), webhooks.c.id == webhook_id)
    return deliveries.c.webhook_id == own.scalar_subquery()


def check_enabled(connection: Connection, webhook_id: str) -> None:
    """Hold a webhook so that it is not switched off before this session ends.

    Raises:
        WebhookIsDisabled: it is.
    """
    query = select(webhooks.c.enabled).where(mine(connection, webhooks), webhooks.c.id == webhook_id)
    if not connection.execute(query.with_for_update(read=True)).scalar():
        raise WebhookIsDisabled(webhook_id)


def check_room(connection: Connection, webhook_id: str) -> None:
    """Look whether somebody may ask for something to be sent to a webhook.

    Raises:
        TooManyDeliveries: much waits to be sent to it already.
    """
    waiting = select(deliveries.c.number).where(are_of(connection, webhook_id), deliveries.c.state == "pending")
    count = connection.execute(select(func.count()).select_from(waiting.limit(MOST_WAITING).subquery())).scalar_one()
    if count >= MOST_WAITING:
        raise TooManyDeliveries(MOST_WAITING)


def has_due(connection: Connection) -> bool:
    """Whether something is to be sent now; spares the write lock where nothing is."""
    return connection.execute(select(deliveries.c.number).where(_is_due()).limit(1)).first() is not None


def claim(connection: Connection, limit: int, busy: Collection[str] = ()) -> list[ClaimedDelivery]:
    """Take the oldest of what is due for each webhook, for ``limit`` webhooks at most and none of the busy ones.

    Owners take turns: nobody's second is taken before everybody's first, and of each so many are under way at most.
    """
    # Step by step: as parts of one statement, PostgreSQL looked for the oldest anew for every row, for half a minute.
    now: datetime = connection.execute(select(database_time())).scalar_one()
    some = connection.execute(_by_turns(now, busy).limit(limit)).scalars().all()
    free = select(deliveries.c.number).where(deliveries.c.number.in_(some), _is_due()).with_for_update(skip_locked=True)
    mine_now = deliveries.c.number.in_(connection.execute(free).scalars().all())
    claimed = {"attempts": deliveries.c.attempts + 1, "next_at": database_time(CLAIM_SECONDS)}
    statement = update(deliveries).where(mine_now).values(**claimed).returning(deliveries)
    taken = connection.execute(statement).mappings().all()
    query = select(webhooks, (webhooks.c.previous_until > database_time()).label("has_both"))
    found = connection.execute(query.where(webhooks.c.id.in_([row["webhook_id"] for row in taken]))).mappings()
    about = {row["id"]: row for row in found}
    return [_claimed(row, about[row["webhook_id"]]) for row in taken if row["webhook_id"] in about]


def mark_delivered(connection: Connection, claimed: ClaimedDelivery, status: int) -> None:
    """Store that something was taken; nothing where another has claimed it since."""
    done = {"state": "delivered", "status": status, "error": None, "finished_at": database_time()}
    if connection.execute(update(deliveries).where(_is_held(claimed)).values(**done)).rowcount:
        failing = and_(webhooks.c.id == claimed.webhook_id, webhooks.c.failing_since.is_not(None))
        connection.execute(update(webhooks).where(failing).values(failing_since=None))


def mark_failed(
    connection: Connection, claimed: ClaimedDelivery, status: int | None, error: str, wait_seconds: float | None
) -> None:
    """Store that something was not taken, and when it is tried again; None gives it up."""
    known: dict[str, Any] = {"status": status, "error": error}
    goes = (
        {"state": "failed", "finished_at": database_time()}
        if wait_seconds is None
        else {"next_at": database_time(wait_seconds)}
    )
    if connection.execute(update(deliveries).where(_is_held(claimed)).values(**known, **goes)).rowcount == 0:
        return
    since = func.coalesce(webhooks.c.failing_since, database_time())
    failing = update(webhooks).where(webhooks.c.id == claimed.webhook_id).values(failing_since=since)
    connection.execute(failing)
    if wait_seconds is None:
        long = webhooks.c.failing_since < database_time(-FAILING_SECONDS)
        disable(connection, claimed.webhook_id, f"it took nothing for days; at last: {error}", long)


def disable(connection: Connection, webhook_id: str, because: str, *conditions: ColumnElement[bool]) -> None:
    """Switch a webhook off, by the service itself, and say so in the audit log."""
    off = update(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.enabled, *conditions)
    owner = connection.execute(off.values(enabled=False, disabled_because=because).returning(webhooks.c.owner)).scalar()
    if owner is not None:
        give_up(connection, deliveries.c.webhook_id == webhook_id, "the webhook was switched off")
        audit.record(connection, Action.WEBHOOK_DISABLED, webhook_id, owner=owner, reason=because)


def give_up(connection: Connection, which: ColumnElement[bool], because: str) -> None:
    """Send nothing more of some of what waits."""
    waiting = and_(which, deliveries.c.state == "pending")
    error = case((deliveries.c.error.is_(None), because), else_=deliveries.c.error)
    done = {"state": "failed", "error": error, "finished_at": database_time()}
    connection.execute(update(deliveries).where(waiting).values(**done))


def purge(connection: Connection) -> None:
    """Forget the oldest of what has been sent, or given up, for a week."""
    is_old = deliveries.c.finished_at < database_time(-KEPT_SECONDS)
    first = connection.execute(select(func.min(deliveries.c.number)).where(is_old)).scalar()
    if first is not None:
        connection.execute(delete(deliveries).where(is_old, deliveries.c.number < first + PURGED_AT_ONCE))


def _by_turns(now: datetime, busy: Collection[str]) -> Select[Any]:
    """Return the numbers of what may be sent, one for each webhook that is not busy, in the order of their turns."""
    oldest = (
        select(
            webhooks.c.owner,
            func.min(deliveries.c.number).label("number"),
            func.min(deliveries.c.next_at).label("since"),
        )
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(deliveries.c.state == "pending", deliveries.c.next_at <= now, deliveries.c.webhook_id.not_in(busy))
        .group_by(webhooks.c.owner, deliveries.c.webhook_id)
        .subquery()
    )
    held = (
        select(webhooks.c.owner, func.count().label("count"))
        .where(webhooks.c.id.in_(busy))
        .group_by(webhooks.c.owner)
        .subquery()
    )
    place = func.row_number().over(partition_by=oldest.c.owner, order_by=(oldest.c.since, oldest.c.number))
    turn = (place + func.coalesce(held.c.count, 0)).label("turn")
    found = select(oldest, turn).outerjoin(held, held.c.owner == oldest.c.owner).subquery()
    order = (found.c.turn, found.c.since, found.c.number)
    return select(found.c.number).where(found.c.turn <= MOST_OF_AN_OWNER).order_by(*order)


def _is_due() -> ColumnElement[bool]:
    return and_(deliveries.c.state == "pending", deliveries.c.next_at <= database_time())


def _is_held(claimed: ClaimedDelivery) -> ColumnElement[bool]:
    attempt = deliveries.c.attempts == claimed.attempt
    return and_(deliveries.c.number == claimed.number, attempt, deliveries.c.state == "pending")


def _claimed(row: RowMapping, webhook: RowMapping) -> ClaimedDelivery:
    previous = [webhook["previous_secret"]] if webhook["has_both"] else []
    return ClaimedDelivery(
        number=row["number"],
        attempt=row["attempts"],
        webhook_id=row["webhook_id"],
        url=webhook["url"],
        message_id=row["message_id"],
        event=row["event"],
        body=row["body"],
        secrets=(webhook["secret"], *previous),
    )


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(
        number=row["number"],
        message_id=row["message_id"],
        event=row["event"],
        state=row["state"],
        attempts=row["attempts"],
        next_at=row["next_at"],
        status=row["status"],
        error=row["error"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
