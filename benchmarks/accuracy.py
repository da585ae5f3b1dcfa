"""How well default specs train: every built-in table over three seeds, through the public API, against its bar.

Boston is the article's network with the article's values on Keras' split; it needs SELFNORM_DATASETS_DIR or internet.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.processes import Service, running

SEEDS = (0, 1, 2)
BARS = {
    "breast_cancer": ("accuracy", 0.95),
    "digits": ("accuracy", 0.95),
    "wine": ("accuracy", 0.94),
    "iris": ("accuracy", 0.94),
    "diabetes": ("r2", 0.25),
    "boston_housing": ("r2", 0.74),
}
ARTICLE: dict[str, Any] = {
    "target": "MEDV",
    "task": "regression",
    "network": {"kind": "snn", "hidden_layers": 20, "units": 100, "dropout": 0.0},
    "training": {
        "optimizer": "nadam",
        "learning_rate": 0.0007,
        "epochs": 50,
        "batch_size": 32,
        "validation_fraction": 0.2,
        "test_fraction": None,
        "early_stopping": None,
    },
}


def main() -> int:
    """Train, print a line for each table, and return 1 if one misses its bar."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        for dataset, (metric, bar) in BARS.items():
            jobs = [service.wait_for(job, seconds=600) for job in [_submit(service, dataset, seed) for seed in SEEDS]]
            scores = [job["metrics"]["test"][metric] for job in jobs]
            mean = statistics.mean(scores)
            missed += mean < bar
            verdict = "holds" if mean >= bar else "MISSED"
            shown = ", ".join(f"{score:.3f}" for score in scores)
            print(f"{dataset:15} {metric:8} mean {mean:.3f} ({shown})  bar {bar}  {verdict}", flush=True)
    return 1 if missed else 0


def _submit(service: Service, dataset: str, seed: int) -> str:
    base = ARTICLE if dataset == "boston_housing" else {"training": {"test_fraction": 0.25}}
    job = service.post("/jobs", **{**base, "dataset": dataset, "training": {**base["training"], "seed": seed}})
    return str(job["id"])


if __name__ == "__main__":
    sys.exit(main())
