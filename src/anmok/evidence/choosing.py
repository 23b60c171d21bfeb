"""Which images to label next: those the model is unsure of, spread out; at first, typical ones.

Images that were chosen so must never estimate an accuracy: they are harder than the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadData, BadRequest
from anmok.evidence.costs import checked_probabilities

Array = NDArray[np.float32]
Rows = NDArray[np.intp]

COPY = 0.97  # of the cosine, once what all images have in common is taken away
_CANDIDATES = 4096  # unlabelled images that are compared at a time, drawn at random from more
_LANDMARKS = 512  # images that stand for all in the search for typical ones
_TYPICAL_EVERY = 4


def next_to_label(
    features: ArrayLike,
    probabilities: ArrayLike | None,
    is_labelled: ArrayLike,
    count: int = 20,
    *,
    seed: int = 0,
) -> Rows:
    """(m,) numbers of the unlabelled images to label next, the one that teaches most first; m <= ``count``.

    features: (n, F) float. probabilities: (n, K) of the model that the labelled images taught, or None where it has
    none yet; zero-shot ones serve as well. is_labelled: (n,) bool. No two of the images are near-copies (cosine 0.97,
    the mean of all taken away) of each other or of a labelled one; where that leaves too few, there are fewer than
    ``count``. Of more than 4,096 unlabelled images so many are drawn. The same seed gives the same images. Raises
    `BadData`, `BadRequest` for a count below 1.

    Three of four are spread over the gradients that they would have on a head, which are large where it is unsure (Ash
    et al. 2020, "Deep batch active learning by diverse, uncertain gradient lower bounds"); one of four is typical of
    what nobody has labelled, so that a class the head has never met is found as well.
    """
    rows, done = np.asarray(features, dtype=np.float32), np.asarray(is_labelled)
    if rows.ndim != 2 or not np.isfinite(rows).all() or done.shape != rows.shape[:1] or done.dtype != np.bool_:
        raise BadData(f"features of shape {rows.shape}, is_labelled {done.shape} {done.dtype}: want (n, F), (n,) bool")
    if count < 1:
        raise BadRequest(f"{count} images to label: want at least 1")
    free = np.flatnonzero(~done)
    if not free.size:
        return free
    chance = None if probabilities is None else checked_probabilities(probabilities).astype(np.float32)
    if chance is not None and len(chance) != len(rows):
        raise BadData(f"probabilities of {len(chance)} images, features of {len(rows)}: want the same")
    rng = np.random.default_rng(seed)
    if free.size > _CANDIDATES:
        free = np.sort(rng.choice(free, _CANDIDATES, replace=False))
    kept = _without_copies(unit_rows(rows - rows.mean(axis=0)), free, np.flatnonzero(done))
    if not kept.size:
        return kept
    order = mixed(rows[kept], rows[done], None if chance is None else chance[kept], min(count, kept.size), rng)
    return kept[np.array(order, dtype=np.intp)]


def mixed(pool: Array, taught: Array, chance: Array | None, count: int, rng: np.random.Generator) -> list[int]:
    """Rows of ``pool`` (n, F) in the order in which they should be labelled, at most ``count``.

    taught: (m, F) of the labelled ones. chance: (n, K) of the pool, None before there is a head.
    """
    count = min(count, len(pool))
    common = typical(pool, taught, count, rng)
    if chance is None:
        return common
    doubtful = unsure(pool, chance, count, rng)
    found: dict[int, None] = {}
    for i in range(count):
        if i % _TYPICAL_EVERY == _TYPICAL_EVERY - 1:
            found.setdefault(common[i // _TYPICAL_EVERY])
        found.setdefault(doubtful[i])
    return list(found)[:count]


def typical(pool: Array, taught: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Greedy facility location: each pick is the image that most of what is not yet covered is most like.

    pool: (n, F); taught: (m, F) cover from the start.
    """
    centre = pool.mean(0)
    rows = unit_rows(pool - centre)
    landmarks = rows[rng.choice(len(rows), min(_LANDMARKS, len(rows)), replace=False)]  # (m, F)
    alike = np.maximum(rows @ landmarks.T, 0)  # (n, m)
    covered = np.zeros(len(landmarks), np.float32)
    if len(taught):
        covered = np.maximum((unit_rows(taught - centre) @ landmarks.T).max(0), 0)  # (m,)
    picked: list[int] = []
    is_free = np.ones(len(rows), np.bool_)
    for _ in range(min(count, len(rows))):
        gains = np.maximum(alike - covered, 0).sum(1)  # (n,)
        best = int(np.argmax(np.where(is_free, gains, -1)))
        picked.append(best)
        is_free[best] = False
        covered = np.maximum(covered, alike[best])
    return picked


def unsure(pool: Array, chance: Array, count: int, rng: np.random.Generator) -> list[int]:
    """k-means++ over gradients, each the outer product of (chance - best guess) and features: both are kept apart.

    pool: (n, F); chance: (n, K).
    """
    error = chance.copy()
    error[np.arange(len(error)), error.argmax(1)] -= 1
    rows = unit_rows(pool - pool.mean(0))  # (n, F)
    squares = (error**2).sum(1)  # (n,) squared length of each gradient
    picked = [int(np.argmax(squares))]
    distance = np.full(len(rows), np.inf)
    while len(picked) < min(count, len(rows)):
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


def unit_rows(rows: Array) -> Array:
    """(n, F) of length 1; a row of nothing stays nothing."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def _without_copies(unit: Array, free: Rows, done: Rows) -> Rows:
    """The free images (m,) of which none is a near-copy of a labelled one or of one before it."""
    is_kept = np.ones(free.size, dtype=np.bool_)
    step = 1024
    for start in range(0, free.size, step):
        block = unit[free[start : start + step]]  # (b, F)
        own = is_kept[start : start + step]  # a view
        if done.size:
            own &= (block @ unit[done].T).max(axis=1) < COPY
        before = free[:start][is_kept[:start]]
        if before.size:
            own &= (block @ unit[before].T).max(axis=1) < COPY
        near = np.triu(block @ block.T >= COPY, 1)  # (b, b) the first of two stays
        for i in range(len(block)):
            if own[i]:
                own &= ~near[i]
    return free[is_kept]
