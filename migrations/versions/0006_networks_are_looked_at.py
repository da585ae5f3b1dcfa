"""Networks are looked at before, while and after they train, and compared.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NEW_COLUMNS = (
    ("jobs", "lint", "what was found about the network before it trained, rule by rule"),
    ("jobs", "verdict", "whether the network normalizes itself, as far as it has been looked at"),
    ("jobs", "held_out", "how its answers to the held-out rows fit: a confusion matrix, or some residuals"),
    ("model_versions", "verdict", "whether the network normalized itself while it trained"),
)


def upgrade() -> None:
    """Apply the change."""
    for table, name, comment in NEW_COLUMNS:
        op.add_column(table, sa.Column(name, sa.JSON(none_as_null=True), nullable=True, comment=comment))
    op.create_table(
        "diagnostics",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False, comment="after which it was looked at; 0 before the first"),
        sa.Column("layers", sa.JSON(), nullable=False, comment="moments, weights and gradients, layer by layer"),
        sa.Column("histograms", sa.JSON(), nullable=False, comment="of weights and activations, layer by layer"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_diagnostics_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "epoch", name=op.f("pk_diagnostics")),
        comment="What the layers of a network looked like after an epoch",
    )
    op.create_table(
        "comparisons",
        sa.Column("number", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False, comment="completed: every arm and seed written out"),
        sa.Column("dataset_id", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_comparisons")),
        sa.UniqueConstraint("id", name=op.f("uq_comparisons_id")),
        comment="Networks that are trained on the same rows, to be held against each other",
    )
    op.create_table(
        "comparison_jobs",
        sa.Column("comparison_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="by arm, then by seed"),
        sa.Column("arm", sa.String(100), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparisons.id"],
            name=op.f("fk_comparison_jobs_comparison_id_comparisons"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_comparison_jobs_job_id_jobs")),
        sa.PrimaryKeyConstraint("comparison_id", "position", name=op.f("pk_comparison_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_comparison_jobs_job_id")),
        comment="Which job trains which arm of a comparison with which seed",
    )


def downgrade() -> None:
    """Take the change back; comparisons go, their jobs and models stay."""
    for table in ("comparison_jobs", "comparisons", "diagnostics"):
        op.drop_table(table)
    for table, name, _ in NEW_COLUMNS:
        op.drop_column(table, name)
