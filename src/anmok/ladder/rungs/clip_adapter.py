"""CLIP-Adapter: a two-layer bottleneck moves the picture's vector a little before it meets the class names.

Source: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters" (IJCV 2024,
arXiv:2110.04544): D -> D/4 -> D, ReLU after both, no biases, mixed in with a share of 0.2. Published results choose
share and learning rate per data set, and Fahes et al., "Fine-Tuning CLIP's Last Visual Projector" (2024), found the
method very sensitive to both. Here the share is fixed and there is no learning rate: L-BFGS on all views, with a
small weight decay. So fitted it is less sensitive: on `mini` and ten kinds of clothes, shares from 0.1 to 0.8 lie
within 2.5 points of each other at 16 shots, all of them below a linear head. The start is random, so two seeds give
two adapters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.ladder.rungs.support import Labels, Support
from anmok.load import Bottleneck, Head

Array = NDArray[np.float32]
Double = NDArray[np.float64]

SHARE = 0.2
_NARROWING = 4
_DECAY = 5e-4
_ITERATIONS = 50  # more bring nothing


def bottleneck(support: Support, zero_shot: Head, seed: int) -> Bottleneck:
    """Fits the two layers; ``zero_shot`` has unit rows (``is_normalised``) and stays as it is."""
    features, labels = support.views()
    rows = zero_shot.rows(features).astype(np.float64)  # (n, D)
    problem = Problem(rows, labels, zero_shot, _start(rows.shape[1], seed))
    options = {"maxiter": _ITERATIONS, "ftol": 1e-9}
    found = minimize(problem, problem.start, jac=True, method="L-BFGS-B", options=options)
    down, up = problem.layers(found.x)
    return Bottleneck(zero_shot, down.astype(np.float32), up.astype(np.float32), SHARE)


def _start(width: int, seed: int) -> tuple[Double, Double]:
    """As a freshly made linear layer: uniform within 1 / sqrt(inputs)."""
    rng, hidden = np.random.default_rng(seed), max(width // _NARROWING, 1)
    shapes = ((width, hidden), (hidden, width))
    down, up = (rng.uniform(-1.0, 1.0, shape) / np.sqrt(shape[0]) for shape in shapes)
    return down, up


class Problem:
    """Mean cross-entropy + decay / 2 of the squared weights, and its gradient."""

    def __init__(self, rows: Double, labels: Labels, zero_shot: Head, start: tuple[Double, Double]) -> None:
        self._rows = rows  # (n, D)
        self._weight = zero_shot.weight.astype(np.float64) / zero_shot.temperature  # (K, D)
        self._bias = zero_shot.bias.astype(np.float64) / zero_shot.temperature  # (K,)
        self._wanted = np.eye(len(self._bias))[labels]  # (n, K)
        self._shape = start[0].shape  # (D, h)
        self.start: Double = np.concatenate([start[0].ravel(), start[1].ravel()])

    def layers(self, flat: Double) -> tuple[Double, Double]:
        """(D, h) and (h, D)."""
        half = len(flat) // 2
        return flat[:half].reshape(self._shape), flat[half:].reshape(self._shape[::-1])

    def __call__(self, flat: Double) -> tuple[float, Double]:
        down, up = self.layers(flat)
        hidden = np.maximum(self._rows @ down, 0.0)  # (n, h)
        moved = np.maximum(hidden @ up, 0.0)  # (n, D)
        mixed = SHARE * moved + (1.0 - SHARE) * self._rows  # (n, D)
        lengths = np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)  # (n, 1)
        vectors = mixed / lengths
        logits = vectors @ self._weight.T + self._bias  # (n, K)
        logits -= logits.max(1, keepdims=True)
        totals = np.log(np.exp(logits).sum(1))  # (n,)
        loss = (totals - (logits * self._wanted).sum(1)).mean() + 0.5 * _DECAY * (flat**2).sum()
        at_vectors = (np.exp(logits - totals[:, None]) - self._wanted) @ self._weight / len(logits)  # (n, D)
        # Through the normalisation: only what is orthogonal to the unit vector passes.
        at_mixed = (at_vectors - vectors * (vectors * at_vectors).sum(1, keepdims=True)) / lengths  # (n, D)
        at_moved = SHARE * at_mixed * (moved > 0)  # (n, D)
        at_hidden = (at_moved @ up.T) * (hidden > 0)  # (n, h)
        gradient = np.concatenate([(self._rows.T @ at_hidden).ravel(), (hidden.T @ at_moved).ravel()])
        return float(loss), gradient + _DECAY * flat
