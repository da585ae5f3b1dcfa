"""The Python client against the service as a user runs it, across connections that break and parts that are killed."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.api.views.jobs import JobView
from service.client import (
    AsyncClient,
    Client,
    Conflict,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobTimeout,
    NotFound,
    SelfnormError,
    UnexpectedAnswer,
    comparisons,
    datasets,
    health,
    jobs,
    models,
    predictions,
    training,
    webhooks,
)
from service.client.steps import Call, Listing
from service.domain.jobs import EventKind, JobState
from tests.chaos.proxy import RESET_ON_CLOSE
from tests.documents import ROOT, blocks, reading
from tests.processes import Service, running

NO_END = 2**60
TINY: dict[str, Any] = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 2, "batch_size": 64}}
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0], [5.9, 2.8, 4.2, 1.3]]
HOUSES = pd.DataFrame(
    {
        "size": [40.0 + row for row in range(80)],
        "city": pd.Series(["Bern", "Basel", None, "Thun"] * 20, dtype=object),
        "built": pd.date_range("1990-01-01", periods=80, freq="30D"),
        "price": [200.0 + 3 * row + 20 * (row % 4) for row in range(80)],
    }
).set_index(pd.RangeIndex(1000, 1080))
HOUSES.loc[1005, ["size", "built"]] = None


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("client")) as started:
        yield started


@pytest.fixture(scope="module")
def url(service: Service) -> str:
    return str(service.client.base_url).rstrip("/")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url, retries=8) as opened:
        yield opened


@pytest.fixture(scope="module")
def flowers(client: Client) -> JobView:
    """A classification of iris, with a model of the same name."""
    return client.train("iris", **TINY)


@pytest.fixture(scope="module")
def houses(client: Client) -> JobView:
    """A regression on a table with gaps, categories and dates; its model is called homes."""
    return client.train(HOUSES, target="price", name="houses", model="homes", **TINY)


class CuttingProxy:
    """Forwards to a port of this machine; resets a connection when told: once the request has been served, or before.

    ``answers_to_lose`` counts down: so many answers are lost when they begin to come. ``bytes_to_take`` are how many
    bytes of requests still get through before one is cut off.
    """

    def __init__(self, port: int) -> None:
        self.answers_to_lose = 0
        self.requests_cut = 0
        self.bytes_to_take = NO_END
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "CuttingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                here = self._listener.accept()[0]
                try:
                    there = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # nobody listens for the moment
                    _close(here)
                    continue
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(here, there), daemon=True).start()

    def _ask(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(1 << 16):
                self.bytes_to_take -= len(data)
                if self.bytes_to_take < 0:
                    self.bytes_to_take = NO_END
                    self.requests_cut += 1
                    _reset(here, there)
                    return
                there.sendall(data)
        _close(there)

    def _answer(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := there.recv(1 << 16):
                if self.answers_to_lose > 0:
                    self.answers_to_lose -= 1
                    _reset(here, there)
                    return
                here.sendall(data)
        _close(here)


def _reset(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            each.shutdown(socket.SHUT_RD)
        each.close()


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@pytest.fixture
def cutting(service: Service) -> Iterator[CuttingProxy]:
    port = service.client.base_url.port
    assert port is not None
    with CuttingProxy(port) as proxy:
        yield proxy


# What makes something, and is asked again


def test_answers_that_are_lost_make_nothing_twice(
    client: Client, cutting: CuttingProxy, flowers: JobView, tmp_path: Path
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("a,b\n" + "1,2\n" * 50)
    made: list[tuple[Callable[[Client], Any], Callable[[], int]]] = [
        (lambda there: there.datasets.upload(file), lambda: count(client.datasets.list())),
        (
            lambda there: there.datasets.upload(OneWay(b"a,b\n1,2\n3,4\n"), "once"),
            lambda: count(client.datasets.list()),
        ),
        (lambda there: there.datasets.upload(HOUSES), lambda: count(client.datasets.list())),
        (lambda there: there.jobs.submit(dataset="iris", **TINY), lambda: count(client.jobs.list())),
        (
            lambda there: there.comparisons.submit(dataset="iris", seeds=[0], arms={"snn": TINY["network"]}),
            lambda: count(client.comparisons.list()),
        ),
        (
            lambda there: there.predictions.submit(model="iris", dataset="iris"),
            lambda: count(client.predictions.list()),
        ),
        (lambda there: there.models.evaluate("iris", 1, "iris"), lambda: count(client.predictions.list())),
    ]
    with Client(cutting.url) as there:
        assert there.ready()
        for make, number in made:
            before = number()
            cutting.answers_to_lose = 2
            assert make(there).id
            assert cutting.answers_to_lose == 0
            assert number() == before + 1
    cancel_everything(client)


def test_lost_answer_to_a_rollback_goes_back_one_step_only(
    client: Client, cutting: CuttingProxy, flowers: JobView
) -> None:
    client.jobs.wait(client.jobs.submit(dataset="iris", **TINY))
    for version in (1, 2, 1):
        client.models.set_alias("iris", "staging", version)
    with Client(cutting.url) as there:
        assert there.ready()
        cutting.answers_to_lose = 1
        assert there.models.rollback("iris", "staging").version == 2
        # What is gone when it is asked to go again was removed by the first try.
        cutting.answers_to_lose = 1
        there.models.delete_alias("iris", "staging")
    assert client.models.aliases("iris") == []


def test_upload_that_breaks_off_is_sent_again_from_its_beginning(client: Client, cutting: CuttingProxy) -> None:
    content = b"a,b\n" + b"".join(b"%d,%d\n" % (row, row % 7) for row in range(100_000))
    with Client(cutting.url) as there:
        for source in (io.BytesIO(content), OneWay(content)):
            assert there.ready()
            cutting.bytes_to_take = 300_000
            stored = there.datasets.upload(source, "broken")
            assert stored.rows == 100_000
            client.datasets.delete(stored)
    assert cutting.requests_cut == 2


def test_every_route_that_takes_a_key_is_asked_with_one_and_none_is_left_out(client: Client) -> None:
    uses: list[Any] = [
        *(datasets.list_all(), datasets.get("1"), datasets.rows("1"), datasets.rename("1", "x"), datasets.delete("1")),
        *(
            jobs.submit(dataset="x"),
            jobs.get("1"),
            jobs.list_all(),
            jobs.cancel("1"),
            jobs.pause("1"),
            jobs.resume("1"),
        ),
        *(jobs.retry("1"), jobs.delete("1"), jobs.metrics("1"), jobs.events("1"), jobs.diagnostics("1")),
        *(jobs.plot("1", "weights"), jobs.split("1"), jobs.split_rows("1"), training.probe(dataset="x")),
        *(models.list_all(), models.get("m"), models.version("m", 1), models.delete_version("m", 1)),
        *(models.aliases("m"), models.alias("m", "a"), models.set_alias("m", "a", 1), models.rollback("m", "a")),
        *(models.delete_alias("m", "a"), models.card("m", 1), models.evaluate("m", 1, "d"), models.inputs("m", 1)),
        *(predictions.submit(model="m"), predictions.get("1"), predictions.list_all(), predictions.cancel("1")),
        *(predictions.delete("1"), comparisons.submit(dataset="x"), comparisons.get("1"), comparisons.list_all()),
        *(comparisons.plot("1", "ranks"), comparisons.cancel("1"), comparisons.delete("1"), health.version()),
        *(webhooks.create("https://x", []), webhooks.get("1"), webhooks.list_all(), webhooks.change("1")),
        *(webhooks.rotate_secret("1"), webhooks.test("1"), webhooks.deliveries("1"), webhooks.retry("1", 1)),
        webhooks.delete("1"),
    ]
    calls = [use.page(None) if isinstance(use, Listing) else use for use in uses]
    asked = {(call.exchange.method, call.exchange.path): call.creates for call in calls if isinstance(call, Call)}
    # These take several steps: a file is opened or made before anything is sent.
    asked |= {("POST", "/datasets"): True, ("POST", "/predict"): False}
    asked |= dict.fromkeys(
        [("GET", "/models/m/versions/1/files/model.onnx"), ("GET", "/predictions/1/result"), ("GET", "/readyz")], False
    )
    described = httpx2.get(f"{client.url}/openapi.json").json()["paths"]
    native = (
        "/datasets",
        "/jobs",
        "/models",
        "/predict",
        "/predictions",
        "/comparisons",
        "/webhooks",
        "/probe",
        "/version",
        "/readyz",
    )
    there = {
        (method.upper(), path): any(item["name"] == "Idempotency-Key" for item in route.get("parameters", ()))
        for path, methods in described.items()
        for method, route in methods.items()
        if re.match(rf"({'|'.join(native)})(/|$)", path)
    }
    for (method, path), takes_key in there.items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        found = [keyed for (verb, address), keyed in asked.items() if verb == method and pattern.fullmatch(address)]
        assert takes_key in found, (method, path)


# Tables


def test_frame_comes_back_as_it_went_in_but_for_its_index(client: Client, houses: JobView) -> None:
    stored = client.datasets.get(houses.spec.dataset)
    assert (stored.name, stored.rows) == ("houses", 80)
    assert [(column.name, column.kind, column.missing) for column in stored.columns] == [
        ("size", "numeric", 1),
        ("city", "categorical", 20),
        ("built", "date", 1),
        ("price", "numeric", 0),
    ]
    rows = list(client.datasets.rows(stored))
    assert [row["size"] for row in rows] == [None if row == 5 else 40.0 + row for row in range(80)]
    assert [row["city"] for row in rows] == HOUSES["city"].tolist()


def test_frames_of_every_package_are_stored_alike(client: Client) -> None:
    cells = {"x": [1.5, None, 2.5], "word": ["a", "b", None], "flag": [True, False, True]}
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    written = io.BytesIO()
    pq.write_table(pa.table(cells), written)
    sources = [pd.DataFrame(cells), pl.DataFrame(cells), pa.table(cells), written.getvalue(), rows]
    for source in sources:
        stored = client.datasets.upload(source, "alike", kinds={"word": "categorical"})
        assert list(client.datasets.rows(stored)) == rows, type(source)
        client.datasets.delete(stored)


def test_upload_can_be_changed_and_words_can_stand_for_gaps(client: Client) -> None:
    content = b"zip,x\n" + b"1,-999\n2,5\n" * 20
    stored = client.datasets.upload(content, "codes", kinds={"zip": "categorical"}, missing=["-999"])
    assert [(column.kind, column.missing) for column in stored.columns] == [("categorical", 0), ("numeric", 20)]
    assert client.datasets.rename(stored, "towns").name == "towns"
    assert client.datasets.set_kinds(stored.id, {"zip": "numeric"}).columns[0].kind == "numeric"
    client.datasets.delete(stored.id)
    with pytest.raises(NotFound) as raised:
        client.datasets.get(stored.id)
    assert raised.value.code == "unknown_dataset"


def test_lists_are_read_page_by_page(client: Client) -> None:
    rows = list(client.datasets.rows("diabetes"))
    assert len(rows) == client.datasets.get("diabetes").rows > 100
    assert len(list(islice(client.datasets.rows("digits"), 5))) == 5
    assert {"iris", "wine", "digits"} <= {dataset.id for dataset in client.datasets.list()}


# Jobs


def test_progress_is_told_while_a_job_is_waited_for(client: Client) -> None:
    seen: list[JobView] = []
    job = client.train("iris", progress=seen.append, **TINY)
    assert seen[-1] == job
    assert {each.id for each in seen} == {job.id}
    assert job.state == JobState.SUCCEEDED
    assert [epoch["epoch"] for epoch in client.jobs.metrics(job)] == [1, 2]
    assert client.jobs.split_rows(job).count("training") == client.jobs.split(job).training_rows
    assert client.jobs.diagnostics(job, histograms=True).items[0].weights
    assert client.jobs.plot(job, "learning_curves").startswith(b"<?xml")
    assert client.jobs.plot(job, "weights", "png", layer=1).startswith(b"\x89PNG")
    assert [event.event for event in client.jobs.events(job)][-1] == EventKind.SUCCEEDED


def test_job_is_followed_across_a_killed_api_and_cut_connections(
    service: Service, client: Client, cutting: CuttingProxy
) -> None:
    training = {"epochs": 100_000, "early_stopping": None, "batch_size": 64}
    job = client.jobs.submit(dataset="iris", network=TINY["network"], training=training)
    ids: list[int] = []
    faults: list[Callable[[], object]] = [
        lambda: os.kill(service.children("service.cli api")[0], signal.SIGKILL),
        lambda: setattr(cutting, "answers_to_lose", 1),
        lambda: client.jobs.cancel(job),
    ]
    with Client(cutting.url) as there:
        assert there.ready()
        epochs = 0
        for update in there.jobs.watch(job):
            ids.append(update.event.id)
            epochs += update.kind == EventKind.EPOCH
            if faults and epochs >= 2:
                faults.pop(0)()
                epochs = 0
        assert update.is_final
        assert update.kind == EventKind.CANCELLED
    assert faults == []
    assert ids == list(range(1, len(ids) + 1))
    assert len(list(client.jobs.events(job))) == len(ids)
    with pytest.raises(JobCancelled) as raised:
        client.jobs.wait(job)
    assert raised.value.job.state == JobState.CANCELLED
    # There is nothing behind its end, and that is found out at once.
    assert [update.event.id for update in client.jobs.watch(job)] == ids


def test_waiting_ends_when_its_time_is_over_and_the_job_goes_on(client: Client) -> None:
    job = client.jobs.submit(dataset="iris", training={"epochs": 100_000, "early_stopping": None})
    with pytest.raises(JobTimeout, match="it goes on") as raised:
        client.jobs.wait(job, 0.2)
    assert not raised.value.job.state.is_final
    with pytest.raises(Conflict):
        client.jobs.delete(job)
    client.jobs.cancel(job)
    with pytest.raises(JobCancelled):
        client.jobs.wait(job, 60)
    client.jobs.delete(job)


def test_failed_job_says_why_and_can_be_tried_again(client: Client) -> None:
    table = [{"x": row, "y": 2 * row} for row in range(60)]
    diverging = {**TINY, "training": {"optimizer": "sgd", "learning_rate": 10, "epochs": 50}}
    with pytest.raises(JobFailed, match="training_diverged") as raised:
        client.train(table, target="y", **diverging)
    failed = raised.value.job
    assert failed.state == JobState.FAILED
    again = client.jobs.retry(failed)
    assert again.retry_of == failed.id
    with pytest.raises(JobFailed):
        client.jobs.wait(again)


def test_every_violation_is_told_with_its_pointer(client: Client) -> None:
    with pytest.raises(InvalidRequest) as raised:
        client.jobs.submit(dataset="iris", network={"units": 0}, training={"epochs": -1})
    assert {item.pointer for item in raised.value.errors} == {"#/network/units", "#/training/epochs"}
    assert raised.value.request_id
    checked = client.jobs.validate(dataset="iris")
    assert checked.spec.training.epochs == 300
    assert client.jobs.validate(checked.spec).spec == checked.spec
    assert client.probe(checked.spec, network={"units": 8}).layers


# Models and predictions


def test_rows_are_answered_alike_in_every_form(client: Client, flowers: JobView) -> None:
    names = [column.name for column in client.models.version("iris", 1).inputs]
    wanted = client.predict("iris", FLOWERS, version=1)
    assert wanted.probabilities is not None
    assert wanted.classes == ["setosa", "versicolor", "virginica"]
    frame = pd.DataFrame(FLOWERS, columns=names, index=[5, 6, 7])
    many = np.tile(np.array(FLOWERS), (1000, 1))
    forms = [np.array(FLOWERS), many, frame, frame[names[::-1]], pl.DataFrame(frame.to_dict("list"))]
    forms += [pa.Table.from_pandas(frame, preserve_index=False), frame.to_dict("records")]
    for rows in forms:
        answer = client.predict("iris", rows, version=1)
        assert answer.probabilities is not None
        assert (answer.model, answer.version, answer.classes) == ("iris", 1, wanted.classes)
        assert answer.predictions[:3].tolist() == wanted.predictions.tolist()
        assert answer.probabilities[:3].tobytes() == wanted.probabilities.tobytes(), type(rows)
        assert len(answer) == len(rows)


def test_mixed_rows_with_gaps_are_answered_alike_in_every_form(client: Client, houses: JobView) -> None:
    frame = HOUSES.drop(columns="price").iloc[:6]
    rows = [
        {"size": None if pd.isna(size) else size, "city": city, "built": None if pd.isna(built) else built.isoformat()}
        for size, city, built in frame.itertuples(index=False)
    ]
    wanted = client.predict("homes", rows).predictions
    assert wanted.dtype == np.float64
    cells = {name: [row[name] for row in rows] for name in rows[0]}
    for form in (frame, pl.DataFrame(cells), pa.table(cells), frame.to_dict("records")):
        assert client.predict("homes", form).predictions.tobytes() == wanted.tobytes(), type(form)


def test_more_rows_than_are_answered_at_once_are_sent_in_parts(client: Client, flowers: JobView) -> None:
    rows = np.tile(np.array(FLOWERS), (40_000, 1))
    answer = client.predict("iris", rows)
    assert answer.probabilities is not None
    assert answer.probabilities.shape == (120_000, 3)
    assert (answer.probabilities[:3] == answer.probabilities[-3:]).all()
    with pytest.raises(InvalidRequest) as raised:
        client.predict("iris", np.vstack([rows, [[np.nan] * 4]]))
    assert raised.value.__notes__ == ["this is about the part of the rows that begins at row 100,000"]
    strange = rows.copy()
    strange[110_000] = 1e6
    assert any(
        warning.startswith("in the rows from 100,000 on: ") for warning in client.predict("iris", strange).warnings
    )


def test_rows_with_long_names_are_sent_in_parts_that_the_service_takes(client: Client) -> None:
    names = [f"a rather long name of a column, number {place}" for place in range(20)]
    table = [
        {**{name: float(row % (place + 2)) for place, name in enumerate(names)}, "y": row % 5} for row in range(60)
    ]
    client.train(table, target="y", model="wide", task="regression", **TINY)
    rows = [{name: row[name] for name in names} for row in table] * 150
    assert len(json.dumps(rows)) > 8 * 2**20
    answer = client.predict("wide", rows)
    assert len(answer) == 9_000
    assert answer.predictions[-60:] == pytest.approx(client.predict("wide", rows[:60]).predictions)


def test_what_lies_behind_an_answer_is_told_when_asked(client: Client, flowers: JobView) -> None:
    answer = client.predict("iris", np.array(FLOWERS), explain=True)
    assert answer.explanations is not None
    assert len(answer.explanations.contributions) == 3
    client.train(
        "iris", network={"hidden_layers": 1, "units": 8, "dropout": 0.1}, training={"epochs": 1}, model="loose"
    )
    for asked, samples in ((True, 100), (20, 20), ({"samples": 30, "seed": 1}, 30)):
        found = client.predict("loose", FLOWERS, uncertainty=asked).uncertainty
        assert found is not None
        assert found.samples == samples


def test_answer_becomes_a_frame_of_either_package(client: Client, flowers: JobView) -> None:
    answer = client.predict("iris", FLOWERS)
    columns = ["prediction", "probability: setosa", "probability: versicolor", "probability: virginica"]
    assert answer.to_pandas().columns.tolist() == answer.to_polars().columns == columns
    assert answer.to_pandas()["prediction"].tolist() == answer.predictions.tolist()


def test_classes_keep_their_type_in_every_form(client: Client) -> None:
    for name, labels in (("whole", [3, 7]), ("flags", [False, True]), ("words", ["1", "true"])):
        table = [{"x": float(row), "y": labels[row % 2]} for row in range(60)]
        fields: dict[str, Any] = {**TINY, "model": name, "task": "classification"}
        client.train(
            client.datasets.upload(table, kinds={"y": "categorical"} if name == "words" else None), target="y", **fields
        )
        for rows in ([[1.0]], pa.table({"x": [1.0]})):
            answer = client.predict(name, rows)
            assert answer.classes == labels
            assert answer.predictions.tolist()[0] in labels
            assert type(answer.predictions.tolist()[0]) is type(labels[0])


def test_models_are_described_and_their_files_saved_whole(client: Client, flowers: JobView, tmp_path: Path) -> None:
    assert client.models.get("iris").name in [model.name for model in client.models.list()]
    version = client.models.version("iris", 1)
    saved = client.models.download("iris", 1, "model.onnx", tmp_path)
    assert saved == tmp_path / "model.onnx"
    sizes = {file.name: file.size_bytes for file in version.files}
    assert saved.stat().st_size == sizes["model.onnx"]
    before = saved.read_bytes()
    with pytest.raises(NotFound):
        client.models.download("iris", 99, "model.onnx", saved)
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert client.models.card("iris", 1).startswith("# ")
    assert client.models.set_alias("iris", "production", 1).version == client.models.alias("iris", "production").version
    assert client.predict("iris", FLOWERS, alias="production").version == 1
    assert client.models.inputs("iris", 1)["model"] == "iris"


def test_stored_data_sets_are_predicted_and_evaluated(client: Client, flowers: JobView, tmp_path: Path) -> None:
    prediction = client.predictions.wait(client.predictions.submit(model="iris", dataset="iris", keep=["target"]))
    saved = client.predictions.result(prediction, tmp_path)
    assert saved.name == f"prediction-{prediction.id}.parquet"
    assert pq.read_table(saved).column_names[:2] == ["target", "prediction"]
    assert (
        client.predictions.result(prediction, tmp_path / "answers.csv").read_text().startswith('"target","prediction"')
    )
    evaluated = client.predictions.wait(client.models.evaluate("iris", 1, "iris"))
    assert evaluated.result is not None
    assert evaluated.result.evaluation is not None
    assert [each.id for each in client.predictions.list(model="iris")][:2] == [evaluated.id, prediction.id]
    client.predictions.delete(prediction)


def test_networks_are_compared(client: Client) -> None:
    asked: dict[str, Any] = {"dataset": "iris", "seeds": [0], "training": TINY["training"]}
    asked["arms"] = {"snn": TINY["network"], "mlp": {"kind": "mlp", **TINY["network"]}}
    assert client.comparisons.validate(asked).jobs == 2
    found = client.comparisons.wait(client.comparisons.submit(asked, tags=["first"]))
    assert found.verdict
    assert found.result is not None
    assert client.comparisons.plot(found, "learning_curves", metric="val_accuracy").startswith(b"<?xml")
    assert client.comparisons.submit(found.spec, seeds=[1]).spec.tags == ("first",)
    client.comparisons.cancel(next(client.comparisons.list()))
    client.comparisons.delete(found)


# The service itself, and programs that await


def test_service_says_what_it_is(client: Client) -> None:
    assert client.version().name == "selfnorm"
    assert client.ready()
    with Client("http://127.0.0.1:9") as nobody:
        assert not nobody.ready()
        with pytest.raises(SelfnormError, match="selfnorm up"):
            nobody.version()
    with Client(f"{client.url}/docs") as page, pytest.raises(NotFound):
        page.version()


def test_answer_of_something_else_is_told_apart(client: Client) -> None:
    page = httpx2.MockTransport(lambda _: httpx2.Response(200, html="<h1>It works!</h1>"))
    with Client("http://elsewhere", transport=page) as there, pytest.raises(UnexpectedAnswer, match="elsewhere"):
        there.version()


def test_programs_that_await_can_do_the_same(url: str, flowers: JobView, tmp_path: Path) -> None:
    file = tmp_path / "line.csv"
    file.write_text("x,y\n" + "".join(f"{row},{2 * row}\n" for row in range(60)))

    async def use() -> None:
        async with AsyncClient(url) as client:
            assert await client.ready()
            stored = await client.datasets.upload(file)
            assert (await client.datasets.upload(HOUSES)).rows == 80
            assert stored.id in [dataset.id async for dataset in client.datasets.list()]
            job = await client.train(stored, target="y", model="line", **TINY)
            assert [update.kind async for update in client.jobs.watch(job)][-1] == EventKind.SUCCEEDED
            answers = await asyncio.gather(*(client.predict("iris", FLOWERS) for _ in range(10)))
            assert len({answer.predictions.tobytes() for answer in answers}) == 1
            saved = await client.models.download("line", 1, "model.onnx", tmp_path)
            assert saved.stat().st_size > 0
            with pytest.raises(NotFound):
                async for _ in client.jobs.watch("nothing"):
                    pass

    asyncio.run(use())


def test_code_of_the_documentation_works(service: Service, tmp_path: Path) -> None:
    found = blocks(ROOT / "docs/python.md")
    assert len(found) > 5
    with reading(service, tmp_path) as reader:
        for block in found:
            if block.excuse is None:
                reader.run(block)


class OneWay(io.BytesIO):
    """A stream that can be read once."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")


def count(things: Iterator[Any]) -> int:
    return sum(1 for _ in things)


def cancel_everything(client: Client) -> None:
    for state in ("queued", "running"):
        for job in client.jobs.list(state=state):
            with suppress(Conflict):
                client.jobs.cancel(job)
