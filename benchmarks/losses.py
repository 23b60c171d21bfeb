"""Contrastive losses: time and memory of a step, forward and backward, at growing batches.

Forms: ``dense`` keeps N x N logits (with ``anmok``'s ``chunk=None``); ``open_clip`` is that library's own loss, from
its package; ``chunked`` computes some rows at a time under autograd, which keeps them all; ``chunked, recomputed``
does so under ``torch.utils.checkpoint``; ``anmok`` is ours. Every form is measured once in each round, in a process of
its own, so that a machine that drifts drifts for all; a row is the median over rounds with the least and the most. On
a CPU the comparison with ``dense`` is by processor time, which others on the machine disturb least; on CUDA by the
clock, after a first step, and every form may use TF32 unless ``--precision highest`` is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.losses_forms import FORMS, Wanted

ROOT = Path(__file__).parents[1]
_TOLERANCE = 1e-3  # relative, of loss and gradient, to the first form that ran
_TOLERANCE_HALF = 2e-2  # others round the logits of halves to eight bits
_START_SECONDS = 60.0
_LARGE = 8192  # beyond this batch a process on a CPU makes one step alone, which is timed and weighed at once
_CUDA_STEPS = 5


@dataclass(frozen=True, slots=True)
class OpenClip:
    """The peer's environment; without its own dependencies, since its losses need torch alone."""

    name: str = "open_clip"
    requirements: tuple[str, ...] = ("open_clip_torch", "--no-deps")
    shares_torch: bool = True


@dataclass(slots=True)
class Row:
    """One form at one batch: what was measured in each round, or why it was not."""

    kind: str
    count: int
    form: str
    seconds: list[float]
    cpu_seconds: list[float]
    bytes: list[float]
    loss: float = 0.0
    gradient: float = 0.0
    skipped: str = ""


def command(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    pythons, notes = _pythons(options.forms)
    rows = []
    for kind in options.kinds:
        for count in options.sizes:
            rows += _measured(kind, count, options, pythons, rows)
    report = {"machine": _machine(options), "notes": notes, "options": vars(options), "rows": [asdict(r) for r in rows]}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1), encoding="utf-8")
    print("\n".join(_table(rows, _machine(options), options)))
    for name, note in notes.items():
        print(f"- {name}: {note}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks losses", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--kinds", nargs="+", default=["clip", "siglip"], choices=["clip", "siglip"])
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--chunk", type=int, help="rows of a chunk (1024), the side of our squares (theirs to choose)")
    parser.add_argument("--precision", default="high", choices=["high", "highest"], help="of fp32 products on CUDA")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=float, default=8.0, help="GB that a step may take on a CPU")
    parser.add_argument("--seconds", type=float, default=240.0, help="that one process may take")
    parser.add_argument("--json", help="write everything to this file")
    options = parser.parse_args(arguments)
    if options.device == "auto":
        import torch

        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


def _pythons(forms: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreter of each form, and what is to be said of it. The peer is installed where it is asked for."""
    from benchmarks.serve.environments import NotInstalled, interpreter, versions

    pythons = dict.fromkeys(forms, Path(sys.executable))
    if "open_clip" not in forms:
        return pythons, {}
    try:
        pythons["open_clip"] = interpreter(OpenClip())  # type: ignore[arg-type]
    except NotInstalled as error:
        del pythons["open_clip"]
        return pythons, {"open_clip": f"not installed, nothing is claimed against it: {error}"}
    return pythons, {"open_clip": versions(OpenClip(), pythons["open_clip"])}  # type: ignore[arg-type]


def _measured(
    kind: str,
    count: int,
    options: argparse.Namespace,
    pythons: dict[str, Path],
    before: Sequence[Row],
) -> list[Row]:
    rows = [Row(kind, count, form, [], [], []) for form in options.forms]
    for row in rows:
        if row.form not in pythons:
            row.skipped = "not installed"
        elif reason := _hopeless(row, before):
            row.skipped = reason
    for _ in range(options.rounds):
        for row in rows:
            if not row.skipped:
                _measure(row, options, pythons[row.form])
    return rows


def _measure(row: Row, options: argparse.Namespace, python: Path) -> None:
    steps = max(1, min(9, 3 * 2048 // row.count)) if row.count <= _LARGE else 0
    if options.device == "cuda":
        steps = max(steps, _CUDA_STEPS)
    wanted = Wanted(
        form=row.form,
        kind=row.kind,
        count=row.count,
        width=options.width,
        chunk=options.chunk,
        dtype=options.dtype,
        device=options.device,
        steps=steps,
        limit_bytes=round(options.memory * 1e9),
        precision=options.precision,
    )
    found = _asked(wanted, python, options.seconds)
    if reason := found.get("skipped"):
        row.skipped = row.skipped or str(reason)
        return
    row.seconds.append(found["seconds"])
    row.cpu_seconds.append(found["cpu_seconds"])
    row.bytes.append(found["bytes"])
    row.loss, row.gradient = found["loss"], found["gradient"]


def _asked(wanted: Wanted, python: Path, seconds: float) -> dict[str, Any]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    argument = [str(python), "-m", "benchmarks.losses_forms", json.dumps(asdict(wanted))]
    environment = os.environ | {"PYTHONPATH": paths}
    try:
        done = subprocess.run(
            argument, env=environment, cwd=ROOT, capture_output=True, timeout=seconds + _START_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"skipped": f"more than {seconds:.0f} s"}
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return {"skipped": f"failed: {said[-1][:120] if said else done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _hopeless(row: Row, before: Sequence[Row]) -> str:
    """Why a smaller batch did not go; a larger one is not tried."""
    smaller = [one for one in before if (one.kind, one.form) == (row.kind, row.form) and one.skipped]
    return f"{smaller[-1].skipped.removesuffix(' already')} already" if smaller else ""


def _table(rows: Sequence[Row], machine: str, options: argparse.Namespace) -> Iterator[str]:
    yield f"{machine}; d = {options.width}, {options.dtype}, chunk {options.chunk or 'auto'}, {options.rounds} rounds."
    yield ""
    yield "| loss | N | form | ms a step | CPU ms a step | times dense | MB beyond the inputs | same value |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        first = next((one for one in rows if (one.kind, one.count) == (row.kind, row.count) and one.seconds), row)
        if not row.seconds:
            yield f"| {row.kind} | {row.count} | {row.form} | skipped: {row.skipped} | | | | |"
            continue
        ours, theirs = (one.cpu_seconds if options.device == "cpu" else one.seconds for one in (row, first))
        faster = f"{median(ours) / median(theirs):.2f}" if first.form == "dense" else ""
        tolerance = _TOLERANCE if options.dtype == "float32" else _TOLERANCE_HALF
        near = all(abs(a - b) <= tolerance * abs(b) for a, b in _values(row, first))
        time, work = (_spread([1000 * one for one in values]) for values in (row.seconds, row.cpu_seconds))
        memory = f"{max(row.bytes) / 1e6:.1f}"
        where = f"| {row.kind} | {row.count} | {row.form}"
        yield f"{where} | {time} | {work} | {faster} | {memory} | {'yes' if near else 'NO'} |"


def _values(row: Row, first: Row) -> list[tuple[float, float]]:
    return [(row.loss, first.loss), (row.gradient, first.gradient)]


def _spread(values: Sequence[float]) -> str:
    digits = 1 if median(values) < 100 else 0
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (one run)"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _machine(options: argparse.Namespace) -> str:
    import torch

    if options.device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
