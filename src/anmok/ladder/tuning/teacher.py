"""Who teaches a small model: the best rung so far on the judging pictures of the pool, never on the test set.

Where a head on kept features teaches, the pool's pictures are answered by heads that did not learn from them. So the
teacher is as unsure as it is on new pictures, and its labels can be audited before anybody learns from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.calibration import softmax, temperature
from anmok.evidence.splits import folds
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.rungs.fitting import fit
from anmok.ladder.rungs.order import LEARNED
from anmok.ladder.tuning.ground import JUDGES, Ground, seen, with_learned
from anmok.ladder.tuning.spare import Spare
from anmok.load import Answerer, Model

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

JOINED = 3  # heads that answer together, at most
_LEAST = -1e4  # logit of a class that a fold had no picture of
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """``logits`` are at a temperature at which the chances are right. ``audited``: rows of the pool that were answered
    by what did not learn from them."""

    name: str
    accuracy: float  # on the judging rows
    logits: Array  # (n, K) of the pool
    features: Array  # (n, F)
    audited: Labels
    spare_logits: Array  # (s, K) of the pictures without a label
    spare_features: Array  # (s, F)


def teach(ground: Ground, final: Mapping[str, Evaluated], spare: Spare) -> Taught:
    """The best teacher's answers. Among equals the simpler: one head before several, heads before a tuned tower."""
    heads = {key: fit(key, ground.material, ground.teaching).head for key in final if key in LEARNED}
    if not heads:
        heads = {"2": ground.linear.head}
    judging = ground.material.features[ground.judging]
    hits = {key: _accuracy(ground, head.logits(judging)) for key, head in heads.items()}
    ranked = sorted(heads, key=lambda key: -hits[key])
    best = _of_heads(ground, {ranked[0]: heads[ranked[0]]}, spare)
    if len(ranked) > 1:
        together = {key: heads[key] for key in ranked[:JOINED]}
        best = max(best, _of_heads(ground, together, spare), key=lambda one: one.accuracy)
    for key, one in final.items():
        if one.change is not None and one.head is not None and one.student is None:
            model = with_learned(ground.model, ground.material.classes, one.head, one.change)
            if _judged_by(model, one.head, ground) > best.accuracy:
                best = _of_tower(ground, key, model, one.head, spare)
    return best


def _of_heads(ground: Ground, heads: Mapping[str, Answerer], spare: Spare) -> Taught:
    """One head, or the mean chances of several, each at its own temperature."""
    material, teaching, judging = ground.material, ground.teaching, ground.judging
    fold = folds(material.labels[teaching], material.groups[teaching], JUDGES - 1, ground.plan.seed)
    pools, spares = [], []
    for key, head in heads.items():
        logits = np.zeros((len(material.labels), material.classes), np.float32)
        logits[judging] = head.logits(material.features[judging])
        for k in np.unique(fold):
            rows = teaching[fold == k]
            logits[rows] = fit(key, material, teaching[fold != k]).head.logits(material.features[rows])
        logits = np.maximum(logits, _LEAST)
        heat = temperature(logits, material.labels)
        pools.append(softmax(logits, heat))
        spares.append(softmax(np.maximum(head.logits(spare.features), _LEAST), heat))
    pool = _logits(pools)
    every = np.arange(len(pool))
    name = " + ".join(heads)
    accuracy = _accuracy(ground, pool[judging])
    return Taught(name, accuracy, pool, material.features, every, _logits(spares), spare.features)


def _of_tower(ground: Ground, key: str, model: Model, head: Answerer, spare: Spare) -> Taught:
    """A tuned tower: its answers on what it learned from are surer than they should be, so those are not audited."""
    features, more = seen(model, ground.paths), seen(model, spare.paths)
    more = more if len(more) else np.zeros((0, features.shape[1]), np.float32)
    logits = np.maximum(head.logits(features), _LEAST)
    heat = temperature(logits[ground.judging], ground.material.labels[ground.judging])
    spare_logits = np.maximum(head.logits(more), _LEAST) / heat
    accuracy = _accuracy(ground, logits[ground.judging])
    pool = np.asarray(logits / heat, np.float32)
    return Taught(key, accuracy, pool, features, ground.judging, np.asarray(spare_logits, np.float32), more)


def _judged_by(model: Model, head: Answerer, ground: Ground) -> float:
    return _accuracy(ground, head.logits(seen(model, [ground.paths[i] for i in ground.judging])))


def _accuracy(ground: Ground, logits: Array) -> float:
    return float(np.mean(logits.argmax(1) == ground.material.labels[ground.judging]))


def _logits(chances: Sequence[NDArray[np.float64]]) -> Array:
    """(n, K) several times over to the logarithm of their mean."""
    return np.asarray(np.log(np.mean(chances, axis=0) + _TINY), np.float32)
