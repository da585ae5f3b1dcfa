"""The snippets of docs/protocols.md, run as they stand."""

import re

from tests.api_process import ApiProcess
from tests.protocols.clients_environment import ROOT, run_snippets

SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ADDRESS = "127.0.0.1:8000"


def test_snippets_run(api: ApiProcess) -> None:
    snippets = SNIPPET.findall((ROOT / "docs/protocols.md").read_text())
    assert len(snippets) == 3
    program = "\n".join(snippets)
    assert program.count(ADDRESS) == 4
    printed = run_snippets(program.replace(ADDRESS, f"127.0.0.1:{api.port}"))
    assert "{'predictions': [[" in printed
    assert len(re.findall(r"0\.\d{6}:\d:\d", printed)) == 4 * 3
