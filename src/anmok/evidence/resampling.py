"""Groups drawn again and again, with replacement: sums over thousands of resamples in one product of matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 8_000_000  # weights of groups held at once: 32 MB of float32
_FEW_GROUPS = 100  # above this many, the weights of groups are drawn independently, ten times faster
# Poisson(1) as 256 equally likely values: mean and variance are exactly 1, the third moment 4.98 instead of 5
_POISSON = np.repeat(np.arange(6, dtype=np.float32), [94, 95, 46, 16, 4, 1])  # (256,)


def resampled_sums(
    totals: NDArray[np.float32],
    resamples: int,
    rng: np.random.Generator,
    stratum: NDArray[np.intp] | None = None,
) -> NDArray[np.float32]:
    """(B, R) sums of ``totals`` (G, R) over groups drawn with replacement, within their ``stratum`` (G,).

    Weights of groups are multinomial; in a stratum of more than a hundred groups Poisson (Hanley & MacGibbon
    2006, "Creating non-parametric bootstrap samples using Poisson frequencies").
    """
    if stratum is None:
        return _sums(totals, resamples, rng)
    parts = (_sums(totals[stratum == h], resamples, rng) for h in np.unique(stratum))
    found = next(parts)
    for part in parts:
        found += part
    return found


def _sums(totals: NDArray[np.float32], resamples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    n_groups = len(totals)
    if n_groups <= _FEW_GROUPS:
        times = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)  # (B, G)
        return times.astype(np.float32) @ totals
    step = max(_CHUNK // n_groups, 1)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    draw = (_POISSON[rng.integers(0, 256, (size, n_groups), dtype=np.uint8)] for size in sizes)  # (b, G) each
    return np.concatenate([weight @ totals for weight in draw])  # (B, R)
