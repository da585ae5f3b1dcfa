"""Whether this process can do its work."""

from service.inference.sessions import has_runtime
from service.storage import health
from service.storage.database import Database
from service.storage.faults import DATABASE_DOWN, STATEMENT_REFUSED


def readiness(database: Database) -> dict[str, str]:
    """Check every part; a part that is fit reads ``ok``, any other text says what is wrong and what to do."""
    inference = "ok" if has_runtime() else "ONNX Runtime has no CPU provider; install onnxruntime anew"
    try:
        with database.read() as connection:
            current = health.has_current_schema(connection)
    except DATABASE_DOWN:
        advice = "does not answer; start it or correct SELFNORM_DATABASE_URL"
        return {"database": advice, "migrations": "unknown", "inference": inference}
    except STATEMENT_REFUSED:
        advice = "cannot be read; run: selfnorm doctor"
        return {"database": advice, "migrations": "unknown", "inference": inference}
    migrations = "ok" if current else "not at this version's schema; run: selfnorm migrate"
    return {"database": "ok", "migrations": migrations, "inference": inference}
