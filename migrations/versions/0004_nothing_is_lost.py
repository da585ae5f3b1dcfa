"""Jobs can be paused and have checkpoints and events; answers to POSTs are kept by their key; workers are known.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATES = "'queued','running','cancelling','succeeded','failed','cancelled'"
BLOB_COLUMNS = (
    ("datasets", "sha256"),
    ("jobs", "split_sha256"),
    ("model_versions", "weights_sha256"),
    ("model_versions", "onnx_sha256"),
)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LOSSES = "workers lost while they ran it", "workers lost since its last checkpoint"


def upgrade() -> None:
    """Apply the change."""
    # Trainings under way have no checkpoint, so they begin anew.
    unfinished = "state NOT IN ('succeeded', 'failed', 'cancelled')"
    op.execute(f"DELETE FROM epochs WHERE job_id IN (SELECT id FROM jobs WHERE {unfinished})")  # noqa: S608  # no input
    op.execute(f"UPDATE jobs SET epoch = 0, best_epoch = NULL, fraction = NULL WHERE {unfinished}")  # noqa: S608
    with _Epochs(), op.batch_alter_table("jobs") as jobs:
        _replace_states(jobs, f"{STATES},'paused'")
        _comment_losses(jobs, *LOSSES)
        jobs.drop_column("rung_at")
        paused: sa.Column[bool] = sa.Column(
            "pause_requested",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="its worker is to store it and stop",
        )
        jobs.add_column(paused)
        for name, comment in (("last_event", "numbers its events"), ("last_checkpoint", "numbers its checkpoints")):
            jobs.add_column(sa.Column(name, sa.Integer(), server_default="0", nullable=False, comment=comment))
        retry_of = sa.Column(
            "retry_of", sa.String(32), nullable=True, comment="the failed job that this one goes on with"
        )
        jobs.add_column(retry_of)
    with _Epochs(), op.batch_alter_table("jobs") as jobs:
        for name in ("pause_requested", "last_event", "last_checkpoint"):
            jobs.alter_column(name, server_default=None)  # it was for the rows that were there
    for table, column in BLOB_COLUMNS:  # so that whether a blob is needed is known at once
        op.create_index(f"ix_{table}_{column}", table, [column])
    tags = op.create_table(
        "job_tags",
        sa.Column("tag", sa.String(100), nullable=False),
        sa.Column("number", SERIAL, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["number"], ["jobs.number"], name=op.f("fk_job_tags_number_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tag", "number", name=op.f("pk_job_tags")),
        comment="Which jobs carry a tag, for lists",
    )
    op.bulk_insert(tags, _tags())
    op.create_table(
        "checkpoints",
        _job(),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False, comment="epochs that are finished in it"),
        sa.Column("step", sa.Integer(), nullable=False, comment="steps of the next epoch that are done in it"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _to_job("checkpoints"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_checkpoints_sha256_blobs")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_checkpoints")),
        comment="The newest saved states of a training, from which it goes on",
    )
    op.create_index("ix_checkpoints_sha256", "checkpoints", ["sha256"])
    op.create_table(
        "events",
        _job(),
        sa.Column("number", sa.Integer(), nullable=False, comment="counts up from 1 within the job, without gaps"),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _to_job("events"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_events")),
        comment="What happened to a job, in order; only ever added to",
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False, comment="of method, address, type and body"),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
        comment="Answers to POSTs that made something, kept to be given again",
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "workers",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, comment="starting, idle, busy"),
        sa.Column("job_id", sa.String(32), nullable=True, comment="what it trains"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
        comment="Workers that run, or have ended without a word",
    )


def downgrade() -> None:
    """Take the change back; paused jobs wait in line again, and every training under way begins anew."""
    states = list(op.get_bind().execute(sa.text("SELECT DISTINCT sha256 FROM checkpoints")).scalars())
    for table, column in BLOB_COLUMNS:
        op.drop_index(f"ix_{table}_{column}", table)
    for table in ("workers", "idempotency_keys", "events", "checkpoints", "job_tags"):
        op.drop_table(table)
    for sha256 in states:
        op.get_bind().execute(sa.text("DELETE FROM blobs WHERE sha256 = :sha256"), {"sha256": sha256})
    op.execute("UPDATE jobs SET state = 'queued' WHERE state = 'paused'")
    with _Epochs(), op.batch_alter_table("jobs") as jobs:
        _replace_states(jobs, STATES)
        _comment_losses(jobs, *reversed(LOSSES))
        for name in ("retry_of", "last_checkpoint", "last_event", "pause_requested"):
            jobs.drop_column(name)
        jobs.add_column(
            sa.Column(
                "rung_at", sa.DateTime(timezone=True), nullable=True, comment="when the doorbell last rang for it"
            )
        )


class _Epochs:
    """Keeps the epochs while SQLite makes the table of jobs anew: it drops the old one with what refers to it."""

    def __enter__(self) -> None:
        if op.get_bind().dialect.name == "sqlite":
            op.execute("CREATE TEMPORARY TABLE kept_epochs AS SELECT * FROM epochs")
            op.execute("DELETE FROM epochs")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if op.get_bind().dialect.name == "sqlite" and kind is None:
            op.execute("INSERT INTO epochs SELECT * FROM kept_epochs")
            op.execute("DROP TABLE kept_epochs")


def _replace_states(jobs: BatchOperations, states: str) -> None:
    if op.get_bind().dialect.name != "sqlite":  # there the new table begins without it
        jobs.drop_constraint(op.f("ck_jobs_known_state"), type_="check")
    jobs.create_check_constraint("known_state", f"state in ({states})")


def _comment_losses(jobs: BatchOperations, before: str, after: str) -> None:
    jobs.alter_column(
        "losses", existing_type=sa.Integer(), existing_nullable=False, existing_comment=before, comment=after
    )


def _tags() -> list[dict[str, object]]:
    """Return the tags of every job that is there."""
    jobs = sa.table("jobs", sa.column("number", sa.BigInteger), sa.column("tags", sa.JSON))
    rows = op.get_bind().execute(sa.select(jobs.c.number, jobs.c.tags)).all()
    return [{"tag": tag, "number": row.number} for row in rows for tag in dict.fromkeys(row.tags)]


def _job() -> sa.Column[str]:
    return sa.Column("job_id", sa.String(32), nullable=False)


def _to_job(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f(f"fk_{table}_job_id_jobs"), ondelete="CASCADE")
