"""The rules of the house that no type checker sees."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service import reference
from service.settings import Settings

ROOT = Path(__file__).parents[2]

LOADED = """
import sys
import {module}
heavy = {{"tensorflow", "keras", "sklearn", "pyarrow", "onnx", "alembic", "pandas", "matplotlib", "scipy"}}
heavy &= sys.modules.keys()
print(",".join(sorted(heavy)))
"""


@pytest.mark.parametrize("module", ["service.api.app", "service.server", "service.cli.main", "service.embedded"])
def test_api_process_loads_no_tensorflow(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""


def test_parent_of_a_worker_loads_no_tensorflow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module="workers.__main__, workers.trainer")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "tensorflow" not in done.stdout
    assert "keras" not in done.stdout


def test_import_contracts_hold() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("document", sorted({owner for owner, _ in reference.TABLES.values()}))
def test_reference_is_what_the_code_says(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    assert reference.written(document, text) == text, "run make reference"


def test_documents_lead_to_what_is_there() -> None:
    for document in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} leads to {target}"


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    for folder in ("service", "workers", "migrations"):
        for path in (ROOT / folder).rglob("__init__.py"):
            # What users import has a short path: docs/adr/0022.
            if path.parent != ROOT / "service/client":
                assert re.fullmatch(r'"""[^"]+"""\n', path.read_text()), path


def test_make_lists_every_target() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for target in ("setup", "demo", "up", "test", "check"):
        assert re.search(rf"^{target}\s+\w", listed, re.MULTILINE), target


def test_ci_runs_the_tests_and_can_be_executed() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
