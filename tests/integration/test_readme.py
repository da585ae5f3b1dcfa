import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import running

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands use curl")
@pytest.mark.timeout(600)
def test_commands_of_the_readme_work(tmp_path: Path) -> None:
    found = re.search(r"commands:begin.*?```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    with running(tmp_path / "data") as service:
        script = found.group(1).replace("http://127.0.0.1:8000", str(service.client.base_url).rstrip("/"))
        script = script.replace("curl -s", "curl -sS --fail-with-body")
        done = subprocess.run(
            ["bash", "-euc", script], capture_output=True, text=True, cwd=tmp_path, timeout=400, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"state":"succeeded"' in done.stdout
        assert re.search(r'"predictions":\[\d+\.\d+,\d+\.\d+\]\}$', done.stdout), done.stdout[-500:]
