"""Tip-Adapter: the labelled images themselves vote, beside the zero-shot head; and its keys learned (Tip-Adapter-F).

Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification" (ECCV 2022,
arXiv:2207.09519), repository gaopengcuhk/Tip-Adapter. The published scripts look for alpha and beta on hundreds of
validation images or on the test images; here they come from folds inside the support, or are fixed where it is too
small for that. Silence, alpha = 0, is among the choices: where the images bring nothing in the folds, the names answer
alone. Ours differs in four more things. Votes are divided by the size of the class, so that a common class
is not louder. Nearness may be taken among the features before the projection, which for ``mini`` is better by ten
points at 16 shots, for its projection is a makeshift. More than ``MOST`` images of a class do not all become keys; all
of them judge the choice and teach the keys all the same, or else the classes would look as common as one another. And
the keys are learned by L-BFGS, with a penalty on leaving the images they start from, instead of 20 epochs of AdamW.
The penalty is chosen with keys that were learned in the folds: what suits keys that stand still says little of keys
that move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anmok.ladder.rungs.support import Labels, Support
from anmok.load import Cache, Head
from anmok.pairing import unit

Array = NDArray[np.float32]
Double = NDArray[np.float64]

MOST = 64  # keys of one class: they travel with the adapter and are compared with every picture
PENALTIES = (0.01, 1.0, 10.0)  # over the shots, on the squared distance that the keys move; the first is the usual
_ITERATIONS = 40  # the same in the folds: where a run ends is a part of what is chosen
_TAUGHT, _TAUGHT_IN_FOLDS = 2000, 400  # pictures that teach keys, where nothing more is compared and in the folds


@dataclass(frozen=True, slots=True)
class Setting:
    """``alpha`` the loudness of the cache, ``beta`` how fast a vote fades, ``is_projected`` the space of nearness."""

    alpha: float
    beta: float
    is_projected: bool

    def __str__(self) -> str:
        if self.alpha == 0:
            return "alpha = 0: in the folds the images brought nothing"
        space = "shared space" if self.is_projected else "features"
        return f"alpha = {self.alpha:g}, beta = {self.beta:g}, {space}"


MEASURED = Setting(10.0, 1.0, is_projected=False)  # on `mini`; wide optimum, the best or near it on two sets
PUBLISHED = Setting(1.0, 1.0, is_projected=True)  # for CLIP
SILENT = Setting(0.0, 1.0, is_projected=False)  # the names alone
GRID = (
    *(
        Setting(alpha, beta, space)
        for space in (False, True)
        for alpha in (1.0, 3.0, 10.0, 30.0)
        for beta in (1.0, 3.0, 10.0)
    ),
    SILENT,
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """``compared``: candidates compared on the support's own labels; 1 where nothing was chosen. ``penalty``: of keys
    that move; None where they stay."""

    setting: Setting
    compared: int
    penalty: float | None = None

    def __str__(self) -> str:
        moved = "" if self.penalty is None else f", penalty {self.penalty:g}"
        return f"{self.setting}{moved}"


def choose(support: Support, zero_shot: Head, seed: int, fixed: Setting = MEASURED) -> Chosen:
    """The setting with the most hits in folds inside the support; ``fixed`` at a tie and where there is too little.

    ``zero_shot`` answers for the classes without labels; with zero weights the cache votes alone.
    """
    inner = list(support.inner_folds(seed))
    if not inner:
        return Chosen(fixed, 1)
    settings = (fixed, *(one for one in GRID if one != fixed))
    hits = np.zeros(len(settings))
    for train, held in inner:
        kept, judging = support.part(train).thinned(MOST, seed), support.part(held)
        votes, logits = _votes(kept), zero_shot.logits(judging.features)  # (t, K), (h, K)
        for is_projected in (False, True):
            keys = _keys(kept, zero_shot, is_projected)  # (t, D or F)
            nearness = _rows(judging, zero_shot, is_projected) @ keys.T  # (h, t)
            for i, one in enumerate(settings):
                if one.is_projected == is_projected:
                    answers = logits + one.alpha * np.exp(one.beta * (nearness - 1.0)) @ votes  # (h, K)
                    hits[i] += (answers.argmax(1) == judging.labels).sum()
    return Chosen(settings[int(np.argmax(hits))], len(settings))


def choose_learned(support: Support, zero_shot: Head, seed: int, fixed: Setting = MEASURED) -> Chosen:
    """As ``choose``, for keys that move: which penalty holds them, from ``fixed`` and from what ``choose`` found.

    What it found without moving is a candidate too, so that learning keys is no worse than that in the folds.
    """
    inner = list(support.inner_folds(seed))
    if not inner:
        return Chosen(fixed, 1, PENALTIES[0])
    still = choose(support, zero_shot, seed, fixed)
    starts = dict.fromkeys(one for one in (fixed, still.setting) if one.alpha > 0)
    moved = [Chosen(one, 1, penalty) for one in starts for penalty in PENALTIES[one != fixed :]]
    hits = np.zeros(1 + len(moved))
    for train, held in inner:
        judging = support.part(held)
        for i, one in enumerate((still, *moved)):
            teaching = support.part(train)
            if one.penalty is not None:
                teaching = teaching.drawn(_TAUGHT_IN_FOLDS, seed)
            answers = _made(teaching, zero_shot, one, seed).logits(judging.features)  # (h, K)
            hits[i] += (answers.argmax(1) == judging.labels).sum()
    best = (still, *moved)[int(np.argmax(hits))]
    return replace(best, compared=still.compared + len(moved))


def cached(support: Support, zero_shot: Head, setting: Setting, seed: int) -> Cache:
    """Tip-Adapter, training-free. A key is the mean direction of the views of its picture."""
    support = support.thinned(MOST, seed)
    keys = _keys(support, zero_shot, setting.is_projected)  # (n, D or F)
    return Cache(zero_shot, keys, _votes(support), setting.alpha, setting.beta, setting.is_projected)


def with_learned_keys(
    support: Support, zero_shot: Head, setting: Setting, seed: int, penalty: float = PENALTIES[0]
) -> Cache:
    """Tip-Adapter-F: minimises the mean cross-entropy on all views + penalty / shots ||keys - keys0||^2.

    2,000 pictures teach or, where there are more keys, as many as those; drawn at random, so that a common class stays
    common.
    """
    start = cached(support, zero_shot, setting, seed)
    taught = support.drawn(max(_TAUGHT, len(start.keys)), seed)
    features, labels = taught.views()
    rows = unit(zero_shot.rows(features) if setting.is_projected else features)  # (v n, D or F)
    is_whole = len(taught.labels) == len(support.labels)  # every key is then a sum of rows
    rows, keys, basis = _spanned(rows, start.keys, rows if is_whole else np.concatenate([rows, start.keys]))
    problem = Problem(replace(start, keys=keys), rows, zero_shot.logits(features), labels, penalty / support.shots)
    options = {"maxiter": _ITERATIONS, "ftol": 1e-9}
    found = minimize(problem, problem.start, jac=True, method="L-BFGS-B", options=options)
    moved = found.x.reshape(keys.shape)  # (m, r)
    return replace(start, keys=(moved if basis is None else moved @ basis.T).astype(np.float32))


def answerer(support: Support, zero_shot: Head, chosen: Chosen, seed: int) -> Head | Cache:
    """What was chosen, on all of the support; the names alone where that is silence."""
    return zero_shot if chosen.setting.alpha == 0 else _made(support, zero_shot, chosen, seed)


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


def _made(support: Support, zero_shot: Head, chosen: Chosen, seed: int) -> Cache:
    if chosen.penalty is None:
        return cached(support, zero_shot, chosen.setting, seed)
    return with_learned_keys(support, zero_shot, chosen.setting, seed, chosen.penalty)


def _spanned(rows: Array, keys: Array, whole: Array) -> tuple[Array, Array, Array | None]:
    """Rows (n, r), keys (m, r) and an orthonormal basis (D, r) of ``whole``, in which both lie, where that is narrower
    than they are. No step leads out of it, so the answer is the same and each step is cheaper."""
    if len(whole) >= rows.shape[1]:
        return rows, keys, None
    basis = np.linalg.qr(whole.T.astype(np.float64))[0].astype(np.float32)  # (D, r)
    return rows @ basis, keys @ basis, basis


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
