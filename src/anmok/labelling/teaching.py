"""The head, and which image teaches it most: ``evidence.choosing`` says how that is found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.choosing import mixed
from anmok.load import Head

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

STRENGTH = 30.0  # the inverse of the penalty, times the number of features: a margin grows with both
CANDIDATES = 4096  # images that are compared at a time: 13 MB of 768 features


def fitted(features: Array, labels: Labels, classes: int) -> Head | None:
    """Logistic regression on standardised features (n, F); None while all labels (n,) are of one class.

    A class without an image can never win.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return None
    from sklearn.linear_model import LogisticRegression  # takes a second; nobody waits for it here

    mean, scale = features.mean(0), features.std(0)  # (F,)
    scale[scale < 1e-6] = 1.0  # a feature that never moves says nothing
    found = LogisticRegression(C=STRENGTH / features.shape[1], max_iter=1000).fit((features - mean) / scale, labels)
    weight = np.zeros((classes, features.shape[1]), np.float32)
    bias = np.full(classes, -1e9, np.float32)
    rows, offsets = found.coef_, found.intercept_  # (k, F), (k,); for two classes those of the second alone
    if len(present) == 2:
        rows, offsets = np.concatenate([np.zeros_like(rows), rows]), np.concatenate([[0.0], offsets])
    weight[present], bias[present] = rows, offsets
    return Head(weight=weight, bias=bias, mean=mean, scale=scale)


def chances(logits: Array) -> Array:
    """(n, K) to probabilities."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)


def plan(pool: Array, taught: Array, head: Head | None, count: int, rng: np.random.Generator) -> list[int]:
    """Rows of ``pool`` (n, F) in the order in which they should be labelled, at most ``count``.

    Args:
        pool: features of unlabelled images.
        taught: features (m, F) of the labelled ones.
        head: what was learnt so far.
        count: how many are wanted.
        rng: for the draws among equals.
    """
    return mixed(pool, taught, None if head is None else chances(head.logits(pool)), count, rng)
