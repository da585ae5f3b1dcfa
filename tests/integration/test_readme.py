"""What README and tutorial say is what happens: every block of code in them is run."""

import re
import shutil
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, reading
from tests.processes import running

DOCUMENTS = ("README.md", "docs/tutorial.md")

pytestmark = [
    # curl is a program of the system: no lock file of ours can bring it, and the documents are written for it.
    pytest.mark.skipif(shutil.which("curl") is None, reason="the documents' commands use curl"),
]


def test_code_of_the_readme_works(tmp_path: Path) -> None:
    printed = run_all(ROOT / "README.md", tmp_path)
    assert re.search(r'"predictions":\s*\[\d+\.\d+', printed), printed[-2000:]


def test_code_of_the_tutorial_works(tmp_path: Path) -> None:
    run_all(ROOT / "docs/tutorial.md", tmp_path)


def test_what_is_not_run_is_what_cannot_be() -> None:
    found = [block for name in DOCUMENTS for block in blocks(ROOT / name) if block.excuse]
    begun = [block.code.split("#")[0].split("\n")[0].strip() for block in found]
    assert begun == [
        "make demo",
        "echo POSTGRES_PASSWORD=$(openssl rand -hex 24) > .env && chmod 600 .env",
        "make up",
        "source .venv/bin/activate",
    ]


def run_all(document: Path, folder: Path) -> str:
    with running(folder / "data") as service, reading(service, folder) as reader:
        return "".join(reader.run(block) for block in blocks(document) if block.excuse is None)
