"""What the server counts, as Prometheus reads it: durations in seconds, sizes in bytes, labels and not names.

Every value of a label comes from a set that is fixed at start (routes, served names, tasks, reasons) or is a status
code: whatever callers send, the number of series does not grow. Asking for the metrics loads no model.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from anmok import errors
from anmok.engine import Batched, EngineStatus, ModelStatus
from anmok.errors import Refused
from anmok.isolation import ProcessStatus
from anmok.server.histograms import Histograms

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily

# Seconds, 1 ms to 60 s, each about twice or two and a half times the one before.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128)

OTHER: Final = "other"  # a reason that is none of our errors
# The classes of errors in lower case, as the door names them.
REASONS: Final = frozenset(
    name.lower() for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
)


@dataclass(frozen=True, slots=True)
class Series:
    """One metric. ``name`` stands on the wire as it is; a histogram has ``_bucket``, ``_sum``, ``_count`` after it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of its samples."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


_WORK = ("model", "task")
REQUESTS: Final = Series(
    "anmok_requests_total",
    "counter",
    ("route", "model", "status"),
    "Requests that ended, refused ones too. Status 499: the client left.",
)
DURATION: Final = Series(
    "anmok_request_duration_seconds",
    "histogram",
    ("route", "model"),
    "From the first byte of a request to the last of its answer.",
)
QUEUE_TIME: Final = Series(
    "anmok_queue_time_seconds", "histogram", _WORK, "A request's wait until its batch began; loading counts as waiting."
)
INFERENCE_TIME: Final = Series(
    "anmok_inference_time_seconds",
    "histogram",
    _WORK,
    "One batch in the model: reading pictures, net and postprocessing together.",
)
PREPROCESS_TIME: Final = Series(
    "anmok_preprocess_time_seconds",
    "histogram",
    _WORK,
    "Of one batch, the time for reading and resizing its pictures; not with workers as processes.",
)
BATCH_SIZE: Final = Series("anmok_batch_size", "histogram", _WORK, "Items in one batch.")
IN_FLIGHT: Final = Series("anmok_requests_in_flight", "gauge", (), "Requests that came and have not ended.")
REJECTED: Final = Series(
    "anmok_requests_rejected_total",
    "counter",
    ("reason",),
    "Requests refused with 429 or 503, by the error's class.",
)
QUEUE_DEPTH: Final = Series("anmok_queue_depth", "gauge", ("model",), "Requests that wait in a model's queue.")
LOADED: Final = Series("anmok_model_loaded", "gauge", ("model",), "1 where the model is in memory and ready.")
LOAD_DURATION: Final = Series(
    "anmok_model_load_duration_seconds", "gauge", ("model",), "Duration of the last load; absent before the first."
)
LOADS: Final = Series("anmok_model_loads_total", "counter", ("model",), "Loads that succeeded.")
EVICTIONS: Final = Series(
    "anmok_model_evictions_total",
    "counter",
    ("model",),
    "How often a model was sent away to make room for another.",
)
MODEL_MEMORY: Final = Series(
    "anmok_model_memory_bytes", "gauge", ("model",), "Weights in memory, or set aside while they load."
)
MEMORY_BUDGET: Final = Series("anmok_model_memory_budget_bytes", "gauge", (), "For the weights of all models together.")
RETRIED: Final = Series(
    "anmok_batches_retried_total", "counter", ("model",), "Batches that failed and were answered item by item."
)
FAILED: Final = Series("anmok_items_failed_total", "counter", ("model",), "Items that could not be answered.")
GPU_MEMORY: Final = Series(
    "anmok_gpu_memory_bytes",
    "gauge",
    ("device", "kind"),
    "Of this process: allocated by tensors, reserved by the allocator. Only where CUDA is in use.",
)
UPSTREAM: Final = Series("anmok_upstream_up", "gauge", ("upstream",), "1 where another engine answers its checks.")
WORKER_DEATHS: Final = Series(
    "anmok_worker_deaths_total", "counter", ("worker",), "Processes of models that ended and were started again."
)
WORKER_MEMORY: Final = Series("anmok_worker_memory_bytes", "gauge", ("worker",), "Resident bytes of such a process.")
BUILD: Final = Series("anmok_build_info", "gauge", ("version", "python", "torch"), "Always 1; the versions are labels.")

SERIES: Final = tuple(one for one in globals().values() if isinstance(one, Series))


class Metrics:
    """Counts what happens, and renders it. Safe to share between threads.

    Args:
        names: the served names; others become ``""``. A live view may grow.
        routes: the templates of the routes, ``/models/{name}``; others become ``""``.
    """

    def __init__(self, names: Collection[str], routes: Collection[str]) -> None:
        self._names = names
        self._routes = frozenset(routes)
        self._registry = CollectorRegistry()
        self._requests = Counter(*_described(REQUESTS), registry=self._registry)
        self._duration = Histograms(*_described(DURATION), SECONDS)
        self._queue = Histograms(*_described(QUEUE_TIME), SECONDS)
        self._inference = Histograms(*_described(INFERENCE_TIME), SECONDS)
        self._preprocess = Histograms(*_described(PREPROCESS_TIME), SECONDS)
        self._batch = Histograms(*_described(BATCH_SIZE), ITEMS)
        self._histograms = (self._duration, self._queue, self._inference, self._preprocess, self._batch)
        self._flight = Gauge(*_described(IN_FLIGHT), registry=self._registry)
        self._rejected = Counter(*_described(REJECTED), registry=self._registry)
        for kind in Refused.__subclasses__():
            self._rejected.labels(kind.__name__.lower())  # a rate needs the 0 before the first
        ProcessCollector(registry=self._registry)
        self._build = (metadata.version("anmok"), platform.python_version(), _version("torch"))

    def entered(self) -> None:
        """A request came. ``left`` follows, whatever becomes of it."""
        self._flight.inc()

    def left(self) -> None:
        """A request ended."""
        self._flight.dec()

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """A request ended with that status, refused ones too.

        Args:
            route: the template, ``/models/{name}``.
            model: the served name, or "".
            status: of HTTP; 499 where the client left; what is none of HTTP's counts as 0.
            seconds: from its first byte to the last of the answer.
        """
        route, model = route if route in self._routes else "", self._name(model)
        self._requests.labels(route, model, str(status) if 100 <= status < 600 else "0").inc()
        self._duration.observe((route, model), (seconds,))

    def rejected(self, reason: str) -> None:
        """A request was refused for now: ``busy``, ``loading``, ``closing`` and other classes of ``anmok.errors``."""
        self._rejected.labels(reason if reason in REASONS else OTHER).inc()

    def observe(self, batched: Batched) -> None:
        """One batch was answered; called in the worker's thread."""
        work = self._name(batched.name), batched.task
        self._batch.observe(work, (batched.items,))
        self._inference.observe(work, (batched.seconds,))
        self._queue.observe(work, batched.waited)
        if batched.prepared:
            self._preprocess.observe(work, (batched.prepared,))

    def render(
        self,
        status: EngineStatus,
        *,
        accept: str = "",
        upstreams: Mapping[str, bool] | None = None,
        workers: Sequence[ProcessStatus] = (),
    ) -> tuple[bytes, str]:
        """All metrics at this moment.

        Args:
            status: of the engine.
            accept: the header of the request; OpenMetrics where it says so, Prometheus' text otherwise.
            upstreams: which of the other engines answer.
            workers: the processes of models, where there are any.

        Returns:
            The body and its content type.
        """
        encode, content_type = choose_encoder(accept)
        families = [*self._of_engine(status), *_of_devices(), *_of_upstreams(upstreams or {})]
        families += _of_workers(workers)
        families.append(_family(BUILD, [(self._build, 1)]))
        written = "".join(one.written() for one in self._histograms)
        return written.encode() + encode(_Snapshot(self._registry, families)), content_type

    def _name(self, model: str) -> str:
        return model if model in self._names else ""

    def _of_engine(self, status: EngineStatus) -> Iterator[Family]:
        """One series for each served name, also of a model that was never asked for: alerts find a 0 there."""
        known = {one.name: one for one in status.models}
        rows = [(name, known.get(name)) for name in sorted(self._names)]

        def of(series: Series, value: Callable[[ModelStatus], float]) -> Family:
            return _family(series, [((name,), 0 if one is None else value(one)) for name, one in rows])

        yield of(QUEUE_DEPTH, lambda one: one.queued)
        yield of(LOADED, lambda one: one.state == "ready")
        yield of(MODEL_MEMORY, lambda one: one.nbytes)
        yield of(LOADS, lambda one: one.loads)
        yield of(EVICTIONS, lambda one: one.evictions)
        yield of(RETRIED, lambda one: one.retried)
        yield of(FAILED, lambda one: one.failed)
        yield _family(LOAD_DURATION, [((name,), one.load_seconds) for name, one in rows if one and one.loads])
        yield _family(MEMORY_BUDGET, [((), status.budget_bytes)])


class _Snapshot:
    """What is counted here and what was just asked for, as one registry to the encoder."""

    def __init__(self, registry: CollectorRegistry, families: Iterable[Metric]) -> None:
        self._registry = registry
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            # The moment at which a series began doubles their number, and nothing reads it.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._families


def _described(series: Series) -> tuple[str, str, tuple[str, ...]]:
    return series.name, series.help, series.labels


def _family(series: Series, rows: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family: Family = kind(series.name, series.help, labels=series.labels)
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family


def _of_devices() -> Iterator[Family]:
    """Nothing where torch is not there or has not used CUDA: neither is begun for this."""
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # a module that another thread imports has no attributes yet
    if cuda is None or not cuda.is_initialized():
        return
    rows: list[tuple[tuple[str, ...], float]] = []
    for index in range(cuda.device_count()):
        rows.append(((f"cuda:{index}", "allocated"), cuda.memory_allocated(index)))
        rows.append(((f"cuda:{index}", "reserved"), cuda.memory_reserved(index)))
    yield _family(GPU_MEMORY, rows)


def _of_upstreams(upstreams: Mapping[str, bool]) -> Iterator[Family]:
    if upstreams:
        yield _family(UPSTREAM, [((name,), is_up) for name, is_up in sorted(upstreams.items())])


def _of_workers(workers: Sequence[ProcessStatus]) -> Iterator[Family]:
    if workers:
        yield _family(WORKER_DEATHS, [((one.name,), one.deaths) for one in workers])
        yield _family(WORKER_MEMORY, [((one.name,), one.resident_bytes) for one in workers])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
