"""Traces: off unless asked for; a request with its waiting and its batch; nothing in them that a caller sent."""

from __future__ import annotations

import http.server
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from anmok.engine import Batched, Engine
from anmok.errors import BadRequest, Expired
from anmok.load import Model, load
from anmok.server.spans import Spans
from anmok.server.tracing import NoTracing, RequestTrace, Tracing, tracer
from anmok.tasks import Embed
from conftest import coloured

PICTURE = coloured("red", np.random.default_rng(5))
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode()}

# All that may ever stand in a span; anything else is a leak.
ALLOWED = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "url.scheme",
    "error.type",
    "anmok.model",
    "anmok.task",
    "anmok.batch_size",
    "anmok.is_retried",
}


@contextmanager
def kept() -> Iterator[tuple[Spans, dict[str, ReadableSpan]]]:
    """Tracing, and after the block all of its spans by name."""
    memory, found = InMemorySpanExporter(), dict[str, ReadableSpan]()
    tracing = Spans([memory])
    try:
        yield tracing, found
    finally:
        tracing.close()
        found.update((span.name, span) for span in memory.get_finished_spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_nothing_is_imported_where_nothing_is_asked_for() -> None:
    code = (
        "import sys; from anmok.server.tracing import tracer; one = tracer({'OTEL_SERVICE_NAME': 'x'})\n"
        "print(type(one).__name__, any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["NoTracing", "False"]


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/x"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
    ids=str,
)
def test_the_environment_decides(environment: dict[str, str], is_on: bool) -> None:
    tracing = tracer(environment)
    assert isinstance(tracing, Spans if is_on else NoTracing)
    tracing.close()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin: want otlp, console or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "want http/protobuf"),
    ],
)
def test_what_is_not_supported_is_said_at_start(environment: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        tracer(environment)


def test_a_missing_extra_is_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import anmok.server

    monkeypatch.delattr(anmok.server, "spans", raising=False)
    monkeypatch.setitem(sys.modules, "anmok.server.spans", None)  # as if its imports failed
    with caplog.at_level(logging.WARNING):
        tracing = tracer({"OTEL_TRACES_EXPORTER": "otlp"})
    assert isinstance(tracing, NoTracing)
    assert "pip install 'anmok[trace]'" in caplog.text


def test_a_server_without_traces_does_the_same_calls() -> None:
    tracing: Tracing = NoTracing()
    request: RequestTrace = tracing.begin("POST", SAMPLED)
    tracing.observe(Batched("fake", "embed", 1, (0.1,), 0.1, False))
    request.watch(Future(), "fake", "embed")
    assert (request.trace_id, request.headers()) == ("", {})
    request.end("/run/embed", 200)
    tracing.close()


def test_a_request_with_its_waiting_and_its_batch() -> None:
    gate = Gate()
    with kept() as (tracing, spans), Engine(10**9, gate.loader, observe=tracing.observe) as engine:
        engine.submit("fake", [PICTURE], Embed())
        assert gate.begun.wait(5)
        request = tracing.begin("POST", {b"content-type": b"image/png"})
        future = engine.submit("fake", [PICTURE] * 2, Embed())
        request.watch(future, "fake", "embed")
        time.sleep(0.03)
        gate.opened.set()
        future.result()
        _settled(future)
        request.end("/run/embed", 200)
    server, queue, inference = spans["POST /run/embed"], spans["queue"], spans["inference"]
    assert attributes(server) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/run/embed",
        "http.response.status_code": 200,
        "anmok.model": "fake",
        "anmok.task": "embed",
    }
    work = {"anmok.model": "fake", "anmok.task": "embed"}
    assert attributes(queue) == work
    assert attributes(inference) == {**work, "anmok.batch_size": 2, "anmok.is_retried": False}
    assert server.kind.name == "SERVER"
    assert server.parent is None
    for child in (queue, inference):
        assert child.parent is not None
        assert child.parent.span_id == server.context.span_id
        assert child.context.trace_id == server.context.trace_id
        assert child.kind.name == "INTERNAL"
    assert server.start_time is not None
    assert server.start_time <= queue.start_time <= queue.end_time == inference.start_time <= inference.end_time  # type: ignore[operator]
    assert queue.end_time - queue.start_time > 20_000_000  # type: ignore[operator]  # it waited for the one before
    assert server.resource.attributes["service.name"] == "anmok"


class Gate:
    """A model whose batches wait until the gate is opened; ``begun`` is set when the first one does."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def loader(self, name: str) -> Model:
        model = load(name)
        run = model.run

        def held(items: Any, ask: Any) -> Any:
            self.begun.set()
            assert self.opened.wait(5)
            return run(items, ask)

        vars(model)["run"] = held
        return model


def _settled(future: Future[Any]) -> None:
    """The callbacks of a future run after whoever waits for it is woken."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(5)
    time.sleep(0.01)


def test_the_callers_trace_goes_on() -> None:
    with kept() as (tracing, spans):
        request = tracing.begin("GET", {**SAMPLED, b"tracestate": b"vendor=1"})
        out = request.headers()
        request.end("/livez", 200)
    span = spans["GET /livez"]
    assert request.trace_id == TRACE
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert out == {"traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01", "tracestate": "vendor=1"}


@pytest.mark.parametrize("given", [b"", b"00-zz-zz-01", b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_senseless_context_begins_a_new_trace(given: bytes) -> None:
    with kept() as (tracing, spans):
        request = tracing.begin("GET", {b"traceparent": given})
        request.end("/livez", 200)
    assert spans["GET /livez"].parent is None
    assert len(request.trace_id) == 32


def test_a_trace_that_its_caller_does_not_record_costs_no_spans() -> None:
    with kept() as (tracing, spans):
        request = tracing.begin("POST", {b"traceparent": f"00-{TRACE}-{PARENT}-00".encode()})
        future: Future[Any] = Future()
        request.watch(future, "fake", "embed")
        future.set_result([])
        assert request.headers()["traceparent"].startswith(f"00-{TRACE}-")
        assert request.headers()["traceparent"].endswith("-00")
        request.end("/run/embed", 200)
    assert spans == {}


def test_no_span_holds_what_a_caller_sent() -> None:
    secret = "correcthorse"
    headers = {
        b"authorization": b"Bearer " + secret.encode(),
        b"user-agent": secret.encode(),
        b"baggage": b"key=" + secret.encode(),
        b"host": secret.encode(),
        **SAMPLED,
    }
    with kept() as (tracing, spans):
        request = tracing.begin(secret.upper(), headers)
        future: Future[Any] = Future()
        request.watch(future, "fake", "embed")
        future.set_exception(BadRequest(f"no such label: {secret}"))
        assert secret not in str(request.headers())
        request.end("", 422, "badrequest")
    assert set(spans) == {"_OTHER", "queue"}
    for span in spans.values():
        assert set(attributes(span)) <= ALLOWED
        assert secret not in span.to_json().lower()
        assert not span.events  # an exception event would hold its message


@pytest.mark.parametrize(
    ("status", "reason", "is_error"),
    [(200, "", False), (404, "unknownmodel", False), (429, "busy", False), (503, "closing", True), (0, "", True)],
)
def test_the_servers_errors_are_errors(status: int, reason: str, is_error: bool) -> None:
    with kept() as (tracing, spans):
        tracing.begin("POST", {}).end("/run/{task}", status, reason)
    span = spans["POST /run/{task}"]
    assert (span.status.status_code.name == "ERROR") is is_error
    assert attributes(span).get("error.type") == ((reason or str(status)) if is_error else None)


def test_a_deadline_that_passed_is_waiting_that_failed() -> None:
    gate = Gate()
    with kept() as (tracing, spans), Engine(10**9, gate.loader, observe=tracing.observe) as engine:
        engine.submit("fake", [PICTURE], Embed())
        assert gate.begun.wait(5)
        request = tracing.begin("POST", {})
        future = engine.submit("fake", [PICTURE], Embed(), deadline=0.01)
        request.watch(future, "fake", "embed")
        with pytest.raises(Expired):
            future.result()
        _settled(future)
        gate.opened.set()
        request.end("/run/embed", 504, "expired")
    assert attributes(spans["queue"])["error.type"] == "Expired"
    assert "inference" not in spans


def test_a_client_that_leaves_cancels() -> None:
    with kept() as (tracing, spans):
        request = tracing.begin("POST", {})
        future: Future[Any] = Future()
        request.watch(future, "fake", "embed")
        future.cancel()
        request.end("/run/embed", 499)
    assert attributes(spans["queue"])["error.type"] == "cancelled"


def test_an_answer_that_was_there_before_it_was_watched() -> None:
    """Nobody knows its batch then; no other one is put in its place."""
    with kept() as (tracing, spans):
        tracing.observe(Batched("other", "embed", 7, (0.1,), 0.1, False))
        request = tracing.begin("POST", {})
        future: Future[Any] = Future()
        future.set_result([])
        request.watch(future, "fake", "embed")
        request.end("/run/embed", 200)
    assert "anmok.batch_size" not in attributes(spans["inference"])
    assert "queue" not in spans


class _Collector(http.server.BaseHTTPRequestHandler):
    """Takes what a collector of OpenTelemetry takes over HTTP."""

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, headers, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_spans_reach_a_collector_as_protobuf_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "eyes")
    with collector() as (address, seen):
        tracing = tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{address}/"})
        request = tracing.begin("POST", SAMPLED)
        request.end("/models/{name}", 200)
        tracing.close()
    [(path, headers, body)] = seen
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["x-tenant"] == "a"
    message = ExportTraceServiceRequest.FromString(body)
    [resource] = message.resource_spans
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert names["service.name"] == "eyes"
    [span] = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /models/{name}", TRACE, PARENT)


def test_a_collector_that_is_not_there_holds_nobody_up() -> None:
    tracing = tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    started = time.monotonic()
    for _ in range(100):
        tracing.begin("POST", {}).end("/run/embed", 200)
    assert time.monotonic() - started < 1  # nothing is sent in the request's own thread
    tracing.close()
    assert time.monotonic() - started < 6  # three seconds, and room for a busy machine
