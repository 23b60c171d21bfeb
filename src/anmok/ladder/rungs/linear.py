"""Rung 2, linear heads: logistic regression on standardised features, alone or together with the class names.

The fits are exact and fast for two reasons. An L2 penalty keeps every weight in the span of the images, so the
problem is rotated into that span, where its columns are orthogonal. There the curvature is bounded by a diagonal
(Boehning, "Multinomial logistic regression algorithm", 1992), and scaling by it lets L-BFGS converge in a few dozen
steps whatever the strength of the penalty.

An image may weigh more or less than another: weight 2 is the same as having it twice, weight 0 as not having it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.load import Head

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Labels = NDArray[np.int64]

STRENGTHS = (1e-3, 1e-2, 1e-1)  # the inverse of the penalty, as scikit-learn's C, on standardised features
FIXED_STRENGTH = 1e-2  # where there are too few images to choose
CROSS_MODAL_STRENGTH = 10.0  # on centred unit vectors
_ITERATIONS = 100
_TOLERANCE = 1e-6  # of the gradient, per image


@dataclass(frozen=True, slots=True, eq=False)
class Rotated:
    """Rows in the span of the images: rows = ((features - mean) / scale) @ basis. Its columns are orthogonal, each
    image counted as it weighs."""

    rows: Double  # (n, r), r <= min(n, F)
    basis: Double  # (F, r)
    energy: Double  # (r,): squared length of each column, each row counted as it weighs
    mean: Array  # (F,)
    scale: Array  # (F,)

    def part(self, indices: NDArray[np.int64]) -> Rotated:
        """Some of the rows, in the same span."""
        return Rotated(self.rows[indices], self.basis, self.energy, self.mean, self.scale)


def standardise(features: Array, weights: Double | None = None) -> Rotated:
    """Features (n, F) to zero mean and unit variance, rotated; ``weights`` (n,) are 0 or more, 1 where not given."""
    if weights is None:
        mean, scale = features.mean(0), features.std(0)  # (F,)
    else:
        share = weights / weights.sum()  # (n,)
        mean = (share @ features).astype(np.float32)  # (F,)
        scale = np.sqrt(share @ (features - mean) ** 2).astype(np.float32)  # (F,)
    scale[scale < 1e-6] = 1.0  # a feature that never moves says nothing; dividing by noise would make it shout
    return _rotated((features - mean) / scale, mean, scale, weights)


def logistic(data: Rotated, labels: Labels, classes: int, strength: float, weights: Double | None = None) -> Head:
    """Multinomial logistic regression with L2 strength C = ``strength``; classes may be missing from ``labels``.

    ``weights`` (n,): what the loss of each row is multiplied with.
    """
    weight, bias = _fit(data, labels, classes, strength, weights)
    return Head(weight=weight, bias=bias, mean=data.mean, scale=data.scale)


def cross_modal(images: Array, labels: Labels, texts: Array, projection: Array, weights: Double | None = None) -> Head:
    """One logistic regression on images and class names together, each centred on its own mean.

    ``images`` are features (n, F), ``texts`` unit rows (K, D), ``projection`` (F, D) leads into the shared space.
    ``weights`` (n,) are those of the images; a name weighs 1. Centring removes the gap between the two kinds. After
    Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models" (CVPR 2023);
    the centring and the convex fit are ours.
    """
    vectors = images @ projection  # (n, D)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    text_mean = texts.mean(0)  # (D,)
    if weights is None:
        image_mean, every = vectors.mean(0), None  # (D,)
    else:
        image_mean = ((weights / weights.sum()) @ vectors).astype(np.float32)  # (D,)
        every = np.concatenate([weights, np.ones(len(texts))])  # (n + K,)
    rows = np.concatenate([vectors - image_mean, texts - text_mean])  # (n + K, D)
    both = np.concatenate([labels, np.arange(len(texts))])
    width = rows.shape[1]
    data = _rotated(rows, np.zeros(width, np.float32), np.ones(width, np.float32), every)
    weight, bias = _fit(data, both, len(texts), CROSS_MODAL_STRENGTH, every)
    return Head(weight=weight, bias=bias - weight @ image_mean, projection=projection, is_normalised=True)


def _rotated(rows: Array, mean: Array, scale: Array, weights: Double | None) -> Rotated:
    double = rows.astype(np.float64)
    loud = double if weights is None else double * np.sqrt(weights)[:, None]  # (n, F)
    is_wide = rows.shape[0] < rows.shape[1]
    values, vectors = np.linalg.eigh(loud @ loud.T if is_wide else loud.T @ loud)
    keep = values > 1e-9 * max(float(values[-1]), 1e-12)
    energy, kept = values[keep], vectors[:, keep]
    lengths = np.sqrt(energy)  # (r,)
    basis = loud.T @ (kept / lengths) if is_wide else kept  # (F, r)
    is_known = is_wide and weights is None
    return Rotated(kept * lengths if is_known else double @ basis, basis, energy, mean, scale)


def _fit(data: Rotated, labels: Labels, classes: int, strength: float, weights: Double | None) -> tuple[Array, Array]:
    """(K, F) and (K,); a class without an image can never win."""
    if weights is None:
        weights = np.ones(len(labels))
    counted = np.flatnonzero(weights > 0)
    data, labels, weights = data.part(counted), labels[counted], weights[counted]
    present, wanted = np.unique(labels, return_inverse=True)
    weight = np.zeros((classes, data.basis.shape[0]), np.float32)
    bias = np.full(classes, -1e9, np.float32)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    problem = _Problem(data.rows, np.eye(len(present))[wanted], weights, data.energy, 1.0 / strength)
    start = np.zeros(len(present) * (data.rows.shape[1] + 1))
    options = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE * weights.sum(), "ftol": 1e-12}
    found = minimize(problem, start, jac=True, method="L-BFGS-B", options=options)
    inside, intercept = problem.unscaled(found.x)
    weight[present] = inside @ data.basis.T  # (K, F)
    bias[present] = intercept
    return weight, bias


class _Problem:
    """Weighted sum of cross-entropies plus penalty / 2 ||w||^2, in variables scaled by the bound on the curvature."""

    def __init__(self, rows: Double, wanted: Double, weights: Double, energy: Double, penalty: float) -> None:
        self._rows, self._wanted, self._penalty = rows, wanted, penalty
        self._weights = weights  # (n,)
        self._scale = 1.0 / np.sqrt(0.5 * energy + penalty)  # (r,)
        self._bias_scale = 1.0 / np.sqrt(0.5 * weights.sum())

    def unscaled(self, flat: Double) -> tuple[Double, Double]:
        """Weights (K, r) and biases (K,)."""
        table = flat.reshape(self._wanted.shape[1], -1)  # (K, r + 1)
        return table[:, :-1] * self._scale, table[:, -1] * self._bias_scale

    def __call__(self, flat: Double) -> tuple[float, Double]:
        weight, bias = self.unscaled(flat)
        logits = self._rows @ weight.T + bias  # (n, K)
        logits -= logits.max(1, keepdims=True)
        totals = np.log(np.exp(logits).sum(1))  # (n,)
        each = totals - (logits * self._wanted).sum(1)  # (n,)
        loss = self._weights @ each + 0.5 * self._penalty * (weight**2).sum()
        error = (np.exp(logits - totals[:, None]) - self._wanted) * self._weights[:, None]  # (n, K)
        at_weight = (error.T @ self._rows + self._penalty * weight) * self._scale  # (K, r)
        at_bias = error.sum(0) * self._bias_scale  # (K,)
        return float(loss), np.concatenate([at_weight, at_bias[:, None]], 1).ravel()
