"""How many images it takes, before labelling and after a "cannot tell"; how much the best is flattered."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from anmok.errors import BadRequest
from anmok.evidence.intervals import Interval, wilson, z_quantile

_DRAWN = 4_000_000  # latent normals per simulation of `winners_curse`: 0.2 s, error about 0.1 points
_HELD = 500_000  # of them at once: 2 MB


def images_to_settle(
    gain: float, disagreement: float, power: float = 0.8, alpha: float = 0.05, design_effect: float = 1.0
) -> int:
    """Test images on which a two-sided paired test sees a true ``gain`` with probability ``power``.

    Closed form for McNemar's test, Connor (1987), "Sample size for testing differences in proportions for the
    paired-sample design": n = (z_a sqrt(q) + z_b sqrt(q - D^2))^2 / D^2, with the share ``disagreement`` q of
    images on which the two models differ. ``gain`` D as a share (0.02 = two points), its sign does not
    matter. ``design_effect`` multiplies the answer: above 1 for grouped images, below 1 for means over
    support draws. Raises `BadRequest` unless 0 < |D| <= q <= 1.
    """
    size = abs(gain)
    if not 0 < size <= disagreement <= 1:
        raise BadRequest(f"a gain of {gain} with disagreement {disagreement}: need 0 < |gain| <= disagreement <= 1")
    if not (0 < power < 1 and design_effect > 0):
        raise BadRequest(f"power {power} must lie between 0 and 1, design effect {design_effect} above 0")
    z_alpha, z_beta = z_quantile(1 - alpha), float(special.ndtri(power))
    root = z_alpha * math.sqrt(disagreement) + z_beta * math.sqrt(disagreement - size**2)
    return math.ceil((root / size) ** 2 * design_effect)


def images_for_half_width(p: float, half_width: float, level: float = 0.95) -> int:
    """Fewest independent images whose Wilson interval around accuracy ``p`` is at most +- ``half_width``.

    Solves the half-width for n, a quadratic. Raises `BadRequest` unless p in [0, 1] and half_width in (0,
    0.5).
    """
    if not (0 <= p <= 1 and 0 < half_width < 0.5):
        raise BadRequest(f"accuracy {p}, half-width {half_width}: need 0 <= accuracy <= 1, 0 < half-width < 0.5")
    square, target = z_quantile(level) ** 2, half_width**2
    linear = 2 * target - p * (1 - p)
    # h^2 (n + z^2)^2 = z^2 (p (1 - p) n + z^2 / 4), in units of n / z^2
    root = (-linear + math.sqrt(linear**2 - 4 * target * (target - 0.25))) / (2 * target)
    return max(math.ceil(root * square - 1e-9), 1)


def interval_for(n: float, p: float, level: float = 0.95) -> Interval:
    """The interval that ``n`` independent labelled images would give around an accuracy of ``p``."""
    return wilson(p * n, n, level)


def winners_curse(k: int, n: int, p: float = 0.8, rho: float = 0.7, seed: int = 0) -> float:
    """By how much the best of ``k`` equally good models looks too good on ``n`` images (0.06 = six points).

    All have accuracy ``p``; their answers share a latent normal difficulty with correlation ``rho``.
    Simulated. Raises `BadRequest` for k < 1, n < 1, p outside (0, 1) or rho outside [0, 1].
    """
    if not (k >= 1 and n >= 1 and 0 < p < 1 and 0 <= rho <= 1):
        raise BadRequest(f"k {k}, n {n}, p {p}, rho {rho}: need k, n >= 1, 0 < p < 1, 0 <= rho <= 1")
    rng = np.random.default_rng(seed)
    cut, own = float(special.ndtri(p)), math.sqrt(1 - rho)
    repeats = min(max(_DRAWN // (k * n), 200), 10_000)
    step = max(_HELD // (k * n), 1)
    best = []
    for start in range(0, repeats, step):
        size = min(step, repeats - start)
        shared = math.sqrt(rho) * rng.standard_normal((size, n, 1), dtype=np.float32)  # (r, n, 1)
        latent = own * rng.standard_normal((size, n, k), dtype=np.float32) + shared  # (r, n, k)
        best.append((latent < cut).mean(axis=1).max(axis=1))  # (r,)
    return max(float(np.concatenate(best).mean()) - p, 0.0)
