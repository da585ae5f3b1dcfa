"""What MLflow's own scoring client gets from the service; runs in the clients' environment."""

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

# The client looks for scipy.sparse in a way that fails where there is no scipy: an empty one is found not to have it.
scipy: Any = ModuleType("scipy")
scipy.__path__ = []
sys.modules.setdefault("scipy", scipy)


def refusal(work: Any) -> str:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # the client raises no other kind
        return str(error)
    raise AssertionError("this should have been refused")


def main() -> None:
    asked = json.load(sys.stdin)
    host, port = asked["url"].split(":")
    client = ScoringServerClient(host, port)
    client.wait_server_ready(timeout=30)
    people = pd.DataFrame(asked["people"])
    answers = {
        "frame": client.invoke(people),
        "with another column": client.invoke(people.assign(price=1.0), params={}),
        "lists": client.invoke(people.astype(object).where(people.notna(), None).to_numpy().tolist()),
        "records": client.invoke(json.dumps({"dataframe_records": asked["people"]})),
    }
    found = {
        "version": client.get_version(),
        "predictions": {name: answer["predictions"] for name, answer in answers.items()},
        "as a frame": answers["frame"].get_predictions().to_dict("list"),
        "as an array": np.asarray(answers["frame"].get_predictions("ndarray", "float64")).tolist(),
        "wrong": refusal(lambda: client.invoke(people.drop(columns="weight"))),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
