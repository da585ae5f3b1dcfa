"""Write a new migration from the difference between the code's tables and the newest schema: ``make migration``."""

import sys
import tempfile
from pathlib import Path

from alembic.script import ScriptDirectory

from service.storage import schema
from service.storage.database import Database

if __name__ == "__main__":
    message = " ".join(sys.argv[1:])
    if not message:
        sys.exit('say what changes: make migration MESSAGE="Jobs have an owner"')
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'migration.db'}")
        schema.upgrade(database)
        count = sum(1 for _ in ScriptDirectory(str(Path(__file__).parent)).walk_revisions())
        schema.autogenerate(database, message, f"{count + 1:04}")
        database.close()
