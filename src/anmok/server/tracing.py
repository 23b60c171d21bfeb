"""Traces of requests, where the environment asks for them; nothing of OpenTelemetry is imported otherwise.

A request is one span; what it waited and what its last batch took in the model are spans below it. The context of the
caller's own trace (W3C ``traceparent``) is taken over, and handed on to other engines.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol

from anmok.engine import Batched
from anmok.errors import BadRequest

log: Final = logging.getLogger("anmok.server")

_PROTOCOL: Final = "http/protobuf"


class RequestTrace(Protocol):
    """The span of one request. ``trace_id`` is 32 hexadecimal digits for the log, or "" where nothing is traced."""

    trace_id: str

    def watch(self, future: Future[Any], model: str, task: str) -> None:
        """Makes the spans of waiting and of the model when the engine's future is done."""
        ...

    def headers(self) -> dict[str, str]:
        """``traceparent`` and ``tracestate`` for a request to another engine that is part of this one."""
        ...

    def end(self, route: str, status: int, reason: str = "") -> None:
        """The answer is out.

        Args:
            route: the template, ``/models/{name}``; "" where no route was met.
            status: of HTTP.
            reason: the class of the error, where there was one.
        """
        ...


class Tracing(Protocol):
    """Begins the spans of a server's requests. Safe to share between threads."""

    def begin(self, method: str, headers: Mapping[bytes, bytes]) -> RequestTrace:
        """A request came; ``end`` of what is returned follows. ``headers`` have lower-case names."""
        ...

    def observe(self, batched: Batched) -> None:
        """One batch was answered; called by the engine in the worker's thread, before the futures are done."""
        ...

    def close(self) -> None:
        """Sends what was not sent yet, for some seconds at most."""
        ...


class _Untraced:
    """A request that nobody traces."""

    trace_id = ""

    def watch(self, future: Future[Any], model: str, task: str) -> None:
        """Nothing."""

    def headers(self) -> dict[str, str]:
        """None."""
        return {}

    def end(self, route: str, status: int, reason: str = "") -> None:
        """Nothing."""


class NoTracing:
    """What a server has where no traces are asked for: the cost is three empty calls a request."""

    def __init__(self) -> None:
        self._one = _Untraced()

    def begin(self, method: str, headers: Mapping[bytes, bytes]) -> RequestTrace:
        """The same object for all."""
        return self._one

    def observe(self, batched: Batched) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def tracer(environment: Mapping[str, str]) -> Tracing:
    """What the environment asks for, in OpenTelemetry's own variables.

    Traces are on where ``OTEL_TRACES_EXPORTER`` names ``otlp`` or ``console`` (standard error), or where it is not set
    and ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` is. Headers, timeouts, sampler and
    resource are read by OpenTelemetry from the environment of the process.

    Raises:
        BadRequest: an exporter or a protocol that is not supported.
    """
    exporters = _exporters(environment)
    if not exporters:
        return NoTracing()
    try:
        from anmok.server import spans
    except ImportError:
        log.warning("traces are configured and not written: pip install 'anmok[trace]'")
        return NoTracing()
    return spans.Spans([spans.exporter(name, _endpoint(environment)) for name in exporters])


def _exporters(environment: Mapping[str, str]) -> list[str]:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    asked = environment.get("OTEL_TRACES_EXPORTER", "").lower().split(",")
    names = [name.strip() for name in asked if name.strip() not in ("", "none")]
    if not any(name.strip() for name in asked) and _endpoint(environment):
        names = ["otlp"]
    unknown = next((name for name in names if name not in ("otlp", "console")), None)
    if unknown is not None:
        raise BadRequest(f"OTEL_TRACES_EXPORTER={unknown[:40]}: want otlp, console or none")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if "otlp" in names and protocol and protocol != _PROTOCOL:
        raise BadRequest(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol[:40]}: want {_PROTOCOL}, to port 4318 as a rule")
    return names


def _endpoint(environment: Mapping[str, str]) -> str | None:
    """Where the spans go; None means OpenTelemetry's default, this machine's port 4318."""
    exact = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return exact or (f"{base.rstrip('/')}/v1/traces" if base else None)
