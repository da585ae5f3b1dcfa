"""GET /jobs/{id}/plots/{name} on both databases."""

import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from xml.etree import ElementTree

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.domain.diagnostics import Diagnosis, HeldOut, Histogram, Histograms, LayerDiagnosis
from service.domain.jobs import EpochRecord
from service.storage import curves, diagnostics, jobs
from service.storage.database import Database
from service.use_cases.plots import PLOT_NAMES, PlotName, find_plot
from tests.api.support import problem, queries
from tests.factories import stored_job

SVG, PNG = "image/svg+xml", "image/png"
MEASURED = len(fields(LayerDiagnosis)) - 2
CLASSES = HeldOut("test", ("setosa", "versicolor"), ((9, 1), (0, 10)))
NUMBERS = HeldOut("test", truth=(1.0, 2.0, 3.0), predicted=(1.5, 2.0, 2.0))


def diagnosis(epoch: int) -> Diagnosis:
    histogram = Histogram(-1.0, 1.0, (1, 4, 9, 4, 1))
    layers = tuple(LayerDiagnosis(number, 100, *[0.9] * MEASURED) for number in (1, 2, 3))
    return Diagnosis(epoch, layers, Histograms((histogram,) * 3, (histogram,) * 3))


def add_epoch(database: Database, epoch: int) -> None:
    metrics = {"loss": 1 / epoch, "val_loss": 1.1 / epoch, "accuracy": 0.5, "val_accuracy": None}
    with database.write() as connection:
        jobs.add_epochs(connection, "job-1", [EpochRecord(epoch, dict(metrics), 0.001, 0.5)])
        diagnostics.add(connection, "job-1", [diagnosis(epoch)])


@pytest.fixture
def trained(client: TestClient, database: Database) -> TestClient:
    """A service with a job of two epochs that has held rows out."""
    stored_job(database, network={"hidden_layers": 3})
    for epoch in (1, 2):
        add_epoch(database, epoch)
    with database.write() as connection:
        diagnostics.keep_held_out(connection, "job-1", CLASSES)
    return client


def title(content: bytes) -> str:
    """All texts of an SVG."""
    root = ElementTree.fromstring(content)  # noqa: S314  # our own
    return " ".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))


def test_every_plot_is_drawn_as_svg_and_as_png(trained: TestClient, database: Database) -> None:
    for name in PLOT_NAMES:
        if name == "residuals":
            with database.write() as connection:
                diagnostics.keep_held_out(connection, "job-1", NUMBERS)
        drawn = trained.get(f"/jobs/job-1/plots/{name}.svg", headers={"Accept": "application/json"})
        assert (drawn.status_code, drawn.headers["content-type"]) == (200, SVG), drawn.text
        assert ElementTree.fromstring(drawn.content).tag.endswith("svg")  # noqa: S314
        assert drawn.headers["x-content-type-options"] == "nosniff"
        policy = drawn.headers["content-security-policy"]
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        image = trained.get(f"/jobs/job-1/plots/{name}.png")
        assert (image.status_code, image.headers["content-type"]) == (200, PNG)
        assert image.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [(None, SVG), ("*/*", SVG), ("image/*", SVG), (PNG, PNG), (f"{SVG};q=0.5, {PNG}", PNG), (f"{SVG}, */*;q=0.1", SVG)],
)
def test_form_follows_accept(trained: TestClient, accept: str | None, kind: str) -> None:
    trained.headers.pop("accept", None)
    drawn = trained.get("/jobs/job-1/plots/activations", headers={} if accept is None else {"Accept": accept})
    assert (drawn.status_code, drawn.headers["content-type"], drawn.headers["vary"]) == (200, kind, "Accept")


def test_other_forms_are_not_acceptable(trained: TestClient) -> None:
    refused = problem(trained.get("/jobs/job-1/plots/weights", headers={"Accept": "application/pdf"}), 406)
    assert (refused["code"], SVG in refused["detail"], PNG in refused["detail"]) == ("not_acceptable", True, True)


@pytest.mark.parametrize("name", ["weight", "weights.pdf", "weights.svg.png", ".svg", "WEIGHTS"])
def test_unknown_plot_names_those_there_are(trained: TestClient, name: str) -> None:
    refused = problem(trained.get(f"/jobs/job-1/plots/{name}"), 404)
    assert refused["code"] == "unknown_plot"
    assert all(known in refused["detail"] for known in PLOT_NAMES)


def test_unknown_job(client: TestClient) -> None:
    assert problem(client.get("/jobs/nobody/plots/weights"), 404)["code"] == "unknown_job"


@pytest.mark.parametrize("name", PLOT_NAMES)
def test_job_without_values_says_when_there_will_be_some(client: TestClient, database: Database, name: str) -> None:
    stored_job(database)
    refused = problem(client.get(f"/jobs/job-1/plots/{name}"), 409)
    assert refused["code"] == "nothing_to_draw"
    assert re.search(r"first epoch|succeeds", refused["detail"])


def test_residuals_of_a_classification_name_the_other_plot(trained: TestClient) -> None:
    assert "confusion_matrix" in problem(trained.get("/jobs/job-1/plots/residuals"), 409)["detail"]


def test_layer_is_the_last_or_the_one_that_is_named(trained: TestClient) -> None:
    assert "weights of layer 3" in title(trained.get("/jobs/job-1/plots/weights").content)
    assert "weights of layer 1" in title(trained.get("/jobs/job-1/plots/weights?layer=1").content)
    refused = problem(trained.get("/jobs/job-1/plots/activation_histograms?layer=4"), 422)
    assert refused["errors"] == [{"pointer": "?layer", "detail": "the network has the hidden layers 1 to 3; got 4"}]
    for wrong in ("0", "-1", "x", "1.5", "99999999999999999999"):
        assert problem(trained.get(f"/jobs/job-1/plots/weights?layer={wrong}"), 422)["errors"][0]["pointer"] == "?layer"


def test_metric_is_the_one_that_is_named(trained: TestClient) -> None:
    both = title(trained.get("/jobs/job-1/plots/learning_curves").content)
    assert "loss" in both
    assert "accuracy" in both
    assert "accuracy" not in title(trained.get("/jobs/job-1/plots/learning_curves?metric=val_loss").content)
    refused = problem(trained.get("/jobs/job-1/plots/learning_curves?metric=$r2"), 422)
    assert refused["errors"] == [{"pointer": "?metric", "detail": "must be one of loss, accuracy; got '$r2'"}]


def test_tag_lasts_until_another_epoch_ends(trained: TestClient, database: Database) -> None:
    address = "/jobs/job-1/plots/gradients.svg"
    first = trained.get(address)
    tag = {"If-None-Match": first.headers["etag"]}
    unchanged = trained.get(address, headers=tag)
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", first.headers["etag"])
    assert trained.get(address).content == first.content
    assert trained.get("/jobs/job-1/plots/gradients.png", headers=tag).status_code == 200
    add_epoch(database, 3)
    assert trained.get(address, headers=tag).status_code == 200


def test_many_at_once_are_all_drawn(trained: TestClient) -> None:
    with ThreadPoolExecutor(6) as pool:
        drawn = list(
            pool.map(lambda number: trained.get(f"/jobs/job-1/plots/weights?layer={1 + number % 3}"), range(6))
        )
    assert [one.status_code for one in drawn] == [200] * 6
    assert drawn[0].content == drawn[3].content != drawn[1].content


def test_plots_are_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/jobs/{job_id}/plots/{name}"]["get"]
    assert described["responses"]["200"]["content"].keys() == {SVG, PNG}
    assert described["responses"].keys() >= {"200", "304", "406", "default"}
    [name] = [one for one in described["parameters"] if one["name"] == "name"]
    assert {"weights", "weights.svg", "residuals.png"} <= set(name["schema"]["enum"])
    assert {one["name"] for one in described["parameters"]} == {"job_id", "name", "layer", "metric"}


@pytest.mark.parametrize(
    ("name", "column", "others"),
    [
        ("activations", "diagnostics.layers", ("histograms",)),
        ("gradients", "diagnostics.layers", ("histograms",)),
        ("weights", "diagnostics.histograms", ("diagnostics.layers",)),
        ("activation_histograms", "diagnostics.histograms", ("diagnostics.layers",)),
        ("learning_curves", "epochs.metrics", ("diagnostics",)),
    ],
)
def test_only_what_is_drawn_is_read_and_only_in_its_turn(
    trained: TestClient, database: Database, name: PlotName, column: str, others: tuple[str, ...]
) -> None:
    with queries(database) as asked:
        plot = find_plot(database, "job-1", name, "svg")
        assert (len(asked), column in asked[0]) == (1, False)
        plot.draw()
    assert any(column in statement for statement in asked)
    assert not any(other in statement for statement in asked for other in others)


def test_histograms_are_read_of_one_layer(trained: TestClient, database: Database) -> None:
    with database.read() as connection:
        weights = diagnostics.read_histograms(connection, "job-1", "weights", 3)
        assert diagnostics.read_histograms(connection, "job-1", "activations", 4) == []
        seen = diagnostics.read(connection, "job-1", histograms=False)
        whole = diagnostics.read(connection, "job-1")
    assert weights == [(one.epoch, one.histograms.weights[2]) for one in whole]
    assert [one.layers for one in seen] == [one.layers for one in whole]
    assert {one.histograms for one in seen} == {Histograms((), ())}


def test_curves_are_read_metric_by_metric_and_thinned_out(client: TestClient, database: Database) -> None:
    for job_id in ("job-1", "job-2", "job-3"):
        stored_job(database, job_id)
    values: list[float | None] = [0.1, 0.30000000000000004, None, 1e300, 5.0, 6.0, 7.0]
    records = [EpochRecord(epoch, {"val_loss": value}, 0.1, 1.0) for epoch, value in enumerate(values, 1)]
    with database.write() as connection:
        jobs.add_epochs(connection, "job-1", records)
        jobs.add_epochs(connection, "job-2", records[:2])
    with database.read() as connection:
        found = curves.read(connection, ["job-1", "job-2", "job-3"], ["val_loss", "loss"])
        thin = curves.read(connection, ["job-1"], ["val_loss"], every=3, besides=[6])["job-1"]
        assert curves.names(connection, ["job-1", "job-2"]) == ["val_loss"]
    assert found.keys() == {"job-1", "job-2"}
    assert found["job-1"].epochs.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert found["job-1"].values["val_loss"].tolist() == pytest.approx([0.1, 0.3, math.nan, *values[3:]], nan_ok=True)
    assert np.isnan(found["job-1"].values["loss"]).all()
    assert found["job-2"].values["val_loss"].tolist() == values[:2]
    assert (thin.epochs.tolist(), thin.values["val_loss"].tolist()) == ([1, 4, 6, 7], [0.1, 1e300, 6.0, 7.0])
