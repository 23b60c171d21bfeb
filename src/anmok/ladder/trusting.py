"""How far one answer of the recommended rung can be trusted: everything fitted on images kept aside, told on those
that answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData
from anmok.evidence import abstain, calibration, conformal, ood
from anmok.evidence.splits import folds
from anmok.evidence.strangeness import NEIGHBOURS, Scorer
from anmok.ladder.aside import Aside
from anmok.ladder.evaluate import Evaluated, Held
from anmok.ladder.measure import OUTER_FOLDS
from anmok.ladder.outcome_trust import (
    Abstaining,
    Bar,
    Calibrated,
    LabelSets,
    Reliable,
    RiskPoint,
    Strangers,
    Trust,
)
from anmok.ladder.rungs.fitting import Material

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

ERRORS, MISSED = 0.05, 0.1  # among the answered, and of the sets of labels
_POINTS = 60  # of the curve, at most
_COMPARED, _CLASSES = 1000, 50  # images and classes, at most, in the search for strangers


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """The images that answer, and by which of those kept aside each part of them is judged."""

    aside: Aside
    logits: Rows  # (m, K)
    labels: Labels
    groups: Labels
    parts: tuple[tuple[Labels, Labels], ...]  # (rows kept aside, rows that answer)


def trust(chosen: Evaluated, aside: Aside | str, held: Held, material: Material, names: tuple[str, ...]) -> Trust:
    """``aside``: what the rung says of labelled images that it did not learn from, or why there is nothing. Where
    there is no sealed test, ``held`` are these images themselves."""
    key = chosen.step.key
    if isinstance(aside, str):
        return Trust(key, 0, "none", aside)
    asked = _asked(chosen, aside, held, material)
    chance = _calibrated(asked)  # (m, K)
    return Trust(
        key=key,
        images=len(aside.labels),
        source=aside.source,
        calibration=_calibration(asked, chance),
        sets=_sets(asked),
        abstaining=_abstaining(asked, chance),
        strangers=None if chosen.change is not None or chosen.student is not None else _strangers(material, names),
    )


def _asked(chosen: Evaluated, aside: Aside, held: Held, material: Material) -> _Asked:
    assert chosen.logits is not None
    logits = chosen.logits.astype(np.float64)
    is_same = len(held.labels) == len(aside.labels) and np.array_equal(held.features, material.features)
    if not is_same:
        everything = (np.arange(len(aside.labels)), np.arange(len(held.labels)))
        return _Asked(aside, logits, held.labels, held.groups, (everything,))
    fold = folds(aside.labels, aside.groups, min(OUTER_FOLDS, len(np.unique(aside.groups))), material.seed)
    parts = tuple((np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold))
    return _Asked(aside, logits, held.labels, held.groups, parts)


def _calibrated(asked: _Asked) -> Rows:
    """(m, K) chances at temperatures that the images themselves did not help to find."""
    chance = np.zeros_like(asked.logits)
    for taught, rows in asked.parts:
        heat = calibration.temperature(asked.aside.logits[taught], asked.aside.labels[taught])
        chance[rows] = calibration.softmax(asked.logits[rows], heat)
    return chance


def _calibration(asked: _Asked, chance: Rows) -> Calibrated:
    aside = asked.aside
    return Calibrated(
        temperature=calibration.temperature(aside.logits, aside.labels),
        is_fitted=len(aside.labels) >= calibration.LEAST_IMAGES,
        before=_reliable(calibration.softmax(asked.logits), asked),
        after=_reliable(chance, asked),
    )


def _reliable(chance: Rows, asked: _Asked) -> Reliable:
    found = calibration.reliability(chance, asked.labels, asked.groups)
    bars = tuple(Bar(one.n, one.confidence, one.accuracy) for one in found.bins)
    return Reliable(found.ece, found.ece_interval, found.ece_by_chance[1], found.overconfidence, bars)


def _sets(asked: _Asked) -> LabelSets:
    """A rung that learned nothing keeps its own temperature here: one fitted on the same images would cost the
    proof."""
    aside, is_proven = asked.aside, asked.aside.source == "nothing learned"

    def rule(rows: Labels) -> tuple[conformal.Conformal, float]:
        logits, labels = aside.logits[rows], aside.labels[rows]
        heat = 1.0 if is_proven else calibration.temperature(logits, labels)
        chance = calibration.softmax(logits, heat)
        return conformal.calibrate(
            chance, labels, MISSED, groups=aside.groups[rows], is_out_of_fold=not is_proven
        ), heat

    sets = np.zeros(asked.logits.shape, np.bool_)
    for taught, rows in asked.parts:
        found, heat = rule(taught)
        sets[rows] = found.sets(calibration.softmax(asked.logits[rows], heat))
    told = conformal.report(sets, calibration.softmax(asked.logits), asked.labels, asked.groups)
    whole = rule(np.arange(len(aside.labels)))[0]
    return LabelSets(1 - MISSED, is_proven, whole.n, whole.coverage, told.covered, told.mean_size, told.single)


def _abstaining(asked: _Asked, chance: Rows) -> Abstaining:
    aside = asked.aside

    def limit(rows: Labels) -> abstain.Abstention:
        logits, labels = aside.logits[rows], aside.labels[rows]
        kept = calibration.softmax(logits, calibration.temperature(logits, labels))
        return abstain.threshold(kept.max(1), kept.argmax(1) == labels, ERRORS, aside.groups[rows])

    sure, right = chance.max(1), chance.argmax(1) == asked.labels  # (m,), (m,)
    is_answered = np.zeros(len(sure), np.bool_)
    for taught, rows in asked.parts:
        is_answered[rows] = sure[rows] >= limit(taught).threshold
    whole = limit(np.arange(len(aside.labels)))
    told = abstain.measure(is_answered.astype(float), right, 0.5, asked.groups) if whole.is_promised else None
    curve = abstain.risk_coverage(sure, right)
    places = np.unique(np.linspace(0, len(curve.risk) - 1, _POINTS).round().astype(int))
    return Abstaining(
        at_most=ERRORS,
        threshold=whole.threshold if whole.is_promised else None,
        needed=whole.needed,
        answered=None if told is None else told.coverage,
        errors=None if told is None else told.error,
        curve=tuple(RiskPoint(float(curve.coverage[i]), float(curve.risk[i])) for i in places),
    )


def _strangers(material: Material, names: tuple[str, ...]) -> Strangers | None:
    """The distance to the tenth neighbour among the images to learn from; the largest classes of many."""
    largest = np.argsort(-np.bincount(material.labels, minlength=material.classes), kind="stable")[:_CLASSES]
    rows = np.flatnonzero(np.isin(material.labels, largest))
    rows = np.sort(np.random.default_rng(material.seed).permutation(rows)[:_COMPARED])
    labels, groups = material.labels[rows], material.groups[rows]
    scorer = _neighbours(material.features[rows])
    try:
        cut = ood.threshold(scorer, labels, groups, seed=material.seed)
    except BadData:  # one single group
        return None
    try:
        near = ood.near(scorer, labels, groups, seed=material.seed)
    except BadData:  # two classes, or none that can be left out
        near = None
    return Strangers(
        limit=float(cut.value) if np.isfinite(cut.value) else None,
        rejected=cut.rejected,
        near=None if near is None else near.auroc,
        interval=None if near is None else near.interval,
        hardest="" if near is None else names[near.hardest],
        images=len(rows),
    )


def _neighbours(features: NDArray[np.float32]) -> Scorer:
    """As `strangeness.knn_distance`, with every cosine worked out once. Centred, since pooled features are all
    positive, and any two pictures would look alike."""
    rows = features - features.mean(0)  # (n, F)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosine = rows @ rows.T  # (n, n)

    def score(known: NDArray[np.intp], asked: NDArray[np.intp]) -> Rows:
        place = min(NEIGHBOURS, len(known)) - 1
        nearest = -np.partition(-cosine[np.ix_(asked, known)], place, axis=1)[:, place]  # (m,)
        return np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 0))

    return score
