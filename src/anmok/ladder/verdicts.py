"""From measured rungs to comparisons and a recommendation, in the words of ``evidence``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anmok.evidence.compare import trial
from anmok.evidence.verdict import Candidate, Verdict, Word, judge, recommend
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.measure import Measured
from anmok.ladder.outcome import Comparison, Recommendation
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene

_MAJORITY = "majority"


@dataclass(frozen=True, slots=True)
class Judged:
    recommendation: Recommendation
    comparisons: tuple[Comparison, ...]


def recommendation(measured: Measured, scene: Scene, plan: Plan) -> Judged:
    """The cheapest rung that is not worse than any other by more than the margin, and the planned contrasts."""
    held = scene.held()
    candidates = [Candidate(key, _cost(one), one.correct) for key, one in measured.final.items()]
    found = recommend(candidates, held.groups, plan.margin, seed=plan.seed)
    chosen = measured.final[found.name]
    commonest = int(np.bincount(measured.material.labels).argmax())
    majority = (held.labels == commonest)[None]
    useful = trial([(_MAJORITY, majority), ("chosen", chosen.correct)], held.groups, seed=plan.seed)
    lead = useful.contrasts([(_MAJORITY, "chosen")])[0]
    few = [one for one in measured.curve if one.step.key == found.name]
    return Judged(
        Recommendation(
            key=found.name,
            best=found.best_name,
            is_decided=found.is_decided,
            is_useful=judge(lead, plan.margin).word is Word.BETTER,
            shots_enough=_shots_enough(few, chosen, held.groups, plan),
            next_gain=_next_gain(few, chosen),
            reason=found.reason,
            lead=lead.interval,
            images_needed=found.images_needed,
        ),
        tuple(_comparison(verdict) for verdict in found.verdicts),
    )


def _cost(one: Evaluated) -> float:
    """Labels first; among rungs on the same labels, the order of the ladder."""
    order = {"0a": 0, "0b": 1, "0c": 2, "0d": 3, "1": 4, "2": 5, "3": 6}
    return one.step.labels * 100.0 + order[one.step.key]


def _comparison(verdict: Verdict) -> Comparison:
    contrast = verdict.contrast
    return Comparison(
        key=contrast.name_b,
        against=contrast.name_a,
        word=verdict.word.value.upper(),
        gain=contrast.gain,
        low=contrast.interval.low,
        high=contrast.interval.high,
        p_adjusted=contrast.p_adjusted,
        disagreement=contrast.disagreement,
        images_needed=verdict.images_needed,
    )


def _shots_enough(few: Sequence[Evaluated], chosen: Evaluated, groups: object, plan: Plan) -> int | None:
    """The fewest labels a class at which the rung is shown to lack no more than the margin against all labels."""
    for one in sorted(few, key=lambda item: item.step.shots or 0):
        tried = trial([("few", one.correct), ("all", chosen.correct)], np.asarray(groups), seed=plan.seed)
        if tried.gain("few", "all").interval(0.9).high <= plan.margin:
            return one.step.shots
    return None


def _next_gain(few: Sequence[Evaluated], chosen: Evaluated) -> float | None:
    """What doubling the labels would buy: the power law through the last points, error = b n^-c.

    Told only where three points at least go down in order; never negative.
    """
    points = [(one.step.labels, 1 - one.step.accuracy.value) for one in few]
    points.append((chosen.step.labels, 1 - chosen.step.accuracy.value))
    points = [(labels, error) for labels, error in points if error > 0]
    if len(points) < 3:
        return None
    labels, errors = np.log([p[0] for p in points[-3:]]), np.log([p[1] for p in points[-3:]])
    slope, intercept = np.polyfit(labels, errors, 1)
    if slope >= 0:
        return None
    now = np.exp(intercept + slope * labels[-1])
    return float(now * (1 - 2**slope))
