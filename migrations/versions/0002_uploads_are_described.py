"""Uploads are described, jobs warn and keep their split, models keep encoders.

Revision: 0002, after 0001
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

versions = sa.table("model_versions", sa.column("name"), sa.column("version"), sa.column("inputs", sa.JSON()))
datasets = sa.table("datasets", sa.column("id"), sa.column("columns", sa.JSON()))


def upgrade() -> None:
    """Apply the change."""
    # Plain ALTER TABLE: SQLite's way around it drops the table, and its epochs would go with it.
    report_comment = "dialect, duplicate rows, related columns, warnings"
    op.add_column("datasets", sa.Column("report", sa.JSON(none_as_null=True), nullable=True, comment=report_comment))
    warnings_comment = "what was left out or looks wrong, in plain words"
    op.add_column("jobs", sa.Column("warnings", sa.JSON(none_as_null=True), nullable=True, comment=warnings_comment))
    split_comment = "the blob that says which row went to which part"
    op.add_column("jobs", sa.Column("split_sha256", sa.String(length=64), nullable=True, comment=split_comment))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "model_versions",
            "inputs",
            existing_type=sa.JSON(),
            existing_nullable=False,
            existing_comment="feature names with the mean and scale of the training rows",
            comment="encoders of the columns, mean and scale of what they give",
        )
    _rewrite(versions, ("name", "version"), "inputs", _with_encoders)
    _rewrite(datasets, ("id",), "columns", _with_storage)


def downgrade() -> None:
    """Take the change back."""
    _rewrite(versions, ("name", "version"), "inputs", _without_encoders)
    _rewrite(datasets, ("id",), "columns", _without_storage)
    for table, column in (("jobs", "split_sha256"), ("jobs", "warnings"), ("datasets", "report")):
        op.drop_column(table, column)


def _rewrite(table: Any, key: tuple[str, ...], column: str, change: Any) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(table)).mappings().all():
        same = [table.c[name] == row[name] for name in key]
        connection.execute(sa.update(table).where(*same).values({column: change(row[column])}))


def _with_encoders(inputs: dict[str, Any]) -> dict[str, Any]:
    if "encoders" in inputs:
        return inputs
    named = zip(inputs["features"], inputs["kinds"], strict=True)
    encoders = [{"name": name, "kind": kind} for name, kind in named]
    return {"encoders": encoders, "mean": inputs["mean"], "scale": inputs["scale"]}


def _without_encoders(inputs: dict[str, Any]) -> dict[str, Any]:
    encoders = inputs["encoders"]
    for encoder in encoders:
        if encoder["kind"] not in ("numeric", "boolean") or encoder.get("gaps") or encoder.get("transform"):
            raise NotImplementedError(f"the version before cannot serve this encoder: {json.dumps(encoder)[:200]}")
    return {
        "features": [encoder["name"] for encoder in encoders],
        "kinds": [encoder["kind"] for encoder in encoders],
        "mean": inputs["mean"],
        "scale": inputs["scale"],
    }


def _without_storage(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = ("name", "kind", "is_integer", "missing", "unique", "mean", "std", "min", "max", "examples")
    return [{field: column[field] for field in kept if field in column} for column in columns]


def _with_storage(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stored = {"boolean": "boolean", "categorical": "text", "text": "text"}
    return [{"stored": stored.get(column["kind"], "number"), **column} for column in columns]
