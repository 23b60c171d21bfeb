"""Rung 1, training-free: class means, and Gaussian discriminant analysis with a shrunk covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anmok.load import Head

Array = NDArray[np.float32]

_PROTOTYPE_TEMPERATURE = 0.05  # on cosines; changes confidences, never the order of the classes


def prototype(features: Array, labels: NDArray[np.int64], classes: int) -> Head:
    """The nearest class mean by cosine: features (n, F), labels (n,) with every class present."""
    rows = _unit(features)
    means = _unit(_class_means(rows, labels, classes))  # (K, F)
    return Head(
        weight=means,
        bias=np.zeros(classes, np.float32),
        is_normalised=True,
        temperature=_PROTOTYPE_TEMPERATURE,
    )


def gda(features: Array, labels: NDArray[np.int64], classes: int) -> Head:
    """Linear discriminant with one shared covariance, shrunk towards its trace; no setting to choose.

    Sigma^-1 = F ((n - 1) S + tr(S) I)^-1, w_c = Sigma^-1 mu_c, b_c = -mu_c' Sigma^-1 mu_c / 2, on unit features.
    Source: Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation" (ICLR 2024), repository
    mrflogs/ICLR24. The inverse is taken in the span of the support (Woodbury), which is exact and cheap.

    With one image per class the within-class scatter is zero: use ``prototype`` there.
    """
    rows = _unit(features).astype(np.float64)
    means = _class_means(rows, labels, classes).astype(np.float64)  # (K, F)
    centred = rows - means[labels]  # (n, F)
    trace = float((centred**2).sum()) / max(len(rows) - 1, 1)
    precision_means = _solve(centred, trace, means) * rows.shape[1]  # (K, F)
    bias = -0.5 * (means * precision_means).sum(1)  # (K,)
    return Head(weight=precision_means.astype(np.float32), bias=bias.astype(np.float32), is_normalised=True)


def _solve(centred: NDArray[np.float64], trace: float, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """means (K, F) times (Z'Z + trace I)^-1, with Z = centred (n, F)."""
    ridge = max(trace, 1e-12)
    if len(centred) >= centred.shape[1]:
        matrix = centred.T @ centred + ridge * np.eye(centred.shape[1])  # (F, F)
        return np.asarray(np.linalg.solve(matrix, means.T).T, np.float64)  # (K, F)
    gram = centred @ centred.T + ridge * np.eye(len(centred))  # (n, n)
    inner = np.linalg.solve(gram, centred @ means.T)  # (n, K)
    return np.asarray((means - (centred.T @ inner).T) / ridge, np.float64)  # (K, F)


def _class_means(rows: NDArray[np.floating], labels: NDArray[np.int64], classes: int) -> Array:
    sums = np.zeros((classes, rows.shape[1]), np.float64)
    np.add.at(sums, labels, rows)
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(sums / np.maximum(counts, 1)[:, None], np.float32)  # (K, F)


def _unit(rows: NDArray[np.floating]) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
