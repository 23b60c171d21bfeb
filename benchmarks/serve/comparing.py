"""``python -m benchmarks serve``: every server at every number of clients, in turn, several times over."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve import measure, pictures
from benchmarks.serve.environments import NotInstalled, home, interpreter, versions
from benchmarks.serve.load import Plan
from benchmarks.serve.measure import Cell, DidNotRun
from benchmarks.serve.peers import OURS, PEERS, Peer
from benchmarks.serve.tables import printed

_TRIAL_CLIENTS, _TRIAL_SECONDS = 32, 5.0


@dataclass(slots=True)
class Results:
    """All that was measured. Pictures per second, seconds; ``missing`` says why a peer has no numbers."""

    machine: str
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)  # "peer/model" to the number that was better in the trial
    offline: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # by model, one per repeat
    overhead: list[dict[str, float]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    load_average: list[float] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> Results:
    """Everything, with a line on stderr for each step."""
    chosen = [peer for peer in PEERS if peer.name in arguments.peers]
    out = Results(_machine(), arguments.seconds)
    peers = [OURS, *(peer for peer in chosen if _is_there(peer, out))]
    for repeat in range(arguments.repeats):
        for model in arguments.models:
            # The order turns round at every repeat, so that a machine that drifts favours nobody.
            turn = peers if repeat % 2 == 0 else peers[::-1]
            _offline(model, repeat, out)
            for peer in turn:
                if model in peer.models:
                    _measured(peer, model, repeat, arguments, out)
        out.overhead.append(overhead(min(5.0, arguments.seconds)))
        out.load_average.append(os.getloadavg()[0])
        _save(out, arguments.json)
    return out


def overhead(seconds: float) -> dict[str, float]:
    """Median seconds of a request of 10 kB to `fake` over HTTP, of the same to the engine, and the difference."""
    inside = measure.offline("engine", str(seconds))["p50"]
    with measure.serving(OURS, "fake", 1, [pictures.small_jpeg()]) as server:
        whole = measure.load(Plan(server.port, str(server.requests), 1, seconds)).p50
    _say(f"fake: {1000 * whole:.2f} ms over HTTP, {1000 * inside:.2f} ms in the engine")
    return {"http": whole, "engine": inside, "overhead": whole - inside}


def _is_there(peer: Peer, out: Results) -> bool:
    try:
        _say(f"{peer.name}: environment")
        out.versions[peer.name] = versions(peer, interpreter(peer))
    except NotInstalled as error:
        out.missing[peer.name] = f"not installed: {error}"
        return False
    if peer.note:
        out.notes[peer.name] = peer.note
    return True


def _offline(model: str, repeat: int, out: Results) -> None:
    numbers = measure.offline("rate", model, str(out.seconds), str(_vectors(model)))
    out.offline.setdefault(model, []).append(numbers)
    _say(f"{repeat} {model} offline: {numbers['run']:.1f}/s")


def _measured(peer: Peer, model: str, repeat: int, arguments: argparse.Namespace, out: Results) -> None:
    name = f"{peer.name}/{model}"
    if name in out.missing:
        return
    expected = np.load(_vectors(model))
    try:
        if name not in out.workers:
            out.workers[name] = _better(peer, model, expected)
        with measure.serving(peer, model, out.workers[name], measure.bodies()) as server:
            for clients in arguments.clients:
                one = measure.cell(server, clients, arguments.seconds, repeat, expected)
                out.cells.append(one)
                _say(f"{repeat} {name} {clients:4d} clients: {one.rate:.1f}/s, p50 {1000 * one.p50:.0f} ms")
    except (DidNotRun, NotInstalled) as error:
        out.missing[name] = f"did not run: {error}"
        _say(f"{name}: {out.missing[name]}")


def _better(peer: Peer, model: str, expected: Any) -> int:
    """The number of worker processes with the higher rate in a short trial; ours stays as it is out of the box."""
    if len(peer.workers) == 1:
        return peer.workers[0]
    rates: dict[int, float] = {}
    for workers in peer.workers:
        with measure.serving(peer, model, workers, measure.bodies()) as server:
            rates[workers] = measure.cell(server, _TRIAL_CLIENTS, _TRIAL_SECONDS, -1, expected).rate
        _say(f"trial {peer.name}/{model} with {workers} workers: {rates[workers]:.1f}/s")
    return max(rates, key=lambda workers: rates[workers])


def _vectors(model: str) -> Path:
    return home() / f"expected-{model}.npy"


def _save(out: Results, path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(asdict(out), indent=1), encoding="utf-8")


def _machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    kind = names[0].partition(": ")[2] if names else platform.machine()
    return f"{os.cpu_count()} cores, {kind}, Python {platform.python_version()}"


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def command(given: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks serve", description=__doc__)
    parser.add_argument("--peers", type=_names, default=[peer.name for peer in PEERS], help="a,b,c; or '' for none")
    parser.add_argument("--models", type=_names, default=["mini", "vit-b32"])
    parser.add_argument("--clients", type=lambda text: [int(one) for one in _names(text)], default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where all numbers go, after every repeat")
    arguments = parser.parse_args(given)
    unknown = [name for name in arguments.peers if name not in {peer.name for peer in PEERS}]
    if unknown or not set(arguments.models) <= {"mini", "vit-b32"}:
        parser.error(f"unknown: {', '.join(unknown) or arguments.models}")
    measure.forget_runs()
    print(printed(run(arguments)))
