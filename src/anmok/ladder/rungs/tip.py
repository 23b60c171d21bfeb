"""Tip-Adapter: the labelled images themselves vote, beside the zero-shot head; and its keys learned (Tip-Adapter-F).

Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification" (ECCV 2022,
arXiv:2207.09519), repository gaopengcuhk/Tip-Adapter. The published scripts look for alpha and beta on hundreds of
validation images or on the test images; here they come from folds inside the support, or are fixed where it is too
small for that. Ours differs in four more things. Votes are divided by the size of the class, so that a common class
is not louder. Nearness may be taken among the features before the projection, which for ``mini`` is better by ten
points at 16 shots, for its projection is a makeshift. The keys are learned by L-BFGS, with a penalty on leaving
the images they start from, instead of 20 epochs of AdamW. More than ``MOST`` images of a class do not all become keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.ladder.rungs.support import Labels, Support
from anmok.load import Cache, Head
from anmok.pairing import unit

Array = NDArray[np.float32]
Double = NDArray[np.float64]

MOST = 64  # keys of one class: they travel with the adapter and are compared with every picture
_ITERATIONS = 100
_PENALTY = 0.01  # over the shots, on the squared distance that the keys move


@dataclass(frozen=True, slots=True)
class Setting:
    """``alpha`` the loudness of the cache, ``beta`` how fast a vote fades, ``is_projected`` the space of nearness."""

    alpha: float
    beta: float
    is_projected: bool

    def __str__(self) -> str:
        space = "shared space" if self.is_projected else "features"
        return f"alpha = {self.alpha:g}, beta = {self.beta:g}, {space}"


MEASURED = Setting(10.0, 1.0, is_projected=False)  # on `mini`; wide optimum, the best or near it on two sets
PUBLISHED = Setting(1.0, 1.0, is_projected=True)  # for CLIP
GRID = tuple(
    Setting(alpha, beta, space)
    for space in (False, True)
    for alpha in (1.0, 3.0, 10.0, 30.0)
    for beta in (1.0, 3.0, 10.0)
)


@dataclass(frozen=True, slots=True)
class Chosen:
    setting: Setting
    compared: int  # settings compared on the support's own labels; 1 where nothing was chosen


def choose(support: Support, zero_shot: Head, seed: int, fixed: Setting = MEASURED) -> Chosen:
    """The setting with the most hits in folds inside the support; ``fixed`` at a tie and where there is too little.

    ``zero_shot`` answers for the classes without labels; with zero weights the cache votes alone.
    """
    support = support.thinned(MOST, seed)
    inner = list(support.inner_folds(seed))
    if not inner:
        return Chosen(fixed, 1)
    settings = (fixed, *(one for one in GRID if one != fixed))
    hits = np.zeros(len(settings))
    logits = zero_shot.logits(support.features)  # (n, K)
    for is_projected in (False, True):
        nearness = _rows(support, zero_shot, is_projected) @ _keys(support, zero_shot, is_projected).T  # (n, n)
        for train, held in inner:
            votes = _votes(support.part(train))  # (t, K)
            block = nearness[np.ix_(held, train)]  # (h, t)
            for i, one in enumerate(settings):
                if one.is_projected == is_projected:
                    answers = logits[held] + one.alpha * np.exp(one.beta * (block - 1.0)) @ votes  # (h, K)
                    hits[i] += (answers.argmax(1) == support.labels[held]).sum()
    return Chosen(settings[int(np.argmax(hits))], len(settings))


def cached(support: Support, zero_shot: Head, setting: Setting, seed: int) -> Cache:
    """Tip-Adapter, training-free. A key is the mean direction of the views of its picture."""
    support = support.thinned(MOST, seed)
    keys = _keys(support, zero_shot, setting.is_projected)  # (n, D or F)
    return Cache(zero_shot, keys, _votes(support), setting.alpha, setting.beta, setting.is_projected)


def with_learned_keys(support: Support, zero_shot: Head, setting: Setting, seed: int) -> Cache:
    """Tip-Adapter-F: minimises the mean cross-entropy on all views + penalty / shots ||keys - keys0||^2."""
    support = support.thinned(MOST, seed)
    start = cached(support, zero_shot, setting, seed)
    features, labels = support.views()
    rows = unit(zero_shot.rows(features) if setting.is_projected else features)  # (v n, D or F)
    problem = Problem(start, rows, zero_shot.logits(features), labels, _PENALTY / support.shots)
    options = {"maxiter": _ITERATIONS, "ftol": 1e-9}
    found = minimize(problem, problem.start, jac=True, method="L-BFGS-B", options=options)
    keys = found.x.reshape(start.keys.shape).astype(np.float32)
    return Cache(zero_shot, keys, start.values, setting.alpha, setting.beta, setting.is_projected)


class Problem:
    """The objective of the learned keys and its gradient."""

    def __init__(self, start: Cache, rows: Array, logits: Array, labels: Labels, penalty: float) -> None:
        self.start: Double = start.keys.astype(np.float64).ravel()
        self._rows, self._logits = rows.astype(np.float64), logits.astype(np.float64)  # (n, D), (n, K)
        self._values = start.values.astype(np.float64)  # (m, K)
        self._alpha, self._beta, self._penalty = start.alpha, start.beta, penalty
        self._wanted = np.eye(logits.shape[1])[labels]  # (n, K)

    def __call__(self, flat: Double) -> tuple[float, Double]:
        keys = flat.reshape(-1, self._rows.shape[1])  # (m, D)
        loud = self._alpha * np.exp(self._beta * (self._rows @ keys.T - 1.0))  # (n, m)
        logits = self._logits + loud @ self._values  # (n, K)
        logits -= logits.max(1, keepdims=True)
        totals = np.log(np.exp(logits).sum(1))  # (n,)
        moved = flat - self.start
        loss = (totals - (logits * self._wanted).sum(1)).mean() + self._penalty * (moved**2).sum()
        error = (np.exp(logits - totals[:, None]) - self._wanted) / len(logits)  # (n, K)
        at_loud = (error @ self._values.T) * loud  # (n, m)
        gradient = self._beta * (at_loud.T @ self._rows)  # (m, D)
        return float(loss), gradient.ravel() + 2.0 * self._penalty * moved


def _rows(support: Support, head: Head, is_projected: bool) -> Array:
    return unit(head.rows(support.features) if is_projected else support.features)  # (n, D or F)


def _keys(support: Support, head: Head, is_projected: bool) -> Array:
    views: Sequence[Array] = [support.features] if support.flipped is None else [support.features, support.flipped]
    rows = [unit(head.rows(view) if is_projected else view) for view in views]
    return unit(np.stack(rows).sum(0))  # (n, D or F)


def _votes(support: Support) -> Array:
    """(n, K): with equal classes one vote each, as published; otherwise every class has as many in all."""
    counts = np.bincount(support.labels, minlength=support.classes)  # (K,)
    share = len(support.labels) / max(int((counts > 0).sum()), 1) / np.maximum(counts, 1)  # (K,)
    return np.asarray(np.eye(support.classes)[support.labels] * share[support.labels, None], np.float32)
