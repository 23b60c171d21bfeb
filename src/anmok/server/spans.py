"""Spans by OpenTelemetry, after its conventions for HTTP servers. Imported only where traces are asked for.

No attribute holds what a caller sent: neither paths (``url.path`` is left out, ``http.route`` has the template) nor
query, labels, addresses, agents or keys.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from anmok import __version__
from anmok.engine import Batched

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_CLOSE_SECONDS: Final = 3.0
_TRACE_HEADERS: Final = (b"traceparent", b"tracestate")


def exporter(name: str, endpoint: str | None) -> SpanExporter:
    """``otlp`` over HTTP to an endpoint, or ``console`` on standard error."""
    return ConsoleSpanExporter(out=sys.stderr) if name == "console" else OTLPSpanExporter(endpoint)


class Spans:
    """``Tracing`` by a provider of its own; the process' global one is left alone."""

    def __init__(self, exporters: Sequence[SpanExporter]) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for one in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(one))
        self._tracer = self._provider.get_tracer("anmok", __version__)
        self._last = threading.local()  # in a worker's thread, the batch that it has just answered

    def begin(self, method: str, headers: Mapping[bytes, bytes]) -> RequestSpan:
        """The span of a request, within the caller's trace where he has one."""
        carrier = {name.decode(): headers[name].decode("latin-1") for name in _TRACE_HEADERS if name in headers}
        parent = _PROPAGATOR.extract(carrier, Context())
        known = method if method in _METHODS else "_OTHER"
        attributes = {"http.request.method": known, "url.scheme": "http"}
        span = self._tracer.start_span(known, parent, SpanKind.SERVER, attributes)
        return RequestSpan(self._tracer, self._last, span, known)

    def observe(self, batched: Batched) -> None:
        """Kept for the futures that are done in this thread after it."""
        self._last.batch = batched, time.time_ns()

    def close(self) -> None:
        """Sends what is left; a collector that does not answer is not waited for longer than three seconds."""
        thread = threading.Thread(target=self._provider.shutdown, name="anmok-traces", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)


class RequestSpan:
    """``RequestTrace``."""

    def __init__(self, tracer: Tracer, last: threading.local, span: Span, method: str) -> None:
        self._tracer = tracer
        self._last = last
        self._span = span
        self._method = method
        self._context = set_span_in_context(span, Context())
        self.trace_id = format_trace_id(span.get_span_context().trace_id)

    def watch(self, future: Future[Any], model: str, task: str) -> None:
        """A request in several batches: all before the last one counts as waiting."""
        if self._span.is_recording():
            self._span.set_attributes({"anmok.model": model, "anmok.task": task})
            future.add_done_callback(partial(self._engine_done, time.time_ns(), model, task))

    def headers(self) -> dict[str, str]:
        """With this span as the parent."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, self._context)
        return carrier

    def end(self, route: str, status: int, reason: str = "") -> None:
        """Status 500 and above are the server's errors; those below are the caller's, and no error of this span."""
        span = self._span
        if span.is_recording():
            span.set_attribute("http.response.status_code", status)
            if route:
                span.set_attribute("http.route", route)
                span.update_name(f"{self._method} {route}")
            if status >= 500 or status == 0:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", reason or str(status))
        span.end()

    def _engine_done(self, submitted: int, model: str, task: str, future: Future[Any]) -> None:
        """In the thread that settled the future: a worker's knows its batch; others (deadline, failed load, the
        client left, an answer that was there before it was watched) know none."""
        now = time.time_ns()
        attributes: dict[str, str | int | bool] = {"anmok.model": model, "anmok.task": task}
        batched, ended = getattr(self._last, "batch", (None, now))
        if future.cancelled() or future.exception() is not None:
            error = "cancelled" if future.cancelled() else type(future.exception()).__name__
            self._child("queue", submitted, now, {**attributes, "error.type": error})
        elif batched is None or batched.name != model or batched.task != task:
            self._child("inference", submitted, now, attributes)
        else:
            began = max(submitted, ended - int(batched.seconds * 1e9))
            attributes |= {"anmok.batch_size": batched.items, "anmok.is_retried": batched.is_retried}
            self._child("queue", submitted, began, {"anmok.model": model, "anmok.task": task})
            self._child("inference", began, max(began, ended), attributes)

    def _child(self, name: str, began: int, ended: int, attributes: Mapping[str, str | int | bool]) -> None:
        span = self._tracer.start_span(name, self._context, SpanKind.INTERNAL, attributes, start_time=began)
        if "error.type" in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(ended)


def _resource() -> Resource:
    """``service.name`` is ``anmok`` where the environment gives none."""
    given = OTELResourceDetector().detect().attributes
    own: dict[str, str] = {SERVICE_VERSION: __version__, SERVICE_NAME: "anmok"}
    return Resource.create({name: value for name, value in own.items() if name not in given})
