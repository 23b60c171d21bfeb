"""Rung 2, linear heads: logistic regression on standardised features, alone or together with the class names.

The fits are exact and fast for one reason: with fewer images than features, an L2 penalty keeps every weight in the
span of the images, so the problem is solved in that span (n x n instead of n x F) and rotated back.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from anmok.load import Head

Array = NDArray[np.float32]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # sklearn's C, on standardised features
FIXED_STRENGTH = 1e-2  # where there are too few images to choose
CROSS_MODAL_STRENGTH = 10.0  # on centred unit vectors
_ITERATIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Features brought to zero mean and unit variance, in the span of the images themselves."""

    mean: Array  # (F,)
    scale: Array  # (F,)
    rows: Array  # (n, r), r <= min(n, F)
    basis: Array  # (F, r); rows = ((features - mean) / scale) @ basis


def standardise(features: Array) -> Standardised:
    """Features (n, F), with the rotation into their span where that is smaller."""
    mean = features.mean(0)  # (F,)
    scale = features.std(0)  # (F,)
    scale[scale < 1e-6] = 1.0  # a feature that never moves says nothing; dividing by noise would make it shout
    scaled = (features - mean) / scale
    if len(features) >= features.shape[1]:
        return Standardised(mean, scale, scaled, np.eye(features.shape[1], dtype=np.float32))
    values, vectors = np.linalg.eigh(scaled.astype(np.float64) @ scaled.T.astype(np.float64))
    keep = values > 1e-8 * max(float(values[-1]), 1e-12)
    lengths = np.sqrt(values[keep])  # (r,)
    basis = scaled.T.astype(np.float64) @ (vectors[:, keep] / lengths)  # (F, r)
    rows = vectors[:, keep] * lengths  # (n, r)
    return Standardised(mean, scale, rows.astype(np.float32), basis.astype(np.float32))


def logistic(data: Standardised, labels: NDArray[np.int64], classes: int, strength: float) -> Head:
    """Multinomial logistic regression with L2 strength C = ``strength``; classes may be missing from ``labels``."""
    weight, bias = _fit(data.rows, labels, classes, strength)
    return Head(weight=weight @ data.basis.T, bias=bias, mean=data.mean, scale=data.scale)


def cross_modal(images: Array, labels: NDArray[np.int64], texts: Array, projection: Array) -> Head:
    """One logistic regression on images and class names together, each centred on its own mean.

    ``images`` are features (n, F), ``texts`` unit rows (K, D), ``projection`` (F, D) leads into the shared space.
    Centring removes the gap between the two kinds. After Lin et al., "Multimodality Helps Unimodality: Cross-Modal
    Few-Shot Learning with Multimodal Models" (CVPR 2023); the centring and the closed fit are ours.
    """
    vectors = _unit(images @ projection)  # (n, D)
    image_mean, text_mean = vectors.mean(0), texts.mean(0)  # (D,)
    rows = np.concatenate([vectors - image_mean, texts - text_mean])  # (n + K, D)
    both = np.concatenate([labels, np.arange(len(texts))])
    weight, bias = _fit(rows, both, len(texts), CROSS_MODAL_STRENGTH)
    return Head(weight=weight, bias=bias - weight @ image_mean, projection=projection, is_normalised=True)


def _fit(rows: Array, labels: NDArray[np.int64], classes: int, strength: float) -> tuple[Array, Array]:
    """(K, F) and (K,); a class without an image can never win."""
    present = np.unique(labels)
    weight = np.zeros((classes, rows.shape[1]), np.float32)
    bias = np.full(classes, -1e9, np.float32)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # Not converged to the last digit is no reason to stop: the choice of C is coarser than that.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows.astype(np.float64), labels)
    if len(present) == 2:  # one row for two classes: the other is the zero vector
        weight[present[1]], bias[present] = model.coef_[0], (0.0, float(model.intercept_[0]))
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
