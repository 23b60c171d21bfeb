"""The head, and which image teaches it most.

Before there are two classes: what is typical of a region that nobody has labelled yet. Afterwards mostly what the head
is unsure of, spread out: k-means++ over the gradients that each image would have on the head, after Ash et al., "Deep
Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds" (ICLR 2020, repository JordanAsh/badge); one in four
stays a typical one, so that a class which the head has never met is found as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anmok.load import Head

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

STRENGTH = 30.0  # the inverse of the penalty, times the number of features: a margin grows with both
CANDIDATES = 4096  # images that are compared at a time: 13 MB of 768 features
_LANDMARKS = 512  # images that stand for all in the search for typical ones
_TYPICAL_EVERY = 4


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
    count = min(count, len(pool))
    typical = _typical(pool, taught, count, rng)
    if head is None:
        return typical
    unsure = _unsure(pool, head, count, rng)
    mixed: dict[int, None] = {}
    for i in range(count):
        if i % _TYPICAL_EVERY == _TYPICAL_EVERY - 1:
            mixed.setdefault(typical[i // _TYPICAL_EVERY])
        mixed.setdefault(unsure[i])
    return list(mixed)[:count]


def _typical(pool: Array, taught: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Greedy facility location: each pick is the image that most of what is not yet covered is most like."""
    centre = pool.mean(0)
    rows = _unit(pool - centre)
    landmarks = rows[rng.choice(len(rows), min(_LANDMARKS, len(rows)), replace=False)]  # (m, F)
    alike = np.maximum(rows @ landmarks.T, 0)  # (n, m)
    covered = np.zeros(len(landmarks), np.float32)
    if len(taught):
        covered = np.maximum((_unit(taught - centre) @ landmarks.T).max(0), 0)  # (m,)
    picked: list[int] = []
    is_free = np.ones(len(rows), np.bool_)
    for _ in range(count):
        gains = np.maximum(alike - covered, 0).sum(1)  # (n,)
        best = int(np.argmax(np.where(is_free, gains, -1)))
        picked.append(best)
        is_free[best] = False
        covered = np.maximum(covered, alike[best])
    return picked


def _unsure(pool: Array, head: Head, count: int, rng: np.random.Generator) -> list[int]:
    """k-means++ over gradients, each the outer product of (chance - best guess) and features: both are kept apart."""
    error = chances(head.logits(pool))  # (n, K)
    error[np.arange(len(error)), error.argmax(1)] -= 1
    rows = _unit(pool - pool.mean(0))  # (n, F)
    squares = (error**2).sum(1)  # (n,) squared length of each gradient
    picked = [int(np.argmax(squares))]
    distance = np.full(len(rows), np.inf)
    while len(picked) < count:
        last = picked[-1]
        to_last = squares + squares[last] - 2 * (error @ error[last]) * (rows @ rows[last])  # (n,)
        distance = np.minimum(distance, np.maximum(to_last, 0))
        distance[picked] = 0
        total = float(distance.sum())
        if total <= 1e-12:  # the head is sure of all the rest
            rest = np.setdiff1d(np.arange(len(rows)), picked)
            picked += [int(i) for i in rng.permutation(rest)[: count - len(picked)]]
            break
        picked.append(int(rng.choice(len(rows), p=distance / total)))
    return picked


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
