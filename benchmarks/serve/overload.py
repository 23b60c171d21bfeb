"""``python -m benchmarks overload``: what our server does with ten times the requests that it can answer.

An open loop: the clients ask at a set rate whatever comes back, and nobody slows down for a 429. Looked at are the
memory, whether every request has an answer, whether refusals say when to come back, and how soon a lone client has
its old latency again once the load has ended.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.serve import measure
from benchmarks.serve.load import Outcome, Plan
from benchmarks.serve.measure import Serving
from benchmarks.serve.peers import OURS

TARGET_RECOVERY = 5.0  # seconds
SLOWDOWN = 1.5  # of the median before, at most, for what counts as recovered
_LONE_SECONDS = 8.0  # of the lone client before
_AFTER_SECONDS = 45.0  # and after: long enough to see a slow recovery to its end
_CAPACITY_SECONDS = 8.0
_MOMENT = 2.0  # seconds over which a median is taken while looking for the recovery
_PAUSE = 0.5  # between two looks at the memory


@dataclass(slots=True)
class Overload:
    """Requests per second, seconds, bytes. ``memory`` are (seconds, bytes) from the first request on."""

    model: str
    flags: str = ""
    capacity: float = 0.0
    asked: float = 0.0
    seconds: float = 0.0
    before_p50: float = 0.0
    accepted_p50: float = 0.0
    accepted_p99: float = 0.0
    refused_p50: float = 0.0
    sent: int = 0
    held: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    unanswered: int = 0
    unhinted: int = 0
    drained_seconds: float = 0.0  # from the end of the load to the last answer
    recovered_seconds: float | None = None  # from the end of the load; None where it never was
    memory_before: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)
    client_share: float = 0.0
    load_average: float = 0.0


def run(model: str, seconds: float, factor: float, flags: Sequence[str] = ()) -> Overload:
    """Capacity, a lone client, the load, the lone client again; on one server, with ``flags`` of ``anmok serve``."""
    out = Overload(model, seconds=seconds, flags=" ".join(flags))
    peer = replace(OURS, command=lambda python, port, name: [*OURS.command(python, port, name), *flags])
    with measure.serving(peer, model, 1, measure.bodies()) as server:
        out.capacity = _asked(server, 32, _CAPACITY_SECONDS).rate
        out.before_p50 = _asked(server, 1, _LONE_SECONDS).p50
        out.memory_before = server.running.memory_bytes()
        out.asked = factor * out.capacity
        _say(f"{out.capacity:.1f}/s can be answered; {out.asked:.0f}/s are asked for {seconds:g} s")
        looks = threading.Event()
        watch = threading.Thread(target=_watched, args=(server, looks, out.memory))
        watch.start()
        try:
            start = time.time()
            lone, after = _after(server, seconds)
            loaded = measure.load(Plan(server.port, str(server.requests), seconds=seconds, rate=out.asked))
            lone.join()
        finally:
            looks.set()
            watch.join()
        _summed(out, loaded)
        out.recovered_seconds = recovery(_points(after[0], loaded.started + seconds), SLOWDOWN * out.before_p50)
        _say(f"done in {time.time() - start:.0f} s")
    out.load_average = os.getloadavg()[0]
    return out


def recovery(points: Sequence[tuple[float, float]], most: float) -> float | None:
    """When the lone client is well again: the median over the next two seconds, and that over all the rest, are at
    or below ``most``. One slow answer later on is no illness.

    Args:
        points: (sent at, seconds it took), with 0 the end of the load.
        most: seconds.
    """
    for start in sorted({sent for sent, _ in points if sent >= 0}):
        rest = [(sent, took) for sent, took in points if sent >= start]
        near = [took for sent, took in rest if sent < start + _MOMENT]
        if max(np.median(near), np.median([took for _, took in rest])) <= most:
            return start
    return None


def _after(server: Serving, seconds: float) -> tuple[threading.Thread, list[Outcome]]:
    """A lone client that begins as the load ends: its process is started in time for it."""
    found: list[Outcome] = []

    def ask() -> None:
        time.sleep(seconds)
        found.append(measure.load(Plan(server.port, str(server.requests), 1, _AFTER_SECONDS, is_warm=True)))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, found


def _points(after: Outcome, ended: float) -> list[tuple[float, float]]:
    """The clock begins when the load ends; whoever is refused has waited for ever."""
    shift = after.started - ended
    return [(sent + shift, took if status == 200 else math.inf) for sent, took, status in after.points]


def _asked(server: Serving, clients: int, seconds: float) -> Outcome:
    return measure.load(Plan(server.port, str(server.requests), clients, seconds))


def _watched(server: Serving, is_over: threading.Event, memory: list[tuple[float, int]]) -> None:
    start = time.perf_counter()
    while not is_over.wait(_PAUSE):
        memory.append((round(time.perf_counter() - start, 1), server.running.memory_bytes()))


def _summed(out: Overload, loaded: Outcome) -> None:
    out.sent, out.held, out.statuses = loaded.sent, loaded.held, loaded.statuses
    out.lost, out.unanswered, out.unhinted = loaded.lost, loaded.unanswered, loaded.unhinted
    out.client_share = loaded.client_share
    out.accepted_p50, out.accepted_p99 = loaded.p50, loaded.p99
    refused = [took for _, took, status in loaded.points if status == 429]
    out.refused_p50 = float(np.median(refused)) if refused else 0.0
    out.drained_seconds = max(sent + took for sent, took, _ in loaded.points) - out.seconds


def printed(out: Overload) -> str:
    """Lines of text, with each target met or missed."""
    peak = max((size for _, size in out.memory), default=out.memory_before)
    half = [size for at, size in out.memory if at > out.seconds / 2]
    growth = (max(half) / max(size for at, size in out.memory if at <= out.seconds / 2) - 1) if half else 0.0
    others = {code: count for code, count in out.statuses.items() if code not in ("200", "429")}
    is_answered = not (out.lost or out.unanswered or others)
    back = out.recovered_seconds
    is_back = back is not None and back <= TARGET_RECOVERY
    lines = [
        f"{out.model} {out.flags}: {out.capacity:.1f}/s at best; {out.asked:.0f}/s asked for {out.seconds:g} s,"
        f" {out.sent} in all",
        f"- answered {out.statuses.get('200', 0)}, refused with 429 {out.statuses.get('429', 0)}, otherwise {others},"
        f" lost {out.lost}, without an answer {out.unanswered}, never sent for want of a connection {out.held}:"
        f" every request has its answer: {'met' if is_answered else 'missed'}",
        f"- refusals without Retry-After: {out.unhinted}; a refusal takes {1000 * out.refused_p50:.0f} ms (p50)",
        f"- accepted: p50 {out.accepted_p50:.2f} s, p99 {out.accepted_p99:.2f} s; the last came"
        f" {out.drained_seconds:.1f} s after the load",
        f"- memory {out.memory_before / 1e6:.0f} MB before, {peak / 1e6:.0f} MB at most; the second half's peak is"
        f" {100 * growth:+.1f} % of the first's",
        f"- a lone client: {1000 * out.before_p50:.0f} ms before; at most {SLOWDOWN:g} times that again"
        f" {'never' if back is None else f'{back:.1f} s'} after the load: {'met' if is_back else 'missed'}",
        f"- the client took {100 * out.client_share:.0f} % of a core; load average at the end {out.load_average:.1f}",
    ]
    return "\n".join(lines)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def command(given: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overload", description=__doc__)
    parser.add_argument("--model", choices=("mini", "vit-b32", "fake"), default="mini")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--factor", type=float, default=10.0, help="times the capacity")
    parser.add_argument("--json", type=Path)
    flags = ["--max-wait", "5"]  # what the server does by itself
    parser.add_argument("--flags", type=str.split, default=flags, help='more for `anmok serve`: "--max-queue 64"')
    arguments = parser.parse_args(given)
    out = run(arguments.model, arguments.seconds, arguments.factor, arguments.flags)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(out), indent=1), encoding="utf-8")
    print(printed(out))
