"""Series of images as they come from a line: stretches made together, with labels and file sizes that go together."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anmok.evidence.audit_rows import Rows
from anmok.media import Facts


@dataclass(frozen=True)
class Series:
    """``labels`` in {"bad", "good"}; ``code`` the same as 0 and 1; ``part`` (n,) the stretch of each image."""

    names: list[str]
    labels: list[str]
    code: NDArray[np.intp]
    part: NDArray[np.intp]
    facts: list[Facts]


def series(parts: int = 40, size: int = 40, seed: int = 0, has_sizes: bool = True) -> Series:
    """Parts of ``size`` consecutive files; each part is mostly good or mostly bad, and has its own file size."""
    rng = np.random.default_rng(seed)
    share = rng.beta(0.3, 0.6, parts)  # of bad ones
    part = np.repeat(np.arange(parts), size)  # (n,)
    is_bad = rng.random(part.size) < share[part]  # (n,)
    level = 20_000 * np.exp(rng.normal(0, 0.4, parts) if has_sizes else np.zeros(parts))  # (parts,)
    bytes_ = (level[part] * np.exp(rng.normal(0, 0.04, part.size))).astype(int)  # (n,)
    names = [f"images/cell{i + 1:04d}.png" for i in range(part.size)]
    labels = ["bad" if bad else "good" for bad in is_bad]
    facts = [Facts(f"{i:064x}", int(b), 300, 300, "PNG", "", "") for i, b in enumerate(bytes_)]
    return Series(names, labels, (~is_bad).astype(np.intp), part, facts)


def rows_of(code: NDArray[np.intp], predicted: NDArray[np.intp], side: Sequence[str]) -> Rows:
    """Rows with two classes; those on the side "test" are tested."""
    sides = np.array(side, dtype=str)
    names = tuple(f"cell{i + 1:04d}.png" for i in range(code.size))
    return Rows(names, None, ("bad", "good"), code, predicted, sides, sides == "test", None, True, ())


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def noise(seed: int, side: int = 40) -> NDArray[np.uint8]:
    """A blotchy grey picture (side, side, 3), unlike any of another seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (10, 10), dtype=np.uint8))
    grey = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))  # (side, side)
    return np.repeat(grey[:, :, None], 3, axis=2)  # (side, side, 3)


def write_pictures(root: Path, names: Sequence[str], first_seed: int = 0) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(first_seed + i)).save(path)
    return root
