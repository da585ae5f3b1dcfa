"""Pictures of a comparison, on both databases."""

import pytest
from fastapi.testclient import TestClient

from service.domain.jobs import EpochRecord
from service.storage import leases
from service.storage.database import Database
from service.use_cases.comparison_plots import find_comparison_plot
from tests.api.comparing import (
    all_trained,
    claimed,
    failed,
    ids_of,
    submit,
    trained,
)
from tests.api.support import problem, queries
from tests.factories import progress


def test_plots_show_all_arms_in_one_picture(client: TestClient, database: Database) -> None:
    comparison = submit(client, arms=None, depths=[1, 2], units=4)
    path = f"/comparisons/{comparison['id']}/plots"
    for name in ("learning_curves", "critical_difference", "depth_sweep"):
        assert problem(client.get(f"{path}/{name}"), 409)["code"] == "nothing_to_draw"
    all_trained(database, comparison)
    for name in ("learning_curves", "critical_difference", "depth_sweep"):
        vector = client.get(f"{path}/{name}.svg")
        assert vector.headers["content-type"] == "image/svg+xml"
        for arm in ("snn", "regular") if name == "depth_sweep" else ("snn-1", "regular-2"):
            assert arm in vector.text
        picture = client.get(f"{path}/{name}", headers={"Accept": "image/png"})
        assert picture.content.startswith(b"\x89PNG")
        tag = {"If-None-Match": vector.headers["etag"]}
        assert client.get(f"{path}/{name}.svg", headers=tag).status_code == 304
    assert "accuracy" in client.get(f"{path}/learning_curves?metric=val_accuracy").text
    refusal = problem(client.get(f"{path}/learning_curves?metric=rmse"), 422)
    assert refusal["errors"][0]["pointer"] == "?metric"
    assert problem(client.get(f"{path}/activations"), 404)["code"] == "unknown_plot"


def test_comparison_without_depths_has_no_depth_sweep(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0])
    all_trained(database, comparison)
    for name in ("depth_sweep", "critical_difference"):
        body = problem(client.get(f"/comparisons/{comparison['id']}/plots/{name}"), 409)
        assert body["code"] == "nothing_to_draw"


@pytest.mark.parametrize("path", ["", "/plots/learning_curves", "/plots/critical_difference"])
def test_what_the_client_has_is_not_read(client: TestClient, database: Database, path: str) -> None:
    comparison = submit(client)
    all_trained(database, comparison)
    path = f"/comparisons/{comparison['id']}{path}"
    tag = client.get(path).headers["etag"]
    with queries(database) as asked:
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert len(asked) == 1
    assert "epochs" not in asked[0]
    assert client.get(path).headers["etag"] == tag


def test_nothing_of_a_picture_is_read_before_its_turn(client: TestClient, database: Database) -> None:
    comparison = submit(client)
    all_trained(database, comparison)
    with queries(database) as asked:
        plot = find_comparison_plot(database, comparison["id"], "learning_curves", "svg")
        assert not any("epochs" in statement for statement in asked)
        picture = plot.draw()
    assert any("epochs" in statement for statement in asked)
    assert picture.sha256 == plot.sha256


def test_ranks_and_depths_need_one_epoch_of_each_job(client: TestClient, database: Database) -> None:
    comparison = submit(client, arms=None, depths=[1, 2], units=4)
    all_trained(database, comparison)
    for name in ("critical_difference", "depth_sweep"):
        with queries(database) as asked:
            assert client.get(f"/comparisons/{comparison['id']}/plots/{name}").status_code == 200
        assert not any("ORDER BY epochs.job_id" in statement for statement in asked)


def test_curves_are_those_of_seeds_that_succeeded(client: TestClient, database: Database) -> None:
    comparison = submit(client, seeds=[0, 1, 2])
    path = f"/comparisons/{comparison['id']}/plots/learning_curves?metric=val_accuracy"
    snn, regular = ids_of(comparison, "snn"), ids_of(comparison, "regular")
    trained(database, snn[0], 0.9, 0.5)
    begun(database, snn[1], 0.1, 1.0)
    failed(database, snn[2])
    begun(database, regular[0], 0.2, 0.3, 0.1)
    failed(database, regular[1])
    drawn = client.get(path).text
    assert "snn, best epoch 1<" in drawn
    assert "regular (not finished), best epoch 2<" in drawn
    assert "standard deviation" not in drawn, "there is one seed of each"


def begun(database: Database, job_id: str, *accuracies: float) -> None:
    """Let a job run whose epochs came to these validation accuracies."""
    held = claimed(database, job_id)
    records = [EpochRecord(epoch, {"val_accuracy": one}, 0.001, 0.5) for epoch, one in enumerate(accuracies, 1)]
    with database.write() as connection:
        leases.record(connection, held, progress(len(records)), 1, records)
