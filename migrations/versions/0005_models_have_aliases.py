"""Models have aliases, Keras files and calibration; a job may be a prediction; what models are asked is counted.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NEWEST = None, "the highest number given so far; it is not given again"
MODEL_VERSION = None, "that it made, or with which it predicts"


def upgrade() -> None:
    """Apply the change."""
    # Plain ALTER TABLE: SQLite's way around it drops the table, and what refers to it would go with it.
    kind = sa.Column("kind", sa.String(16), server_default="training", nullable=False, comment="training or prediction")
    op.add_column("jobs", kind)
    op.add_column(
        "jobs", sa.Column("result_sha256", sa.String(64), nullable=True, comment="the blob that a prediction made")
    )
    result_comment = "rows, size and warnings of what a prediction made"
    op.add_column("jobs", sa.Column("result", sa.JSON(none_as_null=True), nullable=True, comment=result_comment))
    op.create_index("ix_jobs_result_sha256", "jobs", ["result_sha256"])
    op.create_index("ix_jobs_kind_number", "jobs", ["kind", "number"])
    revision_comment = "counts changes of versions and aliases"
    op.add_column(
        "models", sa.Column("revision", sa.Integer(), server_default="0", nullable=False, comment=revision_comment)
    )
    calibration_comment = "how its answers to held-out rows fit what was true"
    op.add_column(
        "model_versions",
        sa.Column("calibration", sa.JSON(none_as_null=True), nullable=True, comment=calibration_comment),
    )
    keras_comment = "the Keras file's blob; null before one was kept"
    op.add_column("model_versions", sa.Column("keras_sha256", sa.String(64), nullable=True, comment=keras_comment))
    op.create_index("ix_model_versions_keras_sha256", "model_versions", ["keras_sha256"])
    _comment("models", "newest_version", *NEWEST, nullable=False)
    _comment("jobs", "model_version", *MODEL_VERSION, nullable=True)
    op.create_table(
        "model_aliases",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("alias", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            name=op.f("fk_model_aliases_name_model_versions"),
        ),
        sa.PrimaryKeyConstraint("name", "alias", name=op.f("pk_model_aliases")),
        comment="Which version an alias of a model stands for; a version with an alias cannot be deleted",
    )
    op.create_table(
        "alias_changes",
        sa.Column("number", SERIAL, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("alias", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False, comment="set, rolled_back, removed"),
        sa.Column(
            "version", sa.Integer(), nullable=True, comment="that it stands for since then; null where it was removed"
        ),
        sa.Column(
            "previous_version",
            sa.Integer(),
            nullable=True,
            comment="that it stood for before; null where it was new",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_alias_changes")),
        comment="What aliases stood for, in order; only ever added to",
    )
    op.create_index("ix_alias_changes_name_alias_number", "alias_changes", ["name", "alias", "number"])
    op.create_table(
        "input_statistics",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("process", sa.String(32), nullable=False, comment="each API process counts for itself"),
        sa.Column(
            "counts",
            sa.JSON(),
            nullable=False,
            comment="rows, far values and unseen categories by column, since its start",
        ),
        sa.Column("recent", sa.JSON(), nullable=False, comment="moments of its last rows, by column"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            name=op.f("fk_input_statistics_name_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "version", "process", name=op.f("pk_input_statistics")),
        comment="What the service was asked, held against what its models were trained on",
    )


def downgrade() -> None:
    """Take the change back; predictions go, for nothing knows them any more."""
    for table in ("input_statistics", "alias_changes", "model_aliases"):
        op.drop_table(table)
    files = "SELECT keras_sha256 FROM model_versions UNION SELECT result_sha256 FROM jobs"
    unused = [sha256 for sha256 in op.get_bind().execute(sa.text(files)).scalars() if sha256 is not None]
    op.execute("DELETE FROM jobs WHERE kind = 'prediction'")
    _comment("jobs", "model_version", *reversed(MODEL_VERSION), nullable=True)
    _comment("models", "newest_version", *reversed(NEWEST), nullable=False)
    op.drop_index("ix_model_versions_keras_sha256", "model_versions")
    op.drop_column("model_versions", "keras_sha256")
    op.drop_column("model_versions", "calibration")
    op.drop_column("models", "revision")
    op.drop_index("ix_jobs_kind_number", "jobs")
    op.drop_index("ix_jobs_result_sha256", "jobs")
    for column in ("result", "result_sha256", "kind"):
        op.drop_column("jobs", column)
    for sha256 in unused:
        op.get_bind().execute(sa.text("DELETE FROM blobs WHERE sha256 = :sha256"), {"sha256": sha256})


def _comment(table: str, column: str, before: str | None, after: str | None, *, nullable: bool) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            table,
            column,
            existing_type=sa.Integer(),
            existing_nullable=nullable,
            existing_comment=before,
            comment=after,
        )
