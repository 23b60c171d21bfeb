"""From what errors cost to what a rung answers: its temperature and its decision, set on images kept aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence import calibration, overkill
from anmok.evidence.overkill import Threshold
from anmok.evidence.splits import folds
from anmok.ladder.aside import Aside
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.measure import OUTER_FOLDS
from anmok.ladder.stakes import Resolved
from anmok.load import Decision, odds_against

Labels = NDArray[np.int64]
Rows = NDArray[np.float64]

_CONFIDENCE = 0.95
_RARELY = 0.5  # images of a class that is not among those kept aside: it is rare, and not impossible


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """What travels with the artefact. ``threshold``: of an alarm, where an overkill was promised."""

    temperature: float
    decision: Decision
    threshold: Threshold | None

    def answers(self, logits: NDArray[np.floating]) -> Labels:
        """(n, K) logits of the head to (n,) class numbers."""
        return self.decision.answers(logits.astype(np.float64) / self.temperature)


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """``answers`` (m,) on the images that answer."""

    rule: Rule
    answers: Labels


def decided(one: Evaluated, aside: Aside, stake: Resolved, seed: int, *, is_development: bool) -> Decided:
    """The rule from ``aside``, and what it answers. Without a sealed test the images that answer are those kept aside,
    and each is answered by a rule from the other folds."""
    rule = _rule(aside, np.arange(len(aside.labels)), stake)
    assert one.logits is not None
    if not is_development:
        return Decided(rule, rule.answers(one.logits))
    count = min(OUTER_FOLDS, len(np.unique(aside.groups)))
    fold = folds(aside.labels, aside.groups, count, seed)
    answers = np.zeros(len(aside.labels), np.int64)
    for k in np.unique(fold):
        rows = fold == k
        answers[rows] = _rule(aside, np.flatnonzero(~rows), stake).answers(aside.logits[rows])
    return Decided(rule, answers)


def _rule(aside: Aside, rows: Labels, stake: Resolved) -> Rule:
    logits, labels, groups = aside.logits[rows], aside.labels[rows], aside.groups[rows]
    heat = calibration.temperature(logits, labels)
    if stake.costs is not None:
        weights = np.ones(logits.shape[1])
        if stake.costs.prevalence is not None:
            seen = np.maximum(np.bincount(labels, minlength=len(weights)), _RARELY)  # (K,)
            weights = stake.costs.prevalence / (seen / seen.sum())
        matrix = tuple(tuple(float(cost) for cost in row) for row in stake.costs.matrix)
        return Rule(heat, Decision("costs", matrix, tuple(float(one) for one in weights)), None)
    assert stake.good is not None
    assert stake.at_most is not None
    scores = odds_against(logits.astype(np.float64) / heat, stake.good)  # (n,)
    found = promised(scores, labels != stake.good, stake.at_most, groups)
    return Rule(heat, Decision("overkill", good=stake.good, alarm_above=found.value), found)


def promised(scores: Rows, is_defect: NDArray[np.bool_], at_most: float, groups: Labels) -> Threshold:
    """With confidence where the good images are enough for that, else on average, else as near as they come. Raises
    `BadData` without a good image."""
    sure = overkill.threshold(scores, is_defect, at_most, _CONFIDENCE, groups)
    return sure if sure.promise != "none" else overkill.threshold(scores, is_defect, at_most, None, groups)
