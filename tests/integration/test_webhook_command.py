"""``selfnorm webhooks`` against an API process: a webhook is made, switched off and on, retried, given a new secret."""

import json
from pathlib import Path
from typing import Any

from service.storage.database import Database
from tests.api_process import api_process
from tests.command_line import CommandLine
from tests.processes import linux_only
from tests.servers import free_port

pytestmark = linux_only


def test_webhook_is_looked_after_from_the_command_line(sqlite_database: Database, tmp_path: Path) -> None:
    file = Path(str(sqlite_database.engine.url.database))
    with api_process(file, tmp_path, SELFNORM_WEBHOOK_ALLOW_PRIVATE="true") as api:
        cli = CommandLine(f"http://127.0.0.1:{api.port}", tmp_path)

        def run(*words: str) -> dict[str, Any]:
            done = cli.run("webhooks", *words, "--json")
            assert done.returncode == 0, done.stderr
            found: dict[str, Any] = json.loads(done.stdout)
            return found

        made = run("create", f"http://127.0.0.1:{free_port()}/", "--event", "job.failed")
        assert run("disable", made["id"])["enabled"] is False
        assert run("enable", made["id"])["enabled"] is True
        number = run("test", made["id"])["number"]
        assert cli.run("webhooks", "retry", made["id"], str(number)).returncode == 3, "it is still to be sent"
        run("disable", made["id"])
        run("enable", made["id"])
        assert run("retry", made["id"], str(number))["state"] == "pending"
        changed = cli.run("webhooks", "rotate-secret", made["id"]).stdout.strip()
        assert changed.startswith("whsec_")
        assert changed != made["secret"]
