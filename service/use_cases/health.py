"""Whether this process can do its work."""

from service.storage import health
from service.storage.database import DATABASE_DOWN, Database


def readiness(database: Database) -> dict[str, str]:
    """Check every part; a part that is fit reads ``ok``, any other text says what is wrong and what to do."""
    try:
        with database.read() as connection:
            current = health.has_current_schema(connection)
    except DATABASE_DOWN:
        return {"database": "does not answer; start it or correct SELFNORM_DATABASE_URL", "migrations": "unknown"}
    return {"database": "ok", "migrations": "ok" if current else "not at this version's schema; run: selfnorm migrate"}
