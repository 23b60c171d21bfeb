"""Rung 3: the projection into the shared space, tuned with a penalty on leaving its published values.

Minimises mean cross-entropy(s * unit(f P) . t) + lambda ||P - P0||^2 with lambda = 1/N, so that nothing has to be
chosen on validation images. Source: Fahes et al., "Fine-Tuning CLIP's Last Visual Projector" (2024), repository
astra-vision/ProLIP. Ours differs in the optimiser: L-BFGS to a minimum instead of 300 steps of Adam, in the span
of the support, where the whole solution lies; and the views are the picture and its mirror image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.load import Head

Array = NDArray[np.float32]
Double = NDArray[np.float64]

_ITERATIONS = 60


def prolip(
    features: Array,
    labels: NDArray[np.int64],
    texts: Array,
    projection: Array,
    temperature: float,
    shots: float,
) -> Head:
    """features (n, F) of all views, texts (K, D) unit rows, projection P0 (F, D), shots N per class."""
    basis, rows = _span(features.astype(np.float64))  # (F, r), (n, r)
    start = features.astype(np.float64) @ projection.astype(np.float64)  # (n, D)
    length = float(np.linalg.norm(start, axis=1).mean())
    problem = _Problem(rows / length, start / length, texts.astype(np.float64) * temperature, labels, 1.0 / shots)
    free = np.zeros(rows.shape[1] * projection.shape[1])
    found = minimize(problem, free, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    moved = found.x.reshape(rows.shape[1], -1)  # (r, D)
    tuned = projection + (basis @ moved).astype(np.float32)  # (F, D)
    return Head(
        weight=texts,
        bias=np.zeros(len(texts), np.float32),
        projection=tuned,
        is_normalised=True,
        temperature=1.0 / temperature,
    )


class _Problem:
    """The objective and its gradient with respect to A, where P = P0 + basis A and f P = start + rows A."""

    def __init__(self, rows: Double, start: Double, texts: Double, labels: NDArray[np.int64], penalty: float) -> None:
        self._rows, self._start, self._texts, self._penalty = rows, start, texts, penalty
        self._wanted = np.eye(len(texts))[labels]  # (n, K)

    def __call__(self, flat: Double) -> tuple[float, Double]:
        change = flat.reshape(self._rows.shape[1], -1)  # (r, D)
        vectors = self._start + self._rows @ change  # (n, D)
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        unit = vectors / lengths
        logits = unit @ self._texts.T  # (n, K)
        logits -= logits.max(1, keepdims=True)
        raised = np.exp(logits)
        chances = raised / raised.sum(1, keepdims=True)
        loss = -np.log(np.maximum((chances * self._wanted).sum(1), 1e-300)).mean()
        at_unit = (chances - self._wanted) @ self._texts / len(unit)  # (n, D)
        # Through the normalisation: only what is orthogonal to the unit vector passes.
        at_vectors = (at_unit - unit * (unit * at_unit).sum(1, keepdims=True)) / lengths
        gradient = self._rows.T @ at_vectors + 2 * self._penalty * change  # (r, D)
        return float(loss + self._penalty * (change**2).sum()), gradient.ravel()


def _span(features: Double) -> tuple[Double, Double]:
    """An orthonormal basis (F, r) of the rows, and the rows in it (n, r)."""
    if len(features) >= features.shape[1]:
        return np.eye(features.shape[1]), features
    values, vectors = np.linalg.eigh(features @ features.T)
    keep = values > 1e-10 * values[-1]
    lengths = np.sqrt(values[keep])
    return features.T @ (vectors[:, keep] / lengths), vectors[:, keep] * lengths
