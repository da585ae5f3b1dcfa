"""Webhooks with what they are to be told, and the audit log.

Only adds: programs of the version before go on beside it. What they change is neither told nor logged.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
LOCAL = "local"
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    """Apply the change."""
    _add_webhooks()
    _add_deliveries()
    _add_audit_log()


def downgrade() -> None:
    """Take the change back; webhooks and the audit log go."""
    for table in ("audit_log", "webhook_deliveries", "webhooks"):
        op.drop_table(table)


def _add_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("number", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(64), server_default=LOCAL, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False, comment="what it is told of"),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column(
            "disabled_because",
            sa.Text(),
            nullable=True,
            comment="why the service stopped telling it; null where its owner did",
        ),
        sa.Column(
            "secret", sa.String(100), nullable=False, comment="signs what is sent, so it cannot be stored as a hash"
        ),
        sa.Column(
            "previous_secret",
            sa.String(100),
            nullable=True,
            comment="signs as well for a while after the secret was changed",
        ),
        sa.Column("previous_until", TIME, nullable=True),
        sa.Column("failing_since", TIME, nullable=True, comment="null where the last thing sent was taken"),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("id", name=op.f("uq_webhooks_id")),
        comment="Where owners want to hear of what happens to their things",
    )
    op.create_index("ix_webhooks_owner_number", "webhooks", ["owner", "number"])


def _add_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("number", SERIAL, autoincrement=True, nullable=False),
        sa.Column("webhook_id", sa.String(32), nullable=False),
        sa.Column("message_id", sa.String(64), nullable=False, comment="the header webhook-id, the same at every try"),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="as it is sent, the same at every try"),
        sa.Column("state", sa.String(16), nullable=False, comment="pending, delivered, failed"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="counts claims; what came of one carries it"),
        sa.Column("next_at", TIME, nullable=False, comment="when it is tried, again or at all"),
        sa.Column("status", sa.Integer(), nullable=True, comment="the last answer's"),
        sa.Column("error", sa.Text(), nullable=True, comment="what went wrong the last time"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint("state in ('pending','delivered','failed')", name=op.f("ck_webhook_deliveries_known_state")),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("fk_webhook_deliveries_webhook_id_webhooks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_webhook_deliveries")),
        comment="What webhooks are to be told: written together with what it tells of, sent by API processes",
    )
    op.create_index("ix_webhook_deliveries_webhook_id_number", "webhook_deliveries", ["webhook_id", "number"])
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["next_at"],
        postgresql_where=PENDING,
        sqlite_where=PENDING,
    )


def _add_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("number", SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("owner", sa.String(64), server_default=LOCAL, nullable=False),
        sa.Column("action", sa.String(64), nullable=False, comment="such as job.submitted"),
        sa.Column("target", sa.Text(), nullable=False, comment="the id or name of what was changed"),
        sa.Column(
            "key_id",
            sa.String(32),
            nullable=True,
            comment="the key that asked; null without authentication, and for the service",
        ),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("address", sa.String(64), nullable=True, comment="from which the request came"),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_log")),
        comment="Who did what; only ever added to, and forgotten when it is old",
    )
    op.create_index("ix_audit_log_owner_number", "audit_log", ["owner", "number"])
    op.create_index("ix_audit_log_at", "audit_log", ["at"])
