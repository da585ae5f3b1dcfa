"""How well default jobs do on real, messy tables: uploaded as they are, one request each, against their bars.

Every table of the folder of shared data goes in as one file and trains with its data set and target alone (features are
named where a column should not be taken as it is), with three seeds and a quarter of the rows held out. The held-out
rows are then sent to /predict as the file has them, gaps and categories included, and must score what the job said.
``python -m benchmarks.tables FOLDER [TABLE ...]``
"""

import csv
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

from tests.processes import Service, running

SEEDS = (0, 1, 2)
ROWS_AT_ONCE = 5_000
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Case:
    """A table, what to predict, and how well."""

    files: tuple[str, ...]
    target: str
    metric: str
    bar: float
    features: tuple[str, ...] | None = None


CASES = {
    "adult": Case(("tabular/adult_train.csv", "tabular/adult_test.csv"), "income", "accuracy", 0.845),
    "bank_marketing": Case(("tabular/bank_marketing_4521.csv",), "y", "auc", 0.86),
    "california_housing": Case(("tabular/california_housing.csv",), "median_house_value", "r2", 0.76),
    "titanic": Case(
        ("tabular/titanic.csv",),
        "Survived",
        "accuracy",
        0.78,
        ("Pclass", "Sex", "Age", "SibSp", "Parch", "Fare", "Embarked"),
    ),
    "penguins": Case(("tabular/penguins.csv",), "species", "accuracy", 0.96),
    "credit_approval": Case(("tabular/credit_approval.csv",), "A16", "accuracy", 0.83),
    "auto_mpg": Case(("tabular/auto_mpg.csv",), "mpg", "r2", 0.82),
    "concrete": Case(("regression/concrete.csv",), "strength_mpa", "r2", 0.84),
    "energy_heating": Case(("regression/energy_heating.csv",), "heating_load", "r2", 0.95),
    "yacht": Case(("regression/yacht.csv",), "residuary_resistance", "r2", 0.9),
    "wine_quality_red": Case(("regression/wine_quality_red.csv",), "quality", "accuracy", 0.55),
}


def main() -> int:
    """Run every case, print a line for each, and return 1 if one misses its bar."""
    folder, *names = sys.argv[1:]
    missed = 0
    with tempfile.TemporaryDirectory() as data_dir, running(Path(data_dir) / "data") as service:
        for name in names or CASES:
            case = CASES[name]
            content = joined([Path(folder) / file for file in case.files])
            scores = _scores(service, name, case, content)
            mean = statistics.mean(scores)
            missed += mean < case.bar
            verdict = "holds" if mean >= case.bar else "MISSED"
            shown = ", ".join(f"{score:.3f}" for score in scores)
            print(f"{name:18} {case.metric:8} mean {mean:.3f} ({shown})  bar {case.bar}  {verdict}", flush=True)
    return 1 if missed else 0


def _scores(service: Service, name: str, case: Case, content: bytes) -> list[float]:
    answer = service.client.post(f"/datasets?name={name}", content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    for warning in dataset["warnings"]:
        print(f"    {warning}", flush=True)
    body = {"dataset": dataset["id"], "target": case.target, "model": name}
    if case.features:
        body["features"] = list(case.features)
    jobs = [service.post("/jobs", **body, training={"seed": seed, "test_fraction": 0.25})["id"] for seed in SEEDS]
    scores = []
    for job_id in jobs:
        job = service.wait_for(job_id, seconds=1200)
        assert job["state"] == "succeeded", job["error"]
        said = job["metrics"]["test"][case.metric]
        found = _score_of_raw_rows(service, job, case, content)
        assert abs(said - found) < TOLERANCE, f"{name}: the job says {said}, its raw rows score {found}"
        scores.append(said)
    return scores


def _score_of_raw_rows(service: Service, job: dict[str, Any], case: Case, content: bytes) -> float:
    """Send the held-out rows of the file to /predict, cells as the file has them, and score the answers."""
    version = service.client.get(f"/models/{job['model']['name']}/versions/{job['model']['version']}").json()
    lines = service.client.get(f"/jobs/{job['id']}/split/rows").text.splitlines()[1:]
    held_out = {int(row) for row, part in (line.split(",") for line in lines) if part == "test"}
    rows = [row for number, row in enumerate(_rows(content)) if number in held_out]
    instances = [
        {column["name"]: _cell(row[column["name"]], column["encoder"]) for column in version["inputs"]} for row in rows
    ]
    answers: dict[str, list[Any]] = {"predictions": [], "probabilities": []}
    for start in range(0, len(instances), ROWS_AT_ONCE):
        asked = {**job["model"], "instances": instances[start : start + ROWS_AT_ONCE]}
        answer = service.post("/predict", model=asked["name"], version=asked["version"], instances=asked["instances"])
        for key in answers:
            answers[key] += answer.get(key, [])
    truth = [row[case.target] for row in rows]
    if case.metric == "accuracy":
        return float(metrics.accuracy_score(truth, list(map(str, answers["predictions"]))))
    if case.metric == "auc":
        positive = version["output"]["classes"][1]
        return float(metrics.roc_auc_score(np.array(truth) == positive, np.array(answers["probabilities"])[:, 1]))
    return float(metrics.r2_score(np.array(truth, float), answers["predictions"]))


def _rows(content: bytes) -> list[dict[str, str]]:
    lines = content.decode().splitlines()
    return list(csv.DictReader(lines, delimiter=";" if lines[0].count(";") > lines[0].count(",") else ","))


def _cell(text: str, encoder: dict[str, Any]) -> Any:
    """Return a cell of the file as JSON has it: numbers as numbers, the rest as it stands there."""
    if encoder["kind"] == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    is_number = encoder["kind"] == "numeric" or encoder.get("holds") == "number"
    try:
        return float(text) if is_number and text.lower() != "nan" else text
    except ValueError:
        return text


def joined(files: list[Path]) -> bytes:
    """Join files under the header of the first."""
    first, *others = (file.read_bytes().rstrip(b"\n") + b"\n" for file in files)
    return first + b"".join(other.split(b"\n", 1)[1] for other in others)


if __name__ == "__main__":
    sys.exit(main())
