"""Each image works with what its lock file names and nothing else: the other packages cannot be found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.domain.datasets import ARTICLE_TABLES
from service.storage.database import sqlite_url

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "locks"
HEAVY = {"tensorflow", "tensorflow-cpu", "keras", "scikit-learn", "scipy", "pandas", "onnx", "setuptools", "mpld3"}

WITHOUT_OTHERS = """
import sys
from importlib.metadata import packages_distributions
locked = set(sys.argv[1].split(","))
others = {
    package for package, distributions in packages_distributions().items()
    if not {name.lower().replace("_", "-").replace(".", "-") for name in distributions} & locked
}
class OnlyLocked:
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in others:
            return None
        return next((found for finder in self.finders if (found := finder.find_spec(name, path, target))), None)
    def find_distributions(self, *context):
        return (found for finder in self.finders if hasattr(finder, "find_distributions")
                for found in finder.find_distributions(*context))
sys.meta_path = [OnlyLocked(list(sys.meta_path))]
"""
API = """
import numpy
from starlette.testclient import TestClient
from service.api.app import create_app
from service.api.services import Services
from service.storage.database import Database
from service.task_queue import Doorbell
import service.cli.main, service.server

services = Services(Database(sys.argv[2]), Doorbell("redis://127.0.0.1:1/0"))
NETWORK = {"hidden_layers": 2, "units": 8}
CSV = b"colour,size,weight\\n" + b"".join(b"%s,%d,%d\\n" % (b"rg"[n % 2:][:1], n, n * n) for n in range(60))
with TestClient(create_app(services)) as client:
    assert client.get("/readyz").status_code == 200, client.get("/readyz").text
    added = client.post("/datasets?name=colours.csv", content=CSV, headers={"Content-Type": "text/csv"})
    assert added.status_code == 201, added.text
    dataset = added.json()["id"]
    assert len(client.get(f"/datasets/{dataset}/rows").json()["items"]) > 0
    spec = {"dataset": dataset, "target": "weight", "network": NETWORK, "preparation": {"numeric": "quantile"}}
    probed = client.post("/probe", json=spec)
    assert probed.status_code == 200, probed.text
    job = client.post("/jobs", json={"dataset": "iris", "network": NETWORK})
    assert job.status_code == 202, job.text
    arms = {"selu": NETWORK, "elu": NETWORK | {"kind": "mlp", "activation": "elu"}}
    compared = client.post("/comparisons", json={"dataset": "iris", "arms": arms, "seeds": [1, 2]})
    assert compared.status_code == 202, compared.text
    assert client.get(f"/comparisons/{compared.json()['id']}").status_code == 200
    page = client.get(f"/dashboard/jobs/{job.json()['id']}")
    assert page.status_code == 200, page.text
    plot = client.get(f"/jobs/{job.json()['id']}/plots/learning_curves")
    print(plot.status_code, plot.json().get("code"), "/plots/" in page.text)
"""
MIGRATE = """
import os
os.environ["SELFNORM_DATABASE_URL"] = sys.argv[2]
from service.cli.operations import migrate
from service.storage import datasets
from service.storage.database import Database
migrate()
with Database(sys.argv[2]).read() as connection:
    print(sorted(datasets.builtin_ids(connection)))
"""
WORKER = "import workers.__main__, workers.trainer, workers.keeper, workers.attempt, service.cli.main, service.stocking"


def locked(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", (LOCKS / lock).read_text(), re.MULTILINE))


def run(lock: str, script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", WITHOUT_OTHERS + script, ",".join(locked(lock) | {"selfnorm"}), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("lock", "said"), [("api.txt", "404 no_plots_here False"), ("api-full.txt", "409 nothing_to_draw True")]
)
def test_api_serves_with_what_its_image_installs(sqlite_database: object, tmp_path: Path, lock: str, said: str) -> None:
    assert run(lock, API, sqlite_url(tmp_path / "selfnorm.db")) == said


def test_migration_without_scikit_learn_leaves_its_tables_to_the_first_worker(tmp_path: Path) -> None:
    told, stored = run("api.txt", MIGRATE, sqlite_url(tmp_path / "selfnorm.db")).splitlines()
    assert "the first worker stores its five tables" in told
    assert stored == str(sorted(ARTICLE_TABLES))


def test_worker_loads_with_what_its_image_installs() -> None:
    assert run("worker.txt", WORKER) == ""


def test_api_installs_nothing_that_only_workers_need() -> None:
    for lock in ("api.txt", "api-full.txt"):
        assert locked(lock) & HEAVY == set(), lock
        assert ("matplotlib" in locked(lock)) == (lock == "api-full.txt")
