"""Every table of the database; ``migrations/`` holds how it came to be."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from service.domain.owners import DEFAULT_OWNER, MAX_OWNER_LENGTH
from service.storage.database import UtcTime, database_time

SCHEMA_REVISION = "0008"
"""The migration that this code needs; a test holds it against ``migrations/``."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Serial = BigInteger().with_variant(Integer, "sqlite")
"""Counts up by itself; lists are ordered by it, newest first."""


def _owner(**options: Any) -> Column[str]:
    """Return the column that says whose a row is; see ``service.storage.owners``."""
    return Column("owner", String(MAX_OWNER_LENGTH), nullable=False, server_default=DEFAULT_OWNER, **options)


QUEUED = text("state = 'queued'")
HELD = text("state in ('running','cancelling')")

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("object_key", String(100), comment="where it is in the object store; null where its parts are here"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    comment="Files by the hash of their content: data sets, weights, ONNX graphs",
)

loose_objects = Table(
    "loose_objects",
    metadata,
    Column("key", String(100), primary_key=True),
    Column("is_leaving", Boolean, nullable=False, server_default=false(), comment="nothing may refer to it any more"),
    Column("since", UtcTime, nullable=False, default=database_time(), index=True),
    comment="Objects of the store that no blob refers to: just put, or no longer needed",
)

blob_parts = Table(
    "blob_parts",
    metadata,
    Column("sha256", String(64), ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    comment="The bytes of a blob in rows of at most 1 MiB",
)

datasets = Table(
    "datasets",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(100), nullable=False, unique=True),
    Column("owner", String(MAX_OWNER_LENGTH), comment="null for the built-in ones, which are everybody's"),
    Column("name", String(100), nullable=False),
    Column("builtin", Boolean, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("report", JSON(none_as_null=True), comment="dialect, duplicate rows, related columns, warnings"),
    Column("default_target", Text),
    Column("official_test_rows", Integer, nullable=False, default=0),
    Column("sha256", String(64), ForeignKey("blobs.sha256"), index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Index("ix_datasets_owner_number", "owner", "number"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    _owner(),
    Column("kind", String(16), nullable=False, server_default="training", comment="training or prediction"),
    Column("state", String(16), nullable=False),
    Column("spec", JSON, nullable=False, comment="completed, every default written out"),
    Column("dataset_id", String(100), nullable=False, index=True),
    Column("model_name", String(100), nullable=False, index=True),
    Column("tags", JSON, nullable=False),
    Column("warnings", JSON(none_as_null=True), comment="what was left out or looks wrong, in plain words"),
    Column("split_sha256", String(64), index=True, comment="the blob that says which row went to which part"),
    Column("fence", Integer, nullable=False, default=0, comment="counts claims; every write of a worker carries it"),
    Column("losses", Integer, nullable=False, default=0, comment="workers lost since its last checkpoint"),
    Column("pause_requested", Boolean, nullable=False, default=False, comment="its worker is to store it and stop"),
    Column("last_event", Integer, nullable=False, default=0, comment="numbers its events"),
    Column("last_checkpoint", Integer, nullable=False, default=0, comment="numbers its checkpoints"),
    Column("retry_of", String(32), comment="the failed job that this one goes on with"),
    Column("worker", String(200), comment="who holds the lease"),
    Column("lease_until", UtcTime),
    Column("claimable_at", UtcTime, nullable=False, default=database_time(), comment="back-off after a loss"),
    Column("epoch", Integer, nullable=False, default=0),
    Column("epochs", Integer, nullable=False),
    Column("fraction", Float, comment="the part of all steps that is done"),
    Column("rows_per_second", Float),
    Column("eta_seconds", Float),
    Column("best_epoch", Integer),
    Column("test_metrics", JSON(none_as_null=True)),
    Column("model_version", Integer, comment="that it made, or with which it predicts"),
    Column("result_sha256", String(64), index=True, comment="the blob that a prediction made"),
    Column("result", JSON(none_as_null=True), comment="rows, size and warnings of what a prediction made"),
    Column("lint", JSON(none_as_null=True), comment="what was found about the network before it trained, rule by rule"),
    Column(
        "verdict",
        JSON(none_as_null=True),
        comment="whether the network normalizes itself, as far as it has been looked at",
    ),
    Column(
        "held_out",
        JSON(none_as_null=True),
        comment="how its answers to the held-out rows fit: a confusion matrix, or some residuals",
    ),
    Column("error_code", String(64)),
    Column("error_detail", Text),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    CheckConstraint(
        "state in ('queued','running','paused','cancelling','succeeded','failed','cancelled')", name="known_state"
    ),
    Index("ix_jobs_state_number", "state", "number"),
    Index("ix_jobs_owner_kind_number", "owner", "kind", "number"),
    Index("ix_jobs_owner_state_number", "owner", "state", "number"),
    # Who waits in line and what runs is found in them, however many jobs have ended.
    Index("ix_jobs_queued", "owner", "number", postgresql_where=QUEUED, sqlite_where=QUEUED),
    Index("ix_jobs_resting", "claimable_at", postgresql_where=QUEUED, sqlite_where=QUEUED),
    Index("ix_jobs_held", "owner", postgresql_where=HELD, sqlite_where=HELD),
)

turns = Table(
    "turns",
    metadata,
    Column("owner", String(MAX_OWNER_LENGTH), primary_key=True),
    Column(
        "taken_at",
        UtcTime,
        nullable=False,
        comment="when a worker last took a job of theirs; until then, when they came",
    ),
    comment="Who may have jobs in line, and when they last had their turn: in that order jobs are claimed",
)

job_tags = Table(
    "job_tags",
    metadata,
    _owner(primary_key=True),
    Column("tag", String(100), primary_key=True),
    Column("number", Serial, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    comment="Which jobs of an owner carry a tag, for lists",
)

epochs = Table(
    "epochs",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("metrics", JSON, nullable=False, comment="loss, val_loss, accuracy ... in the target's own units"),
    Column("learning_rate", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("recorded_at", UtcTime, nullable=False, default=database_time()),
    comment="One row per finished epoch of a job",
)

diagnostics = Table(
    "diagnostics",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True, comment="after which it was looked at; 0 before the first"),
    Column("layers", JSON, nullable=False, comment="moments, weights and gradients, layer by layer"),
    Column("histograms", JSON, nullable=False, comment="of weights and activations, layer by layer"),
    comment="What the layers of a network looked like after an epoch",
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    _owner(),
    Column("spec", JSON, nullable=False, comment="completed: every arm and seed written out"),
    Column("dataset_id", String(100), nullable=False),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Index("ix_comparisons_owner_number", "owner", "number"),
    comment="Networks that are trained on the same rows, to be held against each other",
)

comparison_jobs = Table(
    "comparison_jobs",
    metadata,
    Column("comparison_id", String(32), ForeignKey("comparisons.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, comment="by arm, then by seed"),
    Column("arm", String(100), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False, unique=True),
    comment="Which job trains which arm of a comparison with which seed",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sha256", String(64), ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("epoch", Integer, nullable=False, comment="epochs that are finished in it"),
    Column("step", Integer, nullable=False, comment="steps of the next epoch that are done in it"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    comment="The newest saved states of a training, from which it goes on",
)

events = Table(
    "events",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, comment="counts up from 1 within the job, without gaps"),
    Column("kind", String(32), nullable=False),
    Column("data", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    # The log that a page shows leaves the epochs out, which are most of it.
    Index(
        "ix_events_log",
        "job_id",
        "number",
        postgresql_where=text("kind <> 'epoch'"),
        sqlite_where=text("kind <> 'epoch'"),
    ),
    comment="What happened to a job, in order; only ever added to",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _owner(primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False, comment="of method, address, type and body"),
    Column("status", Integer),
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("created_at", UtcTime, nullable=False, default=database_time(), index=True),
    comment="Answers to POSTs that made something, kept to be given again",
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("state", String(16), nullable=False, comment="starting, idle, busy"),
    Column("job_id", String(32), comment="what it trains"),
    Column("started_at", UtcTime, nullable=False, default=database_time()),
    Column("seen_at", UtcTime, nullable=False, default=database_time()),
    comment="Workers that run, or have ended without a word",
)

models = Table(
    "models",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    _owner(),
    Column("name", String(100), nullable=False),
    Column("newest_version", Integer, nullable=False, comment="the highest number given so far; it is not given again"),
    Column("revision", Integer, nullable=False, server_default="0", comment="counts changes of versions and aliases"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    UniqueConstraint("owner", "name"),
    Index("ix_models_owner_number", "owner", "number"),
)

model_versions = Table(
    "model_versions",
    metadata,
    _owner(primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("job_id", String(32), nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    Column("data_sha256", String(64), comment="of the training table's Parquet file; null for the article's tables"),
    Column("inputs", JSON, nullable=False, comment="encoders of the columns, mean and scale of what they give"),
    Column("outputs", JSON, nullable=False, comment="task, target, classes, or the target's mean and scale"),
    Column("metrics", JSON, nullable=False),
    Column("parity", JSON, nullable=False, comment="how far the served form is from Keras"),
    Column("parameters", BigInteger, nullable=False),
    Column("environment", JSON, nullable=False, comment="what its bits depend on: processor, threads, versions"),
    Column("warnings", JSON(none_as_null=True), comment="what its user should know, in plain words"),
    Column("calibration", JSON(none_as_null=True), comment="how its answers to held-out rows fit what was true"),
    Column("verdict", JSON(none_as_null=True), comment="whether the network normalized itself while it trained"),
    Column("weights_sha256", String(64), ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("onnx_sha256", String(64), ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("keras_sha256", String(64), index=True, comment="the Keras file's blob; null before one was kept"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    ForeignKeyConstraint(["owner", "name"], ["models.owner", "models.name"], name="fk_model_versions_owner_models"),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    _owner(primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("alias", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_at", UtcTime, nullable=False, default=database_time()),
    ForeignKeyConstraint(
        ["owner", "name", "version"],
        ["model_versions.owner", "model_versions.name", "model_versions.version"],
        name="fk_model_aliases_owner_model_versions",
    ),
    comment="Which version an alias of a model stands for; a version with an alias cannot be deleted",
)

alias_changes = Table(
    "alias_changes",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    _owner(),
    Column("name", String(100), nullable=False),
    Column("alias", String(100), nullable=False),
    Column("kind", String(16), nullable=False, comment="set, rolled_back, removed"),
    Column("version", Integer, comment="that it stands for since then; null where it was removed"),
    Column("previous_version", Integer, comment="that it stood for before; null where it was new"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Index("ix_alias_changes_owner_name_alias_number", "owner", "name", "alias", "number"),
    comment="What aliases stood for, in order; only ever added to",
)

input_statistics = Table(
    "input_statistics",
    metadata,
    _owner(primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("process", String(32), primary_key=True, comment="each API process counts for itself"),
    Column("counts", JSON, nullable=False, comment="rows, far values and unseen categories by column, since its start"),
    Column("recent", JSON, nullable=False, comment="moments of its last rows, by column"),
    Column("updated_at", UtcTime, nullable=False, default=database_time()),
    ForeignKeyConstraint(
        ["owner", "name", "version"],
        ["model_versions.owner", "model_versions.name", "model_versions.version"],
        name="fk_input_statistics_owner_model_versions",
        ondelete="CASCADE",
    ),
    comment="What the service was asked, held against what its models were trained on",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True, comment="the part of a key that may be shown"),
    Column("owner", String(MAX_OWNER_LENGTH), nullable=False, comment="whose things the key opens"),
    Column("name", String(100), nullable=False, comment="what its maker calls it"),
    Column("scopes", JSON, nullable=False, comment="read, submit, predict, admin"),
    Column("secret_sha256", String(64), nullable=False, comment="of its secret part, which is stored nowhere"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Column("expires_at", UtcTime, comment="null for one that does not"),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime, comment="to within some minutes"),
    comment="Who may ask for what, where authentication is on",
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    _owner(),
    Column("url", Text, nullable=False),
    Column("events", JSON, nullable=False, comment="what it is told of"),
    Column("description", Text),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_because", Text, comment="why the service stopped telling it; null where its owner did"),
    Column("secret", String(100), nullable=False, comment="signs what is sent, so it cannot be stored as a hash"),
    Column("previous_secret", String(100), comment="signs as well for a while after the secret was changed"),
    Column("previous_until", UtcTime),
    Column("failing_since", UtcTime, comment="null where the last thing sent was taken"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Index("ix_webhooks_owner_number", "owner", "number"),
    comment="Where owners want to hear of what happens to their things",
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("webhook_id", String(32), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("message_id", String(64), nullable=False, comment="the header webhook-id, the same at every try"),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False, comment="as it is sent, the same at every try"),
    Column("state", String(16), nullable=False, comment="pending, delivered, failed"),
    Column("attempts", Integer, nullable=False, default=0, comment="counts claims; what came of one carries it"),
    Column("next_at", UtcTime, nullable=False, default=database_time(), comment="when it is tried, again or at all"),
    Column("status", Integer, comment="the last answer's"),
    Column("error", Text, comment="what went wrong the last time"),
    Column("created_at", UtcTime, nullable=False, default=database_time()),
    Column("finished_at", UtcTime),
    CheckConstraint("state in ('pending','delivered','failed')", name="known_state"),
    Index("ix_webhook_deliveries_webhook_id_number", "webhook_id", "number"),
    Index(
        "ix_webhook_deliveries_due",
        "next_at",
        postgresql_where=text("state = 'pending'"),
        sqlite_where=text("state = 'pending'"),
    ),
    comment="What webhooks are to be told: written together with what it tells of, sent by API processes",
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False, default=database_time()),
    _owner(),
    Column("action", String(64), nullable=False, comment="such as job.submitted"),
    Column("target", Text, nullable=False, comment="the id or name of what was changed"),
    Column("key_id", String(32), comment="the key that asked; null without authentication, and for the service"),
    Column("request_id", String(64)),
    Column("address", String(64), comment="from which the request came"),
    Column("details", JSON, nullable=False),
    Index("ix_audit_log_owner_number", "owner", "number"),
    Index("ix_audit_log_at", "at"),
    comment="Who did what; only ever added to, and forgotten when it is old",
)
