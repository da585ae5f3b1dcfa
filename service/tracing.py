"""Traces: what a request and a training did, span by span, sent to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says.

The only module that knows OpenTelemetry, which an extra brings. Without it, or without an address to send to, nothing
is loaded and every function here returns at once.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from service import logs

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)

ADDRESSES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACEPARENT = "traceparent"
MOST_HEADER_BYTES = 512
FLUSH_SECONDS = 2.0
"""So long a process that ends waits for its last spans to be taken."""
NOTHING: AbstractContextManager[None] = nullcontext()

_provider: Any = None
_tracer: "Tracer | None" = None


def set_up(process: str, version: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Begin to send traces of this process, where there is an address to send them to; say whether they are."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(environment.get, ADDRESSES)):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.warning("traces are asked for, but cannot be made: %s; in the checkout: pip install '.[tracing]'", error)
        return False
    # What the environment says of the service's name counts more.
    resource = Resource.create({"service.name": f"selfnorm-{process}", "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)
    return True


def use(provider: Any) -> None:
    """Make spans with a provider of OpenTelemetry; None makes none."""
    global _provider, _tracer
    _provider, _tracer = provider, None if provider is None else provider.get_tracer("selfnorm")


def close() -> None:
    """Send what is left, but do not wait for long for one that does not take it."""
    if _provider is not None:
        thread = threading.Thread(target=_provider.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)


def start_request(scope: Mapping[str, Any]) -> "Span | None":
    """Begin the span of an HTTP request, in the trace that its client names, if any; it is the current one here."""
    if _tracer is None:
        return None
    from opentelemetry import context, trace

    method = scope["method"]
    attributes = {
        "http.request.method": method,
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", ""),
    }
    if scope.get("client"):
        attributes["client.address"] = scope["client"][0]
    parent = _context(_header(scope["headers"]))
    span = _tracer.start_span(method, context=parent, kind=trace.SpanKind.SERVER, attributes=attributes)
    scope["state"]["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)
    context.attach(trace.set_span_in_context(span))  # each request is a task, which has a context of its own
    return span


def end_request(span: "Span | None", method: str, route: str, status: int) -> None:
    """End the span of a request, which knows its route only now."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.update_name(f"{method} {route}")
    span.set_attributes({"http.route": route, "http.response.status_code": status})
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
    span.end()


def carried() -> dict[str, str]:
    """Return what a job takes with it, so that its training belongs to the trace of the request; nothing without."""
    if _tracer is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {TRACEPARENT: carrier[TRACEPARENT]} if TRACEPARENT in carrier else {}


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


@contextmanager
def attempt(carried: Mapping[str, Any], **attributes: Any) -> Iterator[None]:
    """Make the span of an attempt at a job, in the trace of the request that submitted it."""
    if _tracer is None:
        yield
        return
    from opentelemetry import trace

    parent = _context(carried.get(TRACEPARENT))
    kind = trace.SpanKind.CONSUMER
    with (
        _tracer.start_as_current_span("attempt", context=parent, kind=kind, attributes=attributes) as span,
        logs.about(trace_id=trace.format_trace_id(span.get_span_context().trace_id)),
    ):
        yield


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """Make a span within the current one."""
    return NOTHING if _tracer is None else _tracer.start_as_current_span(name, attributes=attributes)


def past_span(name: str, began_ns: int, ended_ns: int, **attributes: Any) -> None:
    """Make a span of what is over, within the current one."""
    if _tracer is not None:
        _tracer.start_span(name, start_time=began_ns, attributes=attributes).end(ended_ns)


def event(name: str, **attributes: Any) -> None:
    """Note a moment of the current span; of very many, the SDK keeps the last."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().add_event(name, attributes)


def _header(headers: list[tuple[bytes, bytes]]) -> str | None:
    found = [value for name, value in headers if name == TRACEPARENT.encode()]
    is_plain = len(found) == 1 and len(found[0]) <= MOST_HEADER_BYTES and found[0].isascii()
    return found[0].decode() if is_plain else None


def _context(traceparent: object) -> Any:
    """Return the context of a remote span; an empty one where it is not named, or not as W3C says."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {TRACEPARENT: traceparent} if isinstance(traceparent, str) else {}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())
