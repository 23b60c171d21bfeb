"""Rung 3: the projection into the shared space, tuned with a penalty on leaving its published values.

Minimises mean cross-entropy(s * unit(f P) . t) + lambda ||P - P0||^2 with lambda = 1/N, so that nothing has to be
chosen on validation images. Source: Fahes et al., "Fine-Tuning CLIP's Last Visual Projector" (2024), repository
astra-vision/ProLIP. Ours differs in four things. P moves only within the span of the differences between the class
texts, where what tells the classes apart lies: K - 1 unknowns for each direction instead of D, and better in nine of
the ten settings of ``benchmarks/rung3.py``. L-BFGS goes to the minimum instead of 300 steps of Adam, in the span of
the support. N is not taken above 16, where the paper's own range ends. The views are the picture and its mirror image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.load import Head

Array = NDArray[np.float32]
Double = NDArray[np.float64]

_ITERATIONS = 1000
_TOLERANCE = 1e-5  # of the gradient in the scaled variables
_MOST_SHOTS = 16


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
    scaled = texts.astype(np.float64) * temperature
    problem = _Problem(rows / length, start / length, scaled, labels, 1.0 / min(shots, _MOST_SHOTS))
    if problem.size == 0:  # labels that read alike to the text tower
        return _head(texts, projection, temperature)
    options = {"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "gtol": _TOLERANCE, "ftol": 1e-12}
    found = minimize(problem, np.zeros(problem.size), jac=True, method="L-BFGS-B", options=options)
    tuned = projection + (basis @ problem.change(found.x)).astype(np.float32)  # (F, D)
    return _head(texts, tuned, temperature)


def _head(texts: Array, projection: Array, temperature: float) -> Head:
    bias = np.zeros(len(texts), np.float32)
    return Head(texts, bias, projection=projection, is_normalised=True, temperature=1.0 / temperature)


class _Problem:
    """The objective and its gradient with respect to A, where P = P0 + basis A Q' and f P = start + rows A Q'.

    Q (D, q) spans the differences of the texts; what is orthogonal to it counts for the lengths alone. ``rows`` has
    orthogonal columns, so a diagonal bounds the curvature (Boehning, "Multinomial logistic regression algorithm",
    1992): the unknowns are A in units of it, which spares L-BFGS most of its steps.
    """

    def __init__(self, rows: Double, start: Double, texts: Double, labels: NDArray[np.int64], penalty: float) -> None:
        differences = texts - texts.mean(0)  # (K, D); what all classes share moves no softmax
        self._axes = axes(differences)  # (q, D)
        self._texts = differences @ self._axes.T  # (K, q)
        steepest = 0.5 * np.linalg.norm(self._texts, 2) ** 2
        self._rows, self._inside, self._penalty = rows, start @ self._axes.T, penalty  # (n, r), (n, q)
        self._outside = (start**2).sum(1) - (self._inside**2).sum(1)  # (n,)
        self._wanted = np.eye(len(texts))[labels]  # (n, K)
        self._scale = 1.0 / np.sqrt(steepest * (rows**2).mean(0) + 2 * penalty)[:, None]  # (r, 1)

    @property
    def size(self) -> int:
        """Of the flat unknowns, r times q."""
        return int(self._rows.shape[1] * len(self._axes))

    def change(self, flat: Double) -> Double:
        """A Q' (r, D)."""
        return np.asarray(self._unscaled(flat) @ self._axes)

    def _unscaled(self, flat: Double) -> Double:
        return np.asarray(flat.reshape(self._rows.shape[1], -1) * self._scale)  # (r, q)

    def __call__(self, flat: Double) -> tuple[float, Double]:
        change = self._unscaled(flat)
        vectors = self._inside + self._rows @ change  # (n, q)
        lengths = np.sqrt(np.maximum(self._outside + (vectors**2).sum(1), 1e-24))[:, None]  # (n, 1)
        unit = vectors / lengths
        logits = unit @ self._texts.T  # (n, K)
        logits -= logits.max(1, keepdims=True)
        raised = np.exp(logits)
        chances = raised / raised.sum(1, keepdims=True)
        loss = -np.log(np.maximum((chances * self._wanted).sum(1), 1e-300)).mean()
        at_unit = (chances - self._wanted) @ self._texts / len(unit)  # (n, q)
        # Through the normalisation: only what is orthogonal to the unit vector passes.
        at_vectors = (at_unit - unit * (unit * at_unit).sum(1, keepdims=True)) / lengths
        gradient = (self._rows.T @ at_vectors + 2 * self._penalty * change) * self._scale
        return float(loss + self._penalty * (change**2).sum()), gradient.ravel()


def axes(differences: Double) -> Double:
    """Q' (q, D): orthonormal rows that span the given ones (K, D)."""
    _, sizes, directions = np.linalg.svd(differences, full_matrices=False)
    return np.asarray(directions[sizes > 1e-6 * max(float(sizes[0]), 1e-12)])


def _span(features: Double) -> tuple[Double, Double]:
    """An orthonormal basis (F, r) of the rows, and the rows in it (n, r), whose columns are orthogonal."""
    is_wide = features.shape[0] < features.shape[1]
    values, vectors = np.linalg.eigh(features @ features.T if is_wide else features.T @ features)
    keep = values > 1e-10 * values[-1]
    kept, lengths = vectors[:, keep], np.sqrt(values[keep])
    if is_wide:
        return features.T @ (kept / lengths), kept * lengths
    return kept, features @ kept
