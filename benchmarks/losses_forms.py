"""Ways to compute one contrastive loss and its gradients, and the process in which one of them is measured.

``python -m benchmarks.losses_forms '{"form": "dense", "kind": "clip", "count": 1024, ...}'`` prints one line of JSON.
A process of its own for every measurement: the highest memory of a process is known, that of a call is not.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

SCALES = {"clip": (1 / 0.07, 0.0), "siglip": (10.0, -10.0)}  # where training begins
_ROWS = 1024  # of a chunk
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One measurement: batch, width, and the limits. ``steps`` are timed after a first one, or it is itself."""

    form: str
    kind: str  # clip, siglip
    count: int
    width: int
    chunk: int | None
    dtype: str
    device: str
    steps: int
    limit_bytes: int
    precision: str = "high"


def loss(form: str, kind: str, chunk: int | None) -> Loss:
    """The loss of unit images (N, d), unit texts (N, d), scale () and bias (). ``chunk=None`` is each form's own."""
    if form == "open_clip":
        return _open_clip(kind)
    if form == "anmok" or form == "dense":
        from anmok.train.losses import clip_loss, siglip_loss

        side = (chunk or "auto") if form == "anmok" else None
        if kind == "clip":
            return lambda x, y, s, b: clip_loss(x, y, s, chunk=side)
        return lambda x, y, s, b: siglip_loss(x, y, s, b, chunk=side)
    again, rows = form == "chunked, recomputed", chunk or _ROWS
    if kind == "clip":
        return lambda x, y, s, b: _chunked_clip(x, y, s, rows, again)
    return lambda x, y, s, b: _chunked_siglip(x, y, s, b, rows, again)


FORMS = ("dense", "open_clip", "chunked", "chunked, recomputed", "anmok")


def _chunked_clip(x: Tensor, y: Tensor, s: Tensor, chunk: int, again: bool) -> Tensor:
    columns, total = x.new_full((len(y),), -torch.inf), x.new_zeros(())
    for start in range(0, len(x), chunk):
        part = _call(_clip_rows, again, x[start : start + chunk], y, s)
        total, columns = total + part[0], torch.logaddexp(columns, part[1])
    return (total + columns.sum() - 2 * s * (x * y).sum()) / (2 * len(x))


def _clip_rows(rows: Tensor, y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    logits = s * rows @ y.T  # (chunk, N)
    return logits.logsumexp(1).sum(), logits.logsumexp(0)


def _chunked_siglip(x: Tensor, y: Tensor, s: Tensor, b: Tensor, chunk: int, again: bool) -> Tensor:
    total = -(s * (x * y).sum() + b * len(x))
    for start in range(0, len(x), chunk):
        total = total + _call(_siglip_rows, again, x[start : start + chunk], y, s, b)
    return total / len(x)


def _siglip_rows(rows: Tensor, y: Tensor, s: Tensor, b: Tensor) -> Tensor:
    return functional.softplus(s * rows @ y.T + b).sum()


def _call(part: Callable[..., Any], again: bool, *tensors: Tensor) -> Any:
    return checkpoint(part, *tensors, use_reentrant=False) if again else part(*tensors)


def _open_clip(kind: str) -> Loss:
    theirs = _open_clip_losses()
    if kind == "clip":
        softmax = theirs.ClipLoss()
        return lambda x, y, s, b: softmax(x, y, s)
    sigmoid = theirs.SigLipLoss()
    return lambda x, y, s, b: sigmoid(x, y, s, b)


def _open_clip_losses() -> ModuleType:
    """Its ``loss.py`` alone: the package imports torchvision, whose wheels do not fit every build of torch."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(package.origin).with_name("loss.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(wanted: Wanted) -> dict[str, float]:
    """Of a step, forward and backward: seconds by the clock and of processors, the bytes that it needs beyond its
    inputs, the loss, and how long the gradient of the images is."""
    form = loss(wanted.form, wanted.kind, wanted.chunk)
    _step(form, _inputs(wanted, 64))
    inputs = _inputs(wanted, wanted.count)
    memory = _Cuda() if wanted.device == "cuda" else _Process(wanted.limit_bytes)
    start, spent = time.perf_counter(), time.process_time()
    value = _step(form, inputs)
    first = time.perf_counter() - start, time.process_time() - spent
    peak = memory.highest()
    norms = [float(one.grad.float().norm()) for one in inputs if one.grad is not None]
    times = [_timed(form, inputs, wanted.device) for _ in range(wanted.steps)] or [first]
    clock, work = (median(column) for column in zip(*times, strict=True))
    return {"seconds": clock, "cpu_seconds": work, "bytes": peak, "loss": value, "gradient": norms[0]}


def _inputs(wanted: Wanted, count: int) -> tuple[Tensor, ...]:
    """Images whose texts resemble them, so that neither loss is at its start."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(count, wanted.width, generator=generator)
    images = texts + torch.randn(count, wanted.width, generator=generator)
    rows = (functional.normalize(one, dim=1).to(wanted.device, getattr(torch, wanted.dtype)) for one in (images, texts))
    numbers = (torch.tensor(one, device=wanted.device) for one in SCALES[wanted.kind])
    return tuple(one.requires_grad_() for one in (*rows, *numbers))


def _step(form: Loss, inputs: tuple[Tensor, ...]) -> float:
    for one in inputs:
        one.grad = None
    value = form(*inputs)  # type: ignore[call-arg]
    value.backward()
    return float(value.detach())


def _timed(form: Loss, inputs: tuple[Tensor, ...], device: str) -> tuple[float, float]:
    start, spent = time.perf_counter(), time.process_time()
    _step(form, inputs)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - spent


class _Process:
    """Memory of this process beyond what it has now, and a limit on it (Linux)."""

    def __init__(self, limit: int) -> None:
        size = _status("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (size + limit, resource.RLIM_INFINITY))
        self._before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest is counted from here

    def highest(self) -> int:
        return _status("VmHWM") - self._before


class _Cuda:
    def __init__(self) -> None:
        torch.cuda.synchronize()
        self._before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()

    def highest(self) -> int:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - self._before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    wanted = Wanted(**json.loads(sys.argv[1]))
    torch.set_float32_matmul_precision(wanted.precision)  # tensor cores on CUDA, for all of them; no change on a CPU
    try:
        print(json.dumps(measured(wanted)))
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower():
            raise
        print(json.dumps({"skipped": f"more than {wanted.limit_bytes / 1e9:g} GB"}))


if __name__ == "__main__":
    main()
