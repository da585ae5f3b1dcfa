"""One trace from a request to the end of its training, and one JSON object for each line of every process' log."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.patience import until
from tests.processes import Service, linux_only, running

pytestmark = linux_only

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SMALL = {"network": {"hidden_layers": 1, "units": 8}, "training": {"epochs": 3}}
NATIVE = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] ")
"""What the native code of TensorFlow writes, past all of Python's logging."""


@dataclass
class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    port: int = 0
    spans: list[tuple[str, Any]] = field(default_factory=list)
    """Each with the name of the service that made it."""

    def of(self, trace_id: str) -> dict[str, Any]:
        return {span.name: span for _, span in list(self.spans) if span.trace_id.hex() == trace_id}

    def wait_for(self, trace_id: str, *names: str) -> dict[str, Any]:
        until(lambda: set(names) <= self.of(trace_id).keys(), told=lambda: (self.of(trace_id).keys(), names))
        return self.of(trace_id)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            content = self.rfile.read(int(self.headers["content-length"]))
            for of_service in ExportTraceServiceRequest.FromString(content).resource_spans:
                names = {pair.key: pair.value.string_value for pair in of_service.resource.attributes}
                for scope in of_service.scope_spans:
                    collector.spans += [(names["service.name"], span) for span in scope.spans]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        collector.port = server.server_address[1]
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "SELFNORM_LOG_FORMAT": "json",
        "SELFNORM_ACCESS_LOG": "true",
    }
    with running(tmp_path_factory.mktemp("traced") / "data", **settings) as up:
        yield up


@pytest.fixture(scope="module")
def job(service: Service) -> str:
    """A job that was submitted within a client's trace, and has been trained."""
    parent = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
    answer = service.client.post("/jobs", json={"dataset": "iris", **SMALL}, headers=parent)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    assert service.wait_for(job_id)["state"] == "succeeded"
    return job_id


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def test_one_trace_leads_from_the_request_to_the_registration_of_its_model(collector: Collector, job: str) -> None:
    wanted = ("POST /jobs", "attempt", "claim", "preparation", "epochs", "export", "registration")
    spans = collector.wait_for(TRACE_ID, *wanted)
    request, attempt = spans["POST /jobs"], spans["attempt"]
    assert request.parent_span_id.hex() == SPAN_ID
    assert attempt.parent_span_id == request.span_id
    for name in wanted[2:]:
        assert spans[name].parent_span_id == attempt.span_id, name
        assert request.start_time_unix_nano < spans[name].end_time_unix_nano <= attempt.end_time_unix_nano
    told = {"http.request.method": "POST", "http.route": "/jobs", "http.response.status_code": 202}
    assert told.items() <= attributes(request).items()
    assert {"selfnorm.job.id": job, "selfnorm.job.attempt": 1}.items() <= attributes(attempt).items()
    epochs = [event for event in spans["epochs"].events if event.name == "epoch"]
    assert [attributes(event)["epoch"] for event in epochs] == [1, 2, 3]
    services = {name for name, span in collector.spans if span.trace_id.hex() == TRACE_ID}
    assert services == {"selfnorm-api", "selfnorm-worker"}


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "x" * 10_000,
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-and-more",
        "00-\xe9-\xe9-01",
        "{}; DROP TABLE jobs",
    ],
)
def test_hostile_parent_begins_a_trace_of_its_own(service: Service, collector: Collector, hostile: str) -> None:
    before = {span.trace_id for _, span in collector.spans if span.name == "GET /jobs/{job_id}"} | {
        bytes.fromhex(TRACE_ID)
    }
    headers = [(b"traceparent", hostile.encode("latin-1"))]
    assert service.client.get("/jobs/none", headers=headers).status_code == 404
    until(lambda: any(span.trace_id not in before for _, span in collector.spans if span.name == "GET /jobs/{job_id}"))


def test_every_line_of_every_log_is_one_object_that_says_what_it_belongs_to(service: Service, job: str) -> None:
    lines = {name: _lines(service.data_dir / "logs" / f"{name}.log") for name in ("api", "worker")}
    fields = {"timestamp", "level", "logger", "event", "process", "pid"}
    assert all(line.keys() >= fields for log in lines.values() for line in log)
    assert {line["process"] for line in lines["api"]} == {"api"}
    assert {line["process"] for line in lines["worker"]} == {"worker", "trainer"}
    assert any(line["logger"].startswith("celery") for line in lines["worker"])
    of_job = [line for line in lines["worker"] if line.get("job_id") == job]
    assert {(line["attempt"], line["trace_id"], line["process"]) for line in of_job} == {(1, TRACE_ID, "trainer")}
    (request,) = [line for line in lines["api"] if line.get("route") == "/jobs" and line["method"] == "POST"]
    assert request["trace_id"] == TRACE_ID
    assert request["request_id"]


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if not NATIVE.match(line)]
