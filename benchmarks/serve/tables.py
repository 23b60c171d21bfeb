"""What is said of the numbers: a table per model, and each claim with the numbers that hold it up or withdraw it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve.measure import Cell, is_same

if TYPE_CHECKING:
    from benchmarks.serve.comparing import Results

TARGET_SHARE = 0.9  # of the offline rate, at CLIENTS
TARGET_OVERHEAD = 0.002  # seconds, of the server over the engine
CLIENTS = 32
_OURS = "anmok"
_HEAD = (
    "| server | workers | clients | answers/s | p50 ms | p90 ms | p99 ms | memory MB | CPU ms/answer | errors | same |"
)


def printed(out: Results) -> str:
    """Markdown."""
    lines = [f"{out.machine}; windows of {out.seconds:g} s, medians of {_repeats(out)} repeats (least to most).", ""]
    for model in out.offline:
        lines += [*_table(out, model), ""]
    lines += [f"- {name}: {text}" for name, text in [*out.versions.items(), *out.notes.items()]]
    lines += [f"- {name}: {why}" for name, why in out.missing.items()]
    lines += ["", *(f"- {claim}" for claim in claims(out))]
    if out.load_average and max(out.load_average) > 4:
        lines += ["", f"The machine had other work (load {max(out.load_average):.1f}): these numbers are no evidence."]
    return "\n".join(lines)


def claims(out: Results) -> Iterator[str]:
    """One sentence per target, met or missed; nothing is claimed against a peer that did not run."""
    for model, rates in out.offline.items():
        ours = _rates(out, _OURS, model, CLIENTS)
        if not ours:
            continue
        share = np.array(ours) / np.array([one["run"] for one in rates[: len(ours)]])
        verdict = "met" if np.median(share) >= TARGET_SHARE else "missed"
        part = f"{_spread(100 * share)} % of the offline rate"
        yield f"{model}: {part} at {CLIENTS} clients; {100 * TARGET_SHARE:.0f} % {verdict}"
        for peer in dict.fromkeys(cell.peer for cell in out.cells if cell.peer != _OURS and cell.model == model):
            yield _against(out, peer, model, ours)
    if out.overhead:
        extra = np.array([one["overhead"] for one in out.overhead])
        verdict = "met" if np.median(extra) <= TARGET_OVERHEAD else "missed"
        yield f"fake: {_spread(1000 * extra, 2)} ms over the engine at one client; 2 ms {verdict}"
    for name in out.missing:
        yield f"{name}: nothing is claimed against it"


def _against(out: Results, peer: str, model: str, ours: Sequence[float]) -> str:
    theirs = _rates(out, peer, model, CLIENTS)
    if not theirs or min(theirs) <= 0:
        return f"{model}: nothing is claimed against {peer}: it gave no rate at {CLIENTS} clients"
    if not all(is_same(cell.cosine) for cell in out.cells if (cell.peer, cell.model) == (peer, model)):
        return f"{model}: nothing is claimed against {peer}: its vectors are others"
    count = min(len(ours), len(theirs))
    ratio = np.array(ours[:count]) / np.array(theirs[:count])
    word = "ahead of" if ratio.min() > 1 else "behind" if ratio.max() < 1 else "not told from"
    return f"{model}: {word} {peer}, {_spread(ratio, 2)} times its rate at {CLIENTS} clients"


def _table(out: Results, model: str) -> Iterator[str]:
    yield f"**{model}**"
    yield ""
    yield _HEAD
    yield "|---" * _HEAD.count("|", 1) + "|"
    rates = out.offline[model]
    yield f"| no server, `Model.run` | | | {_spread([one['run'] for one in rates])} | | | | | | | |"
    yield f"| no server, `Model.map` | | | {_spread([one['map'] for one in rates])} | | | | | | | |"
    here = [cell for cell in out.cells if cell.model == model]
    for peer, clients in dict.fromkeys((cell.peer, cell.clients) for cell in here):
        yield _row([cell for cell in here if (cell.peer, cell.clients) == (peer, clients)])


def _row(cells: Sequence[Cell]) -> str:
    first = cells[0]
    times = [_spread([1000 * getattr(cell, name) for cell in cells], 0) for name in ("p50", "p90", "p99")]
    memory = f"{max(cell.memory_bytes for cell in cells) / 1e6:.0f}"
    cpu = _spread([1000 * cell.cpu_seconds for cell in cells], 1)
    same = "yes" if all(is_same(cell.cosine) for cell in cells) else f"no, {min(cell.cosine for cell in cells):.4f}"
    middle = [
        _spread([cell.rate for cell in cells]),
        *times,
        memory,
        cpu,
        str(sum(cell.errors for cell in cells)),
        same,
    ]
    return f"| {first.peer} | {first.workers} | {first.clients} | " + " | ".join(middle) + " |"


def _rates(out: Results, peer: str, model: str, clients: int) -> list[float]:
    """In the order of the repeats."""
    found = [cell for cell in out.cells if (cell.peer, cell.model, cell.clients) == (peer, model, clients)]
    return [cell.rate for cell in sorted(found, key=lambda cell: cell.repeat)]


def _repeats(out: Results) -> int:
    return len({cell.repeat for cell in out.cells})


def _spread(values: Sequence[float] | NDArray[np.float64], digits: int = 1) -> str:
    """``21.3 (20.9 to 21.8)``."""
    middle = f"{float(np.median(values)):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({float(np.min(values)):.{digits}f} to {float(np.max(values)):.{digits}f})"
