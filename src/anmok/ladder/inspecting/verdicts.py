"""From measured rungs to comparisons, advice and the pictures worth a look, in the words of ``evidence``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import accuracy
from anmok.evidence.placements import auroc_of_draws, ranking_trial
from anmok.evidence.verdict import recommend_from
from anmok.ladder.inspecting.measure import Graded, Measured
from anmok.ladder.inspecting.outcome import Advice, InspectStep, KindRow, Shown
from anmok.ladder.inspecting.parts import Parts
from anmok.ladder.inspecting.plan import InspectPlan
from anmok.ladder.outcome import Comparison
from anmok.ladder.prepare import Scene
from anmok.ladder.settling import settling
from anmok.ladder.verdicts import compared

Bools = NDArray[np.bool_]

MEMORIES = ("A1", "A2", "P")  # rungs whose winner is a memory that can be written
SHOWN = 4  # pictures of each reason
_ORDER = ("A0", "A1", "A2", "P", "A4")
_DEFECT_PRICE = 10.0  # a labelled defect costs as much as that many good pictures: defects are rare where it matters


@dataclass(frozen=True, slots=True)
class Advised:
    advice: Advice
    comparisons: tuple[Comparison, ...]


def advice(measured: Measured, scene: Scene, is_defect: Bools, plan: InspectPlan) -> Advised:
    """The cheapest rung that is good enough, and the planned contrasts, on AUROC. Where it is no memory, the cheapest
    memory that is good enough among memories is the one to write."""
    groups, truth = scene.grouping.groups[scene.test], is_defect[scene.test]
    tried = ranking_trial([(key, one.scores) for key, one in measured.final.items()], truth, groups, seed=plan.seed)
    found = recommend_from({key: _cost(one.step) for key, one in measured.final.items()}, tried, plan.margin)
    chosen = measured.final[found.name]
    costs = {key: _cost(one.step) for key, one in measured.final.items() if key in MEMORIES}
    kept = "A1"  # where no memory was tried
    if costs:
        kept = found.name if found.name in costs else recommend_from(costs, tried, plan.margin).name
    needed = settling(_more_than(found.images_needed, len(truth)))
    return Advised(
        Advice(
            key=found.name,
            best=found.best_name,
            is_decided=found.is_decided,
            is_useful=chosen.step.auroc.interval.low > 0.5,
            good_enough=_good_enough(measured, truth, groups, plan),
            images_needed=needed.images,
            is_out_of_reach=needed.is_out_of_reach,
            reason=found.reason,
            remembered=kept,
        ),
        tuple(compared(verdict) for verdict in found.verdicts),
    )


def kinds(chosen: Graded, scene: Scene, parts: Parts) -> tuple[KindRow, ...]:
    """Each kind of defect against all good pictures of the test, the hardest first."""
    labels, groups = scene.labels[scene.test], scene.grouping.groups[scene.test]
    is_defect = parts.is_defect[scene.test]
    rows = []
    for index, name in enumerate(scene.dataset.classes):
        here = (labels == index) & is_defect
        if not here.any():
            continue
        kept = here | ~is_defect
        called = chosen.is_called
        rows.append(
            KindRow(
                name=name,
                pictures=int((scene.labels == index).sum()),
                tested=int(here.sum()),
                auroc=auroc_of_draws(chosen.scores[:, kept], here[kept], groups[kept]),
                miss=None if called is None else accuracy(~called[here], groups[here]),
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.auroc.value, row.name)))


def shown(one: Graded, scene: Scene, parts: Parts) -> tuple[Shown, ...]:
    """The worst pictures of a rung with maps: defects that it finds least strange, good ones that it finds most
    strange, and the strangest of all."""
    if not one.maps:
        return ()
    scores, is_defect = one.scores[0], parts.is_defect[scene.test]
    threshold = None if one.step.rates is None else one.step.rates.threshold
    order = np.argsort(scores, kind="stable")  # (m,)
    groups = (
        ("missed", [i for i in order if is_defect[i]][:SHOWN]),
        ("false alarm", [i for i in order[::-1] if not is_defect[i]][:SHOWN]),
        ("strangest", [i for i in order[::-1] if is_defect[i]][:SHOWN]),
    )
    taken: set[int] = set()
    rows = []
    for why, places in groups:
        for i in places:
            if int(i) not in taken:
                taken.add(int(i))
                rows.append(Shown(int(scene.test[i]), why, float(scores[i]), threshold))
    return tuple(rows)


def _cost(step: InspectStep) -> float:
    """Labels first; on the same labels, the order of the ladder."""
    return (step.good + _DEFECT_PRICE * step.defects) * 100.0 + _ORDER.index(step.key)


def _more_than(needed: int | None, tested: int) -> int | None:
    """Where as many as were tested would do, the estimate knows nothing: rankings that agree on every picture have no
    variance to foretell with."""
    return None if needed is None or needed <= tested else needed


def _good_enough(measured: Measured, truth: Bools, groups: NDArray[np.int64], plan: InspectPlan) -> int | None:
    """The fewest references at which A1 is shown to lack no more than the margin against all of them."""
    if "A1" not in measured.final:
        return None
    for one in sorted((one for one in measured.curve if one.step.key == "A1"), key=lambda one: one.step.good):
        pair = [("few", one.scores), ("all", measured.final["A1"].scores)]
        tried = ranking_trial(pair, truth, groups, seed=plan.seed)
        if tried.gain("few", "all").interval(0.9).high <= plan.margin:
            return one.step.good
    return None
