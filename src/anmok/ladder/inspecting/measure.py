"""Every rung of the anomaly ladder on the test pictures, and what its scores are worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok.evidence.intervals import accuracy
from anmok.evidence.placements import auroc_of_draws
from anmok.evidence.splits import folds
from anmok.inspecting import Limit, Method, limit
from anmok.ladder.inspecting import rungs
from anmok.ladder.inspecting.outcome import InspectStep, Rates
from anmok.ladder.inspecting.plan import InspectPlan
from anmok.ladder.inspecting.rungs import Answered, Bench
from anmok.ladder.inspecting.sight import Sight
from anmok.ladder.prepare import Scene

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

_OUTER_FOLDS = 5
_ENOUGH_DEFECTS = 3  # labelled defects of the pool below which A4 has nothing to learn from


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """``scores`` (S, m) of the test pictures; ``is_called`` bool (m,): the first draw's call at its threshold, where it
    has one; ``answers``: of each fold; ``maps``: of each test picture, or none."""

    step: InspectStep
    scores: Double
    is_called: Bools | None
    answers: tuple[Answered, ...]
    maps: tuple[Array, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """``final``: the rungs with all labels, the cheapest first. ``curve``: the others. ``why_not``: rung and reason."""

    final: Mapping[str, Graded]
    curve: tuple[Graded, ...]
    benches: tuple[Bench, ...]
    why_not: Mapping[str, str]


def benches(scene: Scene, sight: Sight, is_defect: Bools, seed: int) -> tuple[Bench, ...]:
    """The sealed split as one bench; without one, a bench for each of five folds."""

    def bench(pool: Labels, test: Labels) -> Bench:
        good, bad = pool[~is_defect[pool]], pool[is_defect[pool]]
        return Bench(sight, scene.looked.features, scene.grouping.groups, good, bad, test, seed)

    if not scene.is_development:
        return (bench(scene.pool, scene.test),)
    groups = scene.grouping.groups
    count = max(2, min(_OUTER_FOLDS, len(np.unique(groups))))
    fold = folds(is_defect.astype(np.int64), groups, count, seed)
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    return tuple(bench(pool, test) for pool, test in parts if (~is_defect[pool]).any())


def measure(
    scene: Scene, sight: Sight, is_defect: Bools, plan: InspectPlan, progress: Progress | None = None
) -> Measured:
    """Remembers and fits on the pool alone; each rung answers on the test pictures once."""
    tables = benches(scene, sight, is_defect, plan.seed)
    judge = _Judge(scene, is_defect, tables, plan)
    why = _why_not(sight, tables)
    keys = [key for key in plan.rungs if key not in why]
    tick = _ticker(progress, _steps(keys, tables))
    final: dict[str, Graded] = {}
    curve: list[Graded] = []
    if "A0" in keys:
        final["A0"] = judge("A0", [rungs.worded(one) for one in tables])
    for key in (key for key in keys if key in ("A1", "A2")):
        is_turned = key == "A2"
        shots = [n for n in plan.shots if not is_turned or n <= rungs.TURNED_SHOTS]
        began = time.perf_counter()
        found = [rungs.few(one, shots, plan.draws, tick, is_turned) for one in tables]
        spent = time.perf_counter() - began
        common = [n for n in shots if all(n in one for one in found)]
        curve += [judge(key, [one[n] for one in found], spent / len(common)) for n in common]
        final[key] = _everything(judge, key, tables, tick)
    if "P" in keys:
        final["P"] = _everything(judge, "P", tables, tick)
    if "A4" in keys and "A1" in final:
        patchwise = final["A1"].answers
        known = [_Known(one, found, _scored(one, found)) for one, found in zip(tables, patchwise, strict=True)]
        least = min(len(one.defects) for one in tables)
        for shots_of in [n for n in plan.shots if n < least]:
            curve.append(judge("A4", [one.learnt(shots_of, plan.draws) for one in known]))
        began = time.perf_counter()
        learnt = [one.learnt(None, 1) for one in known]
        final["A4"] = judge("A4", learnt, (time.perf_counter() - began) / len(tables))
    return Measured(final, tuple(curve), tables, why)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What A4 learns from: A1's answers, and the patch scores (d,) of the labelled defects."""

    bench: Bench
    patchwise: Answered
    scores: Double

    def learnt(self, shots: int | None, draws: int) -> Answered:
        return rungs.with_defects(self.bench, self.patchwise, self.scores, shots, draws)


def _scored(bench: Bench, patchwise: Answered) -> Double:
    assert patchwise.memory is not None
    return rungs.defect_scores(bench, patchwise.memory)


def _everything(judge: _Judge, key: str, tables: Sequence[Bench], tick: rungs.Tick) -> Graded:
    """A memory of all good pictures, timed."""
    method: Method = "coreset" if key == "P" else "nearest"
    began = time.perf_counter()
    found = [rungs.all_good(one, method, tick, key == "A2") for one in tables]
    return judge(key, found, (time.perf_counter() - began) / len(tables))


def _why_not(sight: Sight, tables: Sequence[Bench]) -> dict[str, str]:
    why = {}
    if sight.worded is None:
        why["A0"] = sight.no_words
    fewest = min(len(one.defects) for one in tables)
    if fewest < _ENOUGH_DEFECTS:
        why["A4"] = f"the pool has {fewest} labelled defects; it needs {_ENOUGH_DEFECTS}"
    elif min(len(np.unique(one.groups[one.good])) for one in tables) < 2:
        why["A4"] = "the good pictures of the pool all belong together"
    return why


def _steps(keys: Sequence[str], tables: Sequence[Bench]) -> int:
    """Pictures that are judged, few and all references apart."""
    passes = {"A1": 2, "A2": 2, "P": 1}
    tests, normals = sum(len(one.test) for one in tables), sum(min(len(one.good), rungs.JUDGED) for one in tables)
    return sum(passes.get(key, 0) * tests + (normals if key in passes else 0) for key in keys)


def _ticker(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("rungs", min(done, total), total)

    return tick


class _Judge:
    """Grades a rung's answers, fold by fold put together, on the pictures that are tested."""

    def __init__(self, scene: Scene, is_defect: Bools, tables: Sequence[Bench], plan: InspectPlan) -> None:
        self._place = {int(index): place for place, index in enumerate(scene.test)}
        self._groups = scene.grouping.groups[scene.test]
        self._defect = is_defect[scene.test]
        self._tables = tables
        self._overkill = plan.overkill

    def __call__(self, key: str, answers: Sequence[Answered], seconds: float = 0.0) -> Graded:
        draws = min(len(one.scores) for one in answers)
        scores = np.zeros((draws, len(self._place)))  # (S, m)
        called = np.zeros(len(self._place), np.bool_)
        maps: list[Array] = [np.zeros((0, 0), np.float32)] * len(self._place)
        limits = [limit(one.normals, self._overkill) if len(one.normals) else None for one in answers]
        for bench, one, bound in zip(self._tables, answers, limits, strict=True):
            places = [self._place[int(index)] for index in bench.test]
            scores[:, places] = one.scores[:draws]
            if bound is not None:
                called[places] = one.scores[0] > bound.threshold
            for place, found in zip(places, one.maps, strict=False):
                maps[place] = found
        has_limits = all(bound is not None for bound in limits)
        step = InspectStep(
            key=key,
            good=min(one.good for one in answers),
            defects=min(one.defects for one in answers),
            draws=draws,
            auroc=auroc_of_draws(scores, self._defect, self._groups),
            rates=self._rates(called, [bound for bound in limits if bound is not None]) if has_limits else None,
            pixels=None,
            seconds=seconds,
            ms_per_image=0.0,
            megabytes=max(one.megabytes for one in answers),
        )
        kept = tuple(maps) if all(one.maps for one in answers) else ()
        return Graded(step, scores, called if has_limits else None, tuple(answers), kept)

    def _rates(self, called: Bools, limits: Sequence[Limit]) -> Rates:
        least = min(limits, key=lambda bound: bound.normals)
        good, bad = ~self._defect, self._defect
        return Rates(
            threshold=least.threshold if len(limits) == 1 else None,
            asked=self._overkill,
            smallest=least.smallest,
            is_reachable=least.is_reachable,
            normals=least.normals,
            overkill=accuracy(called[good], self._groups[good]),
            miss=accuracy(~called[bad], self._groups[bad]),
        )
