"""Do two labellers mean the same, and how fast is each?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import Interval, accuracy

PAUSE: Final = 60.0  # seconds; whoever takes longer has gone for coffee
_RESAMPLES = 2_000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An image, by its path below the folder, and what each of the two said."""

    path: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two people on the measuring images that both have given a label.

    ``raw`` is the share on which they agree and ``kappa`` Cohen's (1960), agreement beyond what their own shares of
    labels would bring by chance; both with 95 % intervals, by a bootstrap of images. ``kappa`` is None where it is
    not defined: both have used one and the same label throughout. These images are a random part of the folder.
    """

    first: str
    second: str
    images: int
    raw: float
    raw_interval: Interval
    kappa: float | None
    kappa_interval: Interval | None
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """``strokes`` that stand, skips and doubts included; ``median`` seconds of one; and how many this person makes in
    a minute, pauses counted as one minute each."""

    by: str
    strokes: int
    median: float
    per_minute: float


def agreement(
    first: str, second: str, pairs: Sequence[tuple[str, str, str]], labels: tuple[str, ...], seed: int
) -> Agreement | None:
    """From ``pairs`` of (path, what the first said, what the second said); None where there are none."""
    if not pairs:
        return None
    number = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), np.int64)
    for _, one, other in pairs:
        table[number[one], number[other]] += 1
    same = accuracy([one == other for _, one, other in pairs])
    kappa = float(cohens_kappa(table[None])[0])
    interval = None if np.isnan(kappa) else _interval(table, kappa, same.interval, seed)
    disagreements = tuple(Disagreement(*pair) for pair in pairs if pair[1] != pair[2])
    value = None if np.isnan(kappa) else kappa
    return Agreement(first, second, len(pairs), same.value, same.interval, value, interval, disagreements)


def cohens_kappa(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """(B,) from (B, K, K) counts; not a number where chance alone would agree on everything."""
    shares = tables / tables.sum((1, 2), keepdims=True)  # (B, K, K)
    observed = np.trace(shares, axis1=1, axis2=2)  # (B,)
    by_chance = (shares.sum(1) * shares.sum(2)).sum(1)  # (B,)
    room = 1 - by_chance
    return np.where(room > 1e-12, (observed - by_chance) / np.where(room > 1e-12, room, 1.0), np.nan)


def pace(by: str, seconds: Iterable[float]) -> Pace:
    """Of one person, from the seconds of each stroke."""
    taken = np.asarray(list(seconds), np.float64)
    if not taken.size:
        return Pace(by, 0, 0.0, 0.0)
    total = float(np.minimum(taken, PAUSE).sum())
    return Pace(by, taken.size, float(np.median(taken)), 60 * taken.size / total if total > 0 else 0.0)


def _interval(table: NDArray[np.int64], kappa: float, raw: Interval, seed: int) -> Interval:
    """Percentiles of resampled images. Near full agreement a bootstrap is blind, so the interval always holds what
    Wilson's for the raw agreement gives with the chance as it was seen."""
    n = int(table.sum())
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, size=_RESAMPLES)  # (B, K * K)
    kappas = cohens_kappa(drawn.reshape(-1, *table.shape))
    low, high = np.nanquantile(kappas, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    shares = table / n
    by_chance = float(shares.sum(0) @ shares.sum(1))
    floor, ceiling = ((share - by_chance) / (1 - by_chance) for share in (raw.low, raw.high))
    return Interval(max(float(min(low, floor)), -1.0), min(float(max(high, ceiling)), 1.0), _LEVEL)
