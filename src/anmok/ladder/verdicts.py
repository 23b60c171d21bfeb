"""From measured rungs to comparisons and a recommendation, in the words of ``evidence``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.compare import trial
from anmok.evidence.verdict import Candidate, Verdict, Word, judge, recommend
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.measure import Measured
from anmok.ladder.outcome import Comparison, Recommendation
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.pricing import Ranking
from anmok.ladder.rungs.order import place
from anmok.ladder.settling import settling

Labels = NDArray[np.int64]

_MAJORITY = "majority"


@dataclass(frozen=True, slots=True)
class Judged:
    """``by_worth``: the contrasts of what the answers are worth, where the recommendation follows that."""

    recommendation: Recommendation
    comparisons: tuple[Comparison, ...]
    by_worth: tuple[Verdict, ...] = ()


def recommendation(measured: Measured, scene: Scene, plan: Plan, by: Ranking | None = None) -> Judged:
    """The cheapest rung that is not worse than any other by more than the margin, and the planned contrasts.

    ``by``: what the answers are worth, where that is not simply how many are right; the recommendation then follows it.
    The comparisons are of accuracies all the same, and those of worth stand beside them.
    """
    held = scene.held()
    final, gate = _proven(measured, held.groups, plan)
    candidates = [Candidate(key, _cost(one), one.correct) for key, one in final.items()]
    found = recommend(candidates, held.groups, plan.margin, seed=plan.seed)
    compared_ = tuple(compared(verdict) for verdict in (*found.verdicts, *gate))
    if by is not None:
        return _by_worth(by, final, compared_, held.groups, plan)
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
            images_needed=settling(found.images_needed).images,
            is_out_of_reach=settling(found.images_needed).is_out_of_reach,
        ),
        compared_,
    )


def _by_worth(
    by: Ranking, final: Mapping[str, Evaluated], comparisons: tuple[Comparison, ...], groups: Labels, plan: Plan
) -> Judged:
    """Against what needs no model, too. What fewer labels would do is not told: they set no threshold."""
    values = {key: worth for key, worth in by.values.items() if key in final} or dict(by.values)
    candidates = [Candidate(key, _cost(final[key]) if key in final else 0.0, worth) for key, worth in values.items()]
    found = recommend(candidates, groups[by.rows], by.margin, seed=plan.seed, mix=by.mix)
    pair = [(_MAJORITY, by.floor), ("chosen", values[found.name])]
    lead = trial(pair, groups[by.rows], seed=plan.seed, mix=by.mix).contrasts([(_MAJORITY, "chosen")])[0]
    return Judged(
        Recommendation(
            key=found.name,
            best=found.best_name,
            is_decided=found.is_decided,
            is_useful=judge(lead, by.margin).word is Word.BETTER,
            shots_enough=None,
            next_gain=None,
            reason=found.reason,
            images_needed=settling(found.images_needed).images,
            is_out_of_reach=settling(found.images_needed).is_out_of_reach,
        ),
        comparisons,
        found.verdicts,
    )


def _proven(measured: Measured, groups: Labels, plan: Plan) -> tuple[dict[str, Evaluated], tuple[Verdict, ...]]:
    """The rungs that may be recommended, and what kept others out: made pictures have to be BETTER than the same
    head on real pictures alone before they are compared with all the others (a gate, so it costs no correction)."""
    final = dict(measured.final)
    shown = _examples(final, groups, plan)
    mixed, alone = final.get("R"), final.get("2")
    if mixed is None or len(final) == 1:
        return final, shown
    del final["R"]
    if alone is None:
        return final, shown
    tried = trial([("2", alone.correct), ("R", mixed.correct)], groups, seed=plan.seed)
    verdict = judge(tried.contrasts([("2", "R")])[0], plan.margin)
    if verdict.word is Word.BETTER:
        return {**final, "R": mixed}, shown
    return final, (*shown, verdict)


def _examples(final: dict[str, Evaluated], groups: Labels, plan: Plan) -> tuple[Verdict, ...]:
    """Takes out the rung that shows examples, and says what they bring. No folder could answer as it does, which would
    have to hold the user's pictures, so it is not recommended."""
    if len(final) == 1 or "V" not in final:
        return ()
    shown = final.pop("V")
    if "V0" not in final:
        return ()
    tried = trial([("V0", final["V0"].correct), ("V", shown.correct)], groups, seed=plan.seed)
    return (judge(tried.contrasts([("V0", "V")])[0], plan.margin),)


def _cost(one: Evaluated) -> float:
    """Labels first; among rungs on the same labels, the order of the ladder."""
    return one.step.labels * 100.0 + place(one.step.key)


def compared(verdict: Verdict) -> Comparison:
    """A verdict as the outcome holds it."""
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
        images_needed=settling(verdict.images_needed).images,
        is_out_of_reach=settling(verdict.images_needed).is_out_of_reach,
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
