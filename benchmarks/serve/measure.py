"""One server at a time: started, asked until it answers, checked, put under load, weighed, ended."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve import pictures, weights
from benchmarks.serve.environments import home, interpreter
from benchmarks.serve.load import Outcome, Plan
from benchmarks.serve.peers import ROOT, Peer, settings
from benchmarks.serve.processes import Running, free_port

_START_SECONDS = 120.0
_LOAD_SECONDS = 300.0  # beyond what a plan takes
_SAME = 0.9999  # cosine with the offline vector


class DidNotRun(Exception):
    """A server did not start, or did not answer; the message says what it said last."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One server, one model, one number of clients, one repeat. Seconds, requests per second, bytes."""

    peer: str
    model: str
    workers: int
    clients: int
    repeat: int
    rate: float
    p50: float
    p90: float
    p99: float
    errors: int
    memory_bytes: int
    cpu_share: float  # of one core, by the server
    cpu_seconds: float  # of the server, per answer: steadier than the rate where others share the machine
    client_share: float  # of one core, by the client
    cosine: float  # the worst with the offline vectors; 1 is the same


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers."""

    peer: Peer
    model: str
    workers: int
    running: Running
    port: int
    requests: Path  # the folder for the client
    start_seconds: float = field(default=0.0)


@contextmanager
def serving(peer: Peer, model: str, workers: int, bodies: Sequence[bytes]) -> Iterator[Serving]:
    """Starts it, waits until the first request is answered with 200, and ends it afterwards.

    Raises:
        DidNotRun: it ended, or gave no answer in time.
        NotInstalled: there is no environment for it.
    """
    python = interpreter(peer)
    weights.folder(home())
    port = free_port()
    folder = home() / "run" / peer.name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as requests:
        for number, body in enumerate(bodies):
            (Path(requests) / f"{number:03}.http").write_bytes(peer.request(model, body))
        running = Running(peer.command(python, port, model), environment(peer, model, workers), folder, _log(peer))
        try:
            took = _wait(peer, running, port, Path(requests) / "000.http")
            yield Serving(peer, model, workers, running, port, Path(requests), took)
        finally:
            running.stop()


def environment(peer: Peer, model: str, workers: int) -> dict[str, str]:
    """Of the server's process."""
    paths = [str(ROOT), str(ROOT / "src")] + ([] if peer.requirements else [str(weights.plug_in(home()))])
    cache = os.environ.get("ANMOK_CACHE") or _cache()  # beside which HOME is another one
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    ours = {"PYTHONPATH": os.pathsep.join(paths), "ANMOK_CACHE": cache}
    return kept | settings(model, workers, home()) | ours | dict(peer.environment)


def load(plan: Plan) -> Outcome:
    """The client in its own process."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(asdict(plan), file)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.serve.load", file.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=plan.seconds + _LOAD_SECONDS, check=False)
    if done.returncode:
        raise DidNotRun(f"the client failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return Outcome(**json.loads(done.stdout))


def cell(server: Serving, clients: int, seconds: float, repeat: int, expected: NDArray[np.float32]) -> Cell:
    """One level of load on a server that runs."""
    before, start = server.running.cpu_seconds(), time.perf_counter()
    out = load(Plan(server.port, str(server.requests), clients, seconds))
    spent, taken = server.running.cpu_seconds() - before, time.perf_counter() - start
    errors = out.unanswered + sum(count for status, count in out.statuses.items() if status != "200")
    return Cell(
        peer=server.peer.name,
        model=server.model,
        workers=server.workers,
        clients=clients,
        repeat=repeat,
        rate=out.rate,
        p50=out.p50,
        p90=out.p90,
        p99=out.p99,
        errors=errors,
        memory_bytes=server.running.memory_bytes(),
        cpu_share=spent / taken,
        cpu_seconds=spent / max(1, len(out.points)),
        client_share=out.client_share,
        cosine=likeness(server.peer, out.samples, expected),
    )


def likeness(peer: Peer, samples: dict[str, str], expected: NDArray[np.float32]) -> float:
    """The smallest cosine of what was answered and the offline rows (N, D); 0 where nothing was answered."""
    worst = 1.0 if samples else 0.0
    for number, body in samples.items():
        row = peer.read(base64.b64decode(body))
        wanted = expected[int(number)].astype(np.float64)
        if row.shape != wanted.shape:
            return 0.0
        worst = min(worst, float(row @ wanted / (np.linalg.norm(row) * np.linalg.norm(wanted))))
    return worst


def is_same(cosine: float) -> bool:
    return cosine >= _SAME


def offline(*arguments: str) -> dict[str, float]:
    """Numbers of ``benchmarks.serve.offline``."""
    from benchmarks.serve.peers import OURS

    there = environment(OURS, "mini", 1)
    command = [sys.executable, "-m", "benchmarks.serve.offline", *arguments]
    done = subprocess.run(command, env=there, cwd=ROOT, capture_output=True, timeout=_LOAD_SECONDS, check=False)
    if done.returncode:
        raise DidNotRun(f"offline {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()[-400:]}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def bodies() -> list[bytes]:
    return pictures.jpegs()


def forget_runs() -> None:
    """Removes what the servers left in their working directories."""
    shutil.rmtree(home() / "run", ignore_errors=True)


def _wait(peer: Peer, running: Running, port: int, request: Path) -> float:
    start = time.perf_counter()
    said: Any = "nothing"
    head, _, body = request.read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    while (taken := time.perf_counter() - start) < _START_SECONDS and running.is_alive:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
            connection.request("POST", lines[0].split()[1], body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                return taken
            said = f"{answer.status} {content[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            said = said if said != "nothing" else f"{type(error).__name__}"
        finally:
            connection.close()
        time.sleep(0.25)
    log = _log(peer).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise DidNotRun(f"{said}; its log ends: {log[-1][:200] if log else 'empty'}")


def _log(peer: Peer) -> Path:
    return home() / f"{peer.name}.log"


def _cache() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("anmok", appauthor=False)
