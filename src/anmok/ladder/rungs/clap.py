"""A linear probe that starts from the class names and is held to them: CLAP, without validation images.

Minimises mean cross-entropy(s * x . unit(w_c)) + mean_c lambda_c ||w_c - t_c||^2, where t_c is the name's vector and
lambda_c the mean zero-shot probability of the true class over its own images: a class that the names already get
right is held fast. Source: Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language
Models" (CVPR 2024, arXiv:2312.12730), repository jusiro/CLAP. Ours goes to the minimum with L-BFGS instead of 300
epochs of SGD, keeps the first multipliers (theirs change at the outer steps of an augmented Lagrangian), and its
views are the picture and its mirror image instead of twenty crops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.ladder.rungs.support import Labels, Support
from anmok.load import Head
from anmok.pairing import unit

Array = NDArray[np.float32]
Double = NDArray[np.float64]

_ITERATIONS = 300


def clap(support: Support, zero_shot: Head) -> Head:
    """``zero_shot`` has unit rows (``is_normalised``); the head returned differs from it in its weight alone."""
    features, labels = support.views()
    problem = Problem(zero_shot.rows(features), labels, zero_shot)
    options = {"maxiter": _ITERATIONS, "ftol": 1e-10}
    found = minimize(problem, problem.start, jac=True, method="L-BFGS-B", options=options)
    weight = unit(found.x.reshape(zero_shot.weight.shape)) * problem.factors[:, None]  # (K, D)
    return Head(
        weight=weight.astype(np.float32),
        bias=zero_shot.bias,
        mean=zero_shot.mean,
        scale=zero_shot.scale,
        projection=zero_shot.projection,
        is_normalised=zero_shot.is_normalised,
        temperature=zero_shot.temperature,
    )


class Problem:
    """The objective and its gradient; ``start`` are the names' unit vectors."""

    def __init__(self, rows: Array, labels: Labels, zero_shot: Head) -> None:
        self._rows = rows.astype(np.float64)  # (n, D)
        self._wanted = np.eye(len(zero_shot.bias))[labels]  # (n, K)
        weight = zero_shot.weight.astype(np.float64)
        self.factors: Double = np.linalg.norm(weight, axis=1)  # (K,), the s of the names
        self._texts = weight / np.maximum(self.factors, 1e-12)[:, None]  # (K, D)
        self._steep = self.factors / zero_shot.temperature  # (K,)
        self._bias = zero_shot.bias.astype(np.float64) / zero_shot.temperature
        self.start: Double = self._texts.ravel()
        self.holds = self._multipliers()

    def _multipliers(self) -> Double:
        """lambda_c (K,); 1 for a class without images, which stays at its name."""
        logits = (self._rows @ self._texts.T) * self._steep + self._bias  # (n, K)
        raised = np.exp(logits - logits.max(1, keepdims=True))
        chances = raised / raised.sum(1, keepdims=True)
        counts = self._wanted.sum(0)  # (K,)
        return np.where(counts > 0, (chances * self._wanted).sum(0) / np.maximum(counts, 1), 1.0)

    def __call__(self, flat: Double) -> tuple[float, Double]:
        weight = flat.reshape(self._texts.shape)  # (K, D)
        lengths = np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12)  # (K, 1)
        vectors = weight / lengths
        logits = (self._rows @ vectors.T) * self._steep + self._bias  # (n, K)
        logits -= logits.max(1, keepdims=True)
        totals = np.log(np.exp(logits).sum(1))  # (n,)
        moved, share = weight - self._texts, self.holds[:, None] / len(self._texts)  # (K, D), (K, 1)
        loss = (totals - (logits * self._wanted).sum(1)).mean() + (share * moved**2).sum()
        error = (np.exp(logits - totals[:, None]) - self._wanted) / len(logits)  # (n, K)
        at_vectors = (error * self._steep).T @ self._rows  # (K, D)
        inside = (vectors * at_vectors).sum(1, keepdims=True)
        return float(loss), ((at_vectors - vectors * inside) / lengths + 2.0 * share * moved).ravel()
