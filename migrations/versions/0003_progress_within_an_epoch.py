"""Jobs know how far they are within an epoch, models carry warnings.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ENVIRONMENT = "versions of the libraries that trained it", "what its bits depend on: processor, threads, versions"


def upgrade() -> None:
    """Apply the change."""
    # Plain ALTER TABLE: SQLite's way around it drops the table, and its epochs would go with it.
    done = sa.Column("fraction", sa.Float(), nullable=True, comment="the part of all steps that is done")
    op.add_column("jobs", done)
    op.execute("UPDATE jobs SET fraction = epoch * 1.0 / epochs")
    warnings_comment = "what its user should know, in plain words"
    warnings = sa.Column("warnings", sa.JSON(none_as_null=True), nullable=True, comment=warnings_comment)
    op.add_column("model_versions", warnings)
    _comment_environment(*ENVIRONMENT)


def downgrade() -> None:
    """Take the change back."""
    _comment_environment(*reversed(ENVIRONMENT))
    op.drop_column("model_versions", "warnings")
    op.drop_column("jobs", "fraction")


def _comment_environment(before: str, after: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "model_versions",
            "environment",
            existing_type=sa.JSON(),
            existing_nullable=False,
            existing_comment=before,
            comment=after,
        )
