from fastapi.testclient import TestClient

from service.storage.database import Database
from tests.api.support import problem, register_model


def test_inputs_say_what_a_version_was_asked(client: TestClient, database: Database) -> None:
    register_model(database)
    nothing = client.get("/models/m/versions/1/inputs").json()
    assert (nothing["rows"], nothing["recent"]["rows"], nothing["updated_at"]) == (0, 0, None)
    rows = [[1, -1], [-1, 1], [0, 100]]
    answer = client.post("/predict", json={"model": "m", "instances": rows}).json()
    [warning] = answer["warnings"]
    assert warning.startswith("row 2, column 'b': lies 100 standard deviations above the mean of the training rows")
    found = client.get("/models/m/versions/1/inputs").json()
    assert (found["model"], found["version"], found["rows"], found["far_rows"]) == ("m", 1, 3, 1)
    assert found["far"] == {"b": 1}
    assert found["recent"]["columns"][0] == {"name": "a", "mean": 0.0, "variance": 2 / 3}
    assert found["domain"] == {"mean": [-0.1, 0.1], "variance": [0.8, 1.5]}


def test_inputs_of_what_there_is_not_are_not_found(client: TestClient, database: Database) -> None:
    assert problem(client.get("/models/x/versions/1/inputs"), 404)["code"] == "unknown_model"
    register_model(database)
    assert problem(client.get("/models/m/versions/2/inputs"), 404)["code"] == "unknown_version"


def test_metrics_count_rows_and_far_rows(client: TestClient, database: Database) -> None:
    name = f"counted-{database.dialect}"  # the counts are those of the whole process
    register_model(database, name)
    client.post("/predict", json={"model": name, "instances": [[1, 2], [0, -100]]})
    lines = client.get("/metrics").text.splitlines()
    assert f'selfnorm_prediction_rows_total{{model="{name}",owner="local",version="1"}} 2.0' in lines
    assert f'selfnorm_input_far_rows_total{{model="{name}",owner="local",version="1"}} 1.0' in lines
    client.post("/predict", json={"model": name, "instances": [[1, 2]]})
    lines = client.get("/metrics").text.splitlines()
    assert f'selfnorm_prediction_rows_total{{model="{name}",owner="local",version="1"}} 3.0' in lines
