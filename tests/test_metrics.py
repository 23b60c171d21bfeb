"""The server's metrics: what they count, that callers cannot make more of them, and what is said of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from anmok.catalogue import cards
from anmok.engine import Batched, Engine, EngineStatus
from anmok.isolation import ProcessStatus
from anmok.load import load
from anmok.server.histograms import Histograms
from anmok.server.metrics import ITEMS, OTHER, SECONDS, SERIES, Metrics
from anmok.tasks import Embed
from conftest import coloured

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(3)
ROUTES = ("/models/{name}", "/metrics", "/run/embed")
NOTHING = EngineStatus(
    models=(),
    items=0,
    nbytes=0,
    rejected=0,
    budget_bytes=10**9,
    model_bytes=0,
    cached_states=0,
    cached_bytes=0,
    cache_hits=0,
    cache_misses=0,
    is_closing=False,
)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def made(*names: str) -> Metrics:
    return Metrics(names or ("fake", "parts"), ROUTES)


def samples(metrics: Metrics, status: EngineStatus = NOTHING) -> Samples:
    """By name and sorted labels."""
    body, _ = metrics.render(status)
    families = plain_text(body.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(found: Samples, name: str, *labels: tuple[str, str]) -> float:
    return found[name, tuple(sorted(labels))]


def test_an_answered_request_is_counted_by_route_model_and_status() -> None:
    metrics = made()
    metrics.answered("/models/{name}", "fake", 200, 0.02)
    metrics.answered("/models/{name}", "fake", 200, 0.3)
    metrics.answered("/models/{name}", "fake", 429, 0.0004)
    found = samples(metrics)
    place = ("route", "/models/{name}"), ("model", "fake")
    assert value(found, "anmok_requests_total", *place, ("status", "200")) == 2
    assert value(found, "anmok_requests_total", *place, ("status", "429")) == 1
    buckets = {le: value(found, "anmok_request_duration_seconds_bucket", *place, ("le", le)) for le in _le(SECONDS)}
    assert (buckets["0.001"], buckets["0.01"], buckets["0.025"], buckets["0.25"], buckets["0.5"]) == (1, 1, 2, 2, 3)
    assert value(found, "anmok_request_duration_seconds_sum", *place) == pytest.approx(0.3204)


def _le(bounds: tuple[float, ...]) -> list[str]:
    return [str(float(bound)) for bound in bounds]


def test_a_batch_is_counted_by_model_and_task() -> None:
    metrics = made()
    metrics.observe(Batched("fake", "embed", 3, (0.004, 0.2), 0.08, False, 0.03))
    found = samples(metrics)
    work = ("model", "fake"), ("task", "embed")
    assert value(found, "anmok_batch_size_sum", *work) == 3
    assert value(found, "anmok_batch_size_bucket", *work, ("le", "2.0")) == 0
    assert value(found, "anmok_batch_size_bucket", *work, ("le", "4.0")) == 1
    assert value(found, "anmok_inference_time_seconds_count", *work) == 1
    assert value(found, "anmok_inference_time_seconds_sum", *work) == pytest.approx(0.08)
    assert value(found, "anmok_preprocess_time_seconds_sum", *work) == pytest.approx(0.03)
    assert value(found, "anmok_queue_time_seconds_count", *work) == 2  # requests, not batches
    assert value(found, "anmok_queue_time_seconds_sum", *work) == pytest.approx(0.204)


def test_requests_in_flight_go_up_and_down() -> None:
    metrics = made()
    metrics.entered()
    metrics.entered()
    metrics.left()
    assert value(samples(metrics), "anmok_requests_in_flight") == 1


def test_an_engine_at_work_is_told_of() -> None:
    metrics = made("fake", "parts", "never")
    with Engine(10**9, names={"parts": "fake"}, observe=metrics.observe) as engine:
        engine.run("parts", [coloured("red", RNG)] * 3, Embed())
        found = samples(metrics, engine.status())
    for name, expected in (("parts", 1), ("fake", 0), ("never", 0)):
        assert value(found, "anmok_model_loaded", ("model", name)) == expected
        assert value(found, "anmok_model_loads_total", ("model", name)) == expected
        assert value(found, "anmok_queue_depth", ("model", name)) == 0
    assert value(found, "anmok_model_memory_bytes", ("model", "parts")) == load("fake").memory_bytes
    assert value(found, "anmok_model_load_duration_seconds", ("model", "parts")) > 0
    assert ("anmok_model_load_duration_seconds", (("model", "never"),)) not in found
    assert value(found, "anmok_batch_size_sum", ("model", "parts"), ("task", "embed")) == 3
    spent = value(found, "anmok_preprocess_time_seconds_sum", ("model", "parts"), ("task", "embed"))
    assert 0 < spent <= value(found, "anmok_inference_time_seconds_sum", ("model", "parts"), ("task", "embed"))
    assert value(found, "anmok_model_memory_budget_bytes") == 10**9


def test_evictions_failures_and_retries_come_from_the_engine() -> None:
    metrics = made("fake")
    with Engine(10**9, observe=metrics.observe) as engine:
        answers = engine.run("fake", [b"no picture", coloured("red", RNG)], Embed())
        found = samples(metrics, engine.status())
    assert len(answers) == 2
    assert value(found, "anmok_items_failed_total", ("model", "fake")) == 1
    assert value(found, "anmok_batches_retried_total", ("model", "fake")) == 1
    assert value(found, "anmok_model_evictions_total", ("model", "fake")) == 0


def test_asking_loads_no_model() -> None:
    def loader(name: str) -> object:
        raise AssertionError(f"{name} was loaded")

    metrics = made(*(card.name for card in cards()))
    with Engine(10**9, loader) as engine:  # type: ignore[arg-type]
        threads = threading.active_count()
        for _ in range(3):
            metrics.render(engine.status())
        assert threading.active_count() == threads
        assert engine.status().models == ()


def test_callers_cannot_make_series() -> None:
    """Ten thousand names, paths, reasons and statuses of somebody's own: a handful of series more."""
    metrics = made()
    before = len(samples(metrics))
    for i in range(10_000):
        metrics.answered(f"/models/{i}", f"mo'del\n{i}", 1000 + i, 0.1)
        metrics.answered("/models/{name}", f"{i}", 404, 0.1)
        metrics.rejected(f"reason {i}")
        metrics.observe(Batched(f"model {i}", "embed", 1, (0.1,), 0.1, False))
    found = samples(metrics)
    bounds = len(SECONDS) + 1
    durations = 2 * (bounds + 2)  # ("", "") and ("/models/{name}", "")
    per_batch = 2 * (bounds + 2) + (len(ITEMS) + 1 + 2)
    assert len(found) - before == 2 + durations + 1 + per_batch
    assert value(found, "anmok_requests_total", ("route", ""), ("model", ""), ("status", "0")) == 10_000
    assert value(found, "anmok_requests_rejected_total", ("reason", OTHER)) == 10_000


def test_histograms_are_written_as_prometheus_does() -> None:
    """What the client library makes of the same values, as its strict parsers read both."""
    labels, bounds = ("route", "model"), (0.001, 1.0, 60.0)
    ours, theirs = Histograms("anmok_x_seconds", "Of x.", labels, bounds), CollectorRegistry()
    reference = Histogram("anmok_x_seconds", "Of x.", labels, registry=theirs, buckets=bounds)
    values = (0.0, 0.001, 0.0010001, 0.3, 1.0, 59.9, 60.0, 1e9, 1e-9)
    for row in (("/models/{name}", 'mi"n\\i\n'), ("", ""), ("/run", "눈")):
        ours.observe(row, values)
        for number in values:
            reference.labels(*row).observe(number)
    for encode, parse, end in ((generate_latest, plain_text, ""), (generate_open_metrics, open_metrics, "# EOF\n")):
        found, wanted = next(iter(parse(ours.written() + end))), next(iter(parse(encode(theirs).decode())))
        assert (found.name, found.documentation, found.type) == (wanted.name, wanted.documentation, wanted.type)
        samples_there = {(one.name, *sorted(one.labels.items())): one.value for one in found.samples}
        assert samples_there == {
            (one.name, *sorted(one.labels.items())): one.value
            for one in wanted.samples
            if not one.name.endswith("_created")
        }
    assert Histograms("empty", "None.", labels, bounds).written() == "# HELP empty None.\n# TYPE empty histogram\n"


def test_a_name_that_is_served_later_counts_from_then_on() -> None:
    names = {"fake": 1}
    metrics = Metrics(names.keys(), ROUTES)
    metrics.answered("/metrics", "late", 200, 0.1)
    names["late"] = 2
    metrics.answered("/metrics", "late", 200, 0.1)
    found = samples(metrics)
    for model in ("", "late"):
        assert value(found, "anmok_requests_total", ("route", "/metrics"), ("model", model), ("status", "200")) == 1


@pytest.mark.parametrize("reason", ["busy", "loading", "closing", "workerdied"])
def test_refusals_begin_at_zero(reason: str) -> None:
    metrics = made()
    assert value(samples(metrics), "anmok_requests_rejected_total", ("reason", reason)) == 0
    metrics.rejected(reason)
    assert value(samples(metrics), "anmok_requests_rejected_total", ("reason", reason)) == 1


_PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def test_open_metrics_where_they_are_asked_for() -> None:
    metrics = made()
    metrics.answered("/metrics", "", 200, 0.01)
    metrics.observe(Batched("fake", "embed", 2, (0.1, 0.2), 0.1, False))
    body, content_type = metrics.render(NOTHING, accept=_PROMETHEUS_3)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in open_metrics(body.decode())}  # the parser is strict
    assert {"anmok_requests", "anmok_request_duration_seconds", "process_cpu_seconds"} <= names
    body, content_type = metrics.render(NOTHING, accept="text/html")
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"_created" not in body


def test_what_is_exported_is_what_is_described() -> None:
    """Names, kinds and labels on the wire against ``SERIES``; the documents and dashboards are checked against it."""
    metrics = made("fake")
    metrics.answered("/metrics", "fake", 200, 0.01)
    metrics.observe(Batched("fake", "embed", 1, (0.0,), 0.01, False, 0.001))
    with Engine(10**9) as engine, pytest.MonkeyPatch.context() as patch:
        engine.run("fake", [coloured("red", RNG)], Embed())
        patch.setitem(sys.modules, "torch", _cuda())
        worker = ProcessStatus("fake", ("fake",), 7, 1000, 2, 0.0)
        body, _ = metrics.render(engine.status(), upstreams={"llm": True}, workers=[worker])
    assert b'anmok_worker_deaths_total{worker="fake"} 2.0' in body
    families = [one for one in plain_text(body.decode()) if not one.name.startswith("process_")]
    found = {(one.name, family.type, frozenset(one.labels) - {"le"}) for family in families for one in family.samples}
    described = {(name, one.kind, frozenset(one.labels)) for one in SERIES for name in one.samples}
    assert found == described


def _cuda() -> SimpleNamespace:
    """What is asked of torch, with one device at work."""
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: True,
            device_count=lambda: 1,
            memory_allocated=lambda index: 3 * 10**9,
            memory_reserved=lambda index: 4 * 10**9,
        )
    )


def test_memory_of_a_gpu_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", _cuda())
    found = samples(made())
    assert value(found, "anmok_gpu_memory_bytes", ("device", "cuda:0"), ("kind", "allocated")) == 3 * 10**9
    assert value(found, "anmok_gpu_memory_bytes", ("device", "cuda:0"), ("kind", "reserved")) == 4 * 10**9
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # another thread is importing it
    assert not any(name == "anmok_gpu_memory_bytes" for name, _ in samples(made()))


def test_torch_is_not_imported_for_it() -> None:
    code = (
        "import sys; from anmok.engine import Engine; from anmok.server.metrics import Metrics\n"
        "metrics, engine = Metrics(('mini',), ()), Engine(10**9)\n"
        "metrics.render(engine.status()); engine.close(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_other_engines_are_up_or_down() -> None:
    body, _ = made().render(NOTHING, upstreams={"vllm-a": True, "vllm-b": False})
    assert b'anmok_upstream_up{upstream="vllm-a"} 1.0' in body
    assert b'anmok_upstream_up{upstream="vllm-b"} 0.0' in body


def test_two_servers_in_one_process_do_not_share_counts() -> None:
    one, other = made(), made()
    one.rejected("busy")
    assert value(samples(other), "anmok_requests_rejected_total", ("reason", "busy")) == 0


def test_threads_lose_no_count() -> None:
    metrics = made()

    def work() -> None:
        for _ in range(500):
            metrics.answered("/metrics", "fake", 200, 0.01)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place = ("route", "/metrics"), ("model", "fake"), ("status", "200")
    assert value(samples(metrics), "anmok_requests_total", *place) == 4000


def test_the_page_has_the_table_of_the_metrics() -> None:
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in SERIES
    ]
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("| `anmok_")] == rows
