"""What README and tutorial say is what happens: every block of code in them is run."""

import re
import shutil
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, reading
from tests.processes import running

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="the documents' commands use curl"),
    pytest.mark.timeout(900),
]


def test_code_of_the_readme_works(tmp_path: Path) -> None:
    printed = run_all(ROOT / "README.md", tmp_path)
    assert re.search(r'"predictions":\s*\[\d+\.\d+', printed), printed[-2000:]


def test_code_of_the_tutorial_works(tmp_path: Path) -> None:
    run_all(ROOT / "docs/tutorial.md", tmp_path)


def test_what_is_not_run_says_why() -> None:
    excuses = [
        block.excuse for name in ("README.md", "docs/tutorial.md") for block in blocks(ROOT / name) if block.excuse
    ]
    assert len(excuses) == 4, excuses


def run_all(document: Path, folder: Path) -> str:
    with running(folder / "data") as service, reading(service, folder) as reader:
        return "".join(reader.run(block) for block in blocks(document) if block.excuse is None)
