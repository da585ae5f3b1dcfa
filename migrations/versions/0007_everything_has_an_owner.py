"""Everything has an owner, owners have keys, and blobs may be in an object store.

What is there already belongs to ``local``, whose keys open it. Programs of the version before cannot register models or
keep answers while this stands (they look for uniqueness that is gone), so they are to be stopped first.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OWNER = sa.String(64)
LOCAL = "local"
KEYED = {
    "job_tags": ["tag", "number"],
    "idempotency_keys": ["key"],
    "model_aliases": ["name", "alias"],
    "input_statistics": ["name", "version", "process"],
    "model_versions": ["name", "version"],
}
"""Tables whose primary key begins with the owner now, with what it was before."""
VERSION_CHILDREN = {"model_aliases": None, "input_statistics": "CASCADE"}
"""Tables that refer to versions, with what happens where one is deleted."""
NO_EPOCH = sa.text("kind <> 'epoch'")
QUEUED = sa.text("state = 'queued'")
HELD = sa.text("state in ('running','cancelling')")


def upgrade() -> None:
    """Apply the change."""
    comment = "null for the built-in ones, which are everybody's"
    op.add_column("datasets", sa.Column("owner", OWNER, nullable=True, comment=comment))
    op.execute(f"UPDATE datasets SET owner = '{LOCAL}' WHERE NOT builtin")  # noqa: S608  # a constant of this file
    for table in ("jobs", "comparisons", "alias_changes"):
        op.add_column(table, sa.Column("owner", OWNER, server_default=LOCAL, nullable=False))
    _drop_references("name")
    for table, columns in KEYED.items():
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("owner", OWNER, server_default=LOCAL, nullable=False))
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.create_primary_key(f"pk_{table}", ["owner", *columns])
    with op.batch_alter_table("models") as batch:
        batch.add_column(sa.Column("owner", OWNER, server_default=LOCAL, nullable=False))
        batch.drop_constraint("uq_models_name", type_="unique")
        batch.create_unique_constraint("uq_models_owner", ["owner", "name"])
    _add_references(["owner", "name"])
    _exchange("alias_changes", "ix_alias_changes_name_alias_number", ["owner", "name", "alias", "number"])
    _exchange("jobs", "ix_jobs_kind_number", ["owner", "kind", "number"])
    op.create_index("ix_jobs_owner_state_number", "jobs", ["owner", "state", "number"])
    op.create_index("ix_jobs_queued", "jobs", ["owner", "number"], postgresql_where=QUEUED, sqlite_where=QUEUED)
    op.create_index("ix_jobs_resting", "jobs", ["claimable_at"], postgresql_where=QUEUED, sqlite_where=QUEUED)
    op.create_index("ix_jobs_held", "jobs", ["owner"], postgresql_where=HELD, sqlite_where=HELD)
    _make_turns()
    for table in ("datasets", "comparisons", "models"):
        op.create_index(f"ix_{table}_owner_number", table, ["owner", "number"])
    op.create_index("ix_events_log", "events", ["job_id", "number"], postgresql_where=NO_EPOCH, sqlite_where=NO_EPOCH)
    _tell_of_tags("Which jobs carry a tag, for lists", "Which jobs of an owner carry a tag, for lists")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), nullable=False, comment="the part of a key that may be shown"),
        sa.Column("owner", OWNER, nullable=False, comment="whose things the key opens"),
        sa.Column("name", sa.String(100), nullable=False, comment="what its maker calls it"),
        sa.Column("scopes", sa.JSON(), nullable=False, comment="read, submit, predict, admin"),
        sa.Column(
            "secret_sha256", sa.String(64), nullable=False, comment="of its secret part, which is stored nowhere"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="null for one that does not"),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, comment="to within some minutes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        comment="Who may ask for what, where authentication is on",
    )
    where = "where it is in the object store; null where its parts are here"
    op.add_column("blobs", sa.Column("object_key", sa.String(100), nullable=True, comment=where))
    left = "nothing may refer to it any more"
    op.create_table(
        "loose_objects",
        sa.Column("key", sa.String(100), nullable=False),
        sa.Column("is_leaving", sa.Boolean(), server_default=sa.false(), nullable=False, comment=left),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_loose_objects")),
        comment="Objects of the store that no blob refers to: just put, or no longer needed",
    )
    op.create_index(op.f("ix_loose_objects_since"), "loose_objects", ["since"])


def downgrade() -> None:
    """Take the change back; the keys go. Refused where two owners have given one name, or blobs lie elsewhere."""
    _refuse_shared_names()
    _refuse_objects()
    op.drop_table("loose_objects")
    op.drop_column("blobs", "object_key")
    op.drop_table("api_keys")
    _tell_of_tags("Which jobs of an owner carry a tag, for lists", "Which jobs carry a tag, for lists")
    op.drop_index("ix_events_log", "events")
    for table in ("datasets", "comparisons", "models"):
        op.drop_index(f"ix_{table}_owner_number", table)
    op.drop_table("turns")
    op.drop_index("ix_jobs_held", "jobs")
    op.drop_index("ix_jobs_resting", "jobs")
    op.drop_index("ix_jobs_queued", "jobs")
    op.drop_index("ix_jobs_owner_state_number", "jobs")
    _exchange("jobs", "ix_jobs_owner_kind_number", ["kind", "number"])
    _exchange("alias_changes", "ix_alias_changes_owner_name_alias_number", ["name", "alias", "number"])
    _drop_references("owner")
    with op.batch_alter_table("models") as batch:
        batch.drop_constraint("uq_models_owner", type_="unique")
        batch.create_unique_constraint("uq_models_name", ["name"])
        batch.drop_column("owner")
    for table, columns in KEYED.items():
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.create_primary_key(f"pk_{table}", columns)
            batch.drop_column("owner")
    _add_references(["name"])
    for table in ("alias_changes", "comparisons", "jobs", "datasets"):
        op.drop_column(table, "owner")


def _drop_references(first: str) -> None:
    """Cut what refers to models; SQLite builds a table anew to change its key, and what refers to it would go."""
    for table in VERSION_CHILDREN:
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(f"fk_{table}_{first}_model_versions", type_="foreignkey")
    with op.batch_alter_table("model_versions") as batch:
        batch.drop_constraint(f"fk_model_versions_{first}_models", type_="foreignkey")


def _add_references(columns: list[str]) -> None:
    with op.batch_alter_table("model_versions") as batch:
        batch.create_foreign_key(f"fk_model_versions_{columns[0]}_models", "models", columns, columns)
    named = [*columns, "version"]
    for table, on_delete in VERSION_CHILDREN.items():
        with op.batch_alter_table(table) as batch:
            name = f"fk_{table}_{columns[0]}_model_versions"
            batch.create_foreign_key(name, "model_versions", named, named, ondelete=on_delete)


def _exchange(table: str, old: str, columns: list[str]) -> None:
    op.drop_index(old, table)
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def _make_turns() -> None:
    comment = "when a worker last took a job of theirs; until then, when they came"
    op.create_table(
        "turns",
        sa.Column("owner", OWNER, nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False, comment=comment),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_turns")),
        comment="Who may have jobs in line, and when they last had their turn: in that order jobs are claimed",
    )


def _tell_of_tags(before: str, after: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_table_comment("job_tags", after, existing_comment=before)


def _refuse_objects() -> None:
    stored = op.get_bind().execute(sa.text("SELECT count(*) FROM blobs WHERE object_key IS NOT NULL")).scalar_one()
    if stored:
        raise RuntimeError(f"{stored} blobs are in an object store; run first: selfnorm blobs move --to database")


def _refuse_shared_names() -> None:
    for table, name in (("models", "name"), ("idempotency_keys", "key")):
        twice = f"SELECT {name} FROM {table} GROUP BY {name} HAVING count(*) > 1"  # noqa: S608  # constants above
        shared = op.get_bind().execute(sa.text(twice)).scalars().first()
        if shared is not None:
            raise RuntimeError(f"{table}: two owners have {shared!r}; the version before has one of a name")
