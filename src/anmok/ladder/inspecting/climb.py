"""The climb over parts: look once, seal once, remember the pool's good pictures, open the test set once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anmok import __version__
from anmok.errors import BadData
from anmok.ladder import ledger
from anmok.ladder.inspecting.banking import Recipe, banked, copies, readable
from anmok.ladder.inspecting.measure import Graded, Measured, measure
from anmok.ladder.inspecting.outcome import InspectHonesty, InspectOutcome
from anmok.ladder.inspecting.parts import Parts
from anmok.ladder.inspecting.pixels import pixel_figures
from anmok.ladder.inspecting.plan import InspectPlan
from anmok.ladder.inspecting.rungs import Bench
from anmok.ladder.inspecting.sight import Sight, see
from anmok.ladder.inspecting.verdicts import advice, kinds, shown
from anmok.ladder.outcome import Data, NotTried
from anmok.ladder.prepare import Scene, digest, prepare, told
from anmok.load import Bank, Model

Bools = NDArray[np.bool_]
Progress = Callable[[str, int, int], None]

_ASSUMPTIONS = (
    "the pictures to come are like these: same camera, same light, same things",
    "the pictures in the folder of good ones are good",
    "the defects to come are like those that were tested; a kind that nobody showed is not promised to be found",
)


@dataclass(frozen=True, slots=True, eq=False)
class Inspected:
    """The outcome, the memory ready to be written, and the pictures behind the figures. ``graded`` and ``scene`` are
    ``None`` where there was nothing to test on."""

    outcome: InspectOutcome
    best: Bank
    sight: Sight
    parts: Parts
    graded: Graded | None = None  # of the rung whose maps the report shows
    scene: Scene | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What a climb was given, and what it saw."""

    parts: Parts
    model: Model
    plan: InspectPlan
    sight: Sight
    commands: tuple[str, str]
    start: float


def climb_parts(
    parts: Parts,
    model: Model,
    plan: InspectPlan,
    *,
    commands: tuple[str, str] = ("", ""),
    progress: Progress | None = None,
) -> Inspected:
    """The whole anomaly ladder; of good pictures alone a memory and its threshold, with no claim about defects.
    ``commands``: the one that was typed, and the one that runs the winner.

    Raises:
        BadData: too few usable pictures.
        Unsupported: a model that shows no patches.
        CannotWrite: the cache or the ledger cannot be written.
    """
    start = time.perf_counter()
    if not parts.has_defects:
        return _remembered(parts, model, plan, commands, progress)
    looked = None if progress is None else lambda done, total: progress("pictures", done, total)
    scene = prepare(parts.dataset, model, plan.split(), looked)
    known = replace(parts, dataset=scene.dataset, masks=parts.masks_of(scene.dataset))
    is_defect = known.is_defect
    _check(scene, is_defect, known.good)
    # Thin matrices: a second BLAS thread costs more in waiting than it brings.
    with threadpool_limits(1, user_api="blas"):
        sight = see(scene.dataset.paths, model, plan.size, plan.thing, progress)
        measured = measure(scene, sight, is_defect, plan, progress)
        count = _open(scene, model, plan, measured, time.perf_counter() - start)
        measured = _finished(measured, scene, known, plan)
        return _concluded(_Run(known, model, plan, sight, commands, start), scene, measured, count)


def _check(scene: Scene, is_defect: Bools, good: str) -> None:
    if good not in scene.dataset.classes:
        raise BadData(f"{scene.dataset.title}: not one picture in {good}/ can be used")
    for name, rows in (("pool", scene.pool), ("test set", scene.test)):
        if is_defect[rows].all() or (name == "test set" and not is_defect[rows].any()):
            raise BadData(
                f"{scene.dataset.title}: the {name} holds good pictures or defects only, so nothing can be told; "
                "add pictures, or give your own split as train/good and test/<kind>"
            )


def _open(scene: Scene, model: Model, plan: InspectPlan, measured: Measured, seconds: float) -> ledger.Count:
    """The books say so before the verdict does. Development estimates open nothing."""
    if scene.is_development:
        return ledger.Count(0, False)
    key = plan.digest(scene.data_hash, scene.split_hash)
    count = ledger.count(scene.data_hash, key)
    opening = ledger.Opening(
        plan=key,
        model=model.maker,
        split=scene.split_hash,
        labels_train=len(scene.pool),
        labels_test=len(scene.test),
        labels_to_choose=0,
        seconds=round(seconds, 1),
        rungs=tuple(measured.final),
        at=ledger.now(),
    )
    ledger.record(scene.data_hash, opening)
    return count


def _finished(measured: Measured, scene: Scene, parts: Parts, plan: InspectPlan) -> Measured:
    """With what the rungs cost a picture, and how well their maps show the marked flaws."""
    masks = [parts.masks[i] for i in scene.test]
    is_defect, groups = parts.is_defect[scene.test], scene.grouping.groups[scene.test]
    canvas = measured.benches[0].sight.model.card.pixels.size
    final = {}
    for key, one in measured.final.items():
        figures = None
        if one.maps:
            figures = pixel_figures(one.maps, masks, is_defect, groups, canvas=canvas, seed=plan.seed)
        step = replace(one.step, pixels=figures, ms_per_image=_price(one, measured.benches))
        final[key] = replace(one, step=step)
    return replace(measured, final=final)


def _price(one: Graded, benches: Sequence[Bench]) -> float:
    """Milliseconds of a picture: the net, and where there is a memory the median of three looks into it."""
    sight, memory = benches[0].sight, one.answers[0].memory
    times = [0.0]
    if memory is not None:
        times = []
        for index in benches[0].test[:3]:
            rows = sight.rows(int(index))
            began = time.perf_counter()
            memory.judge(rows)
            times.append(time.perf_counter() - began)
    return sight.ms_per_image + float(np.median(times)) * 1e3


def _concluded(run: _Run, scene: Scene, measured: Measured, count: ledger.Count) -> Inspected:
    parts, plan, sight = run.parts, run.plan, run.sight
    found = advice(measured, scene, parts.is_defect, plan)
    kept = found.advice.remembered
    key = plan.digest(scene.data_hash, scene.split_hash)
    good = np.flatnonzero(~parts.is_defect)
    ledger_of = {"rung": kept, "plan": key}
    bank = banked(run.model, sight, good, scene.grouping.groups, _recipe(kept, plan), ledger_of)
    chosen = measured.final[found.advice.key]
    mapped = measured.final.get(kept, chosen)
    plain = _untested(run, told(scene), bank, _honesty(parts, scene, run.model, measured, count))
    turned = measured.final["A2"].answers if "A2" in measured.final else ()
    outcome = replace(
        plain,
        advice=found.advice,
        steps=tuple(one.step for one in measured.final.values()),
        curve=tuple(one.step for one in measured.curve),
        comparisons=found.comparisons,
        kinds=kinds(chosen, scene, parts),
        shown=shown(mapped, scene, parts),
        has_ground=any(one.memory is not None and one.memory.foreground is not None for one in turned),
        plan_hash=key,
        is_development=scene.is_development,
    )
    return Inspected(outcome, bank, sight, parts, mapped, scene)


def _untested(run: _Run, data: Data, bank: Bank, honesty: InspectHonesty) -> InspectOutcome:
    """The outcome without anything that a test could show."""
    grid = run.sight.patches[0].shape
    return InspectOutcome(
        model=run.model.card.name,
        model_note=run.model.card.summary,
        thing=run.plan.thing,
        good=run.parts.good,
        data=data,
        advice=None,
        steps=(),
        curve=(),
        comparisons=(),
        kinds=(),
        shown=(),
        limit=bank.limit,
        honesty=honesty,
        margin=run.plan.margin,
        overkill=run.plan.overkill,
        seed=run.plan.seed,
        size=bank.size,
        grid=(grid[0], grid[1]),
        has_ground=False,
        plan_hash="",
        reproduce=run.commands[0],
        follow_up=run.commands[1],
        seconds=time.perf_counter() - run.start,
        is_development=True,
        version=__version__,
    )


def _recipe(rung: str, plan: InspectPlan) -> Recipe:
    return Recipe("coreset" if rung == "P" else "nearest", rung == "A2", plan.overkill, plan.seed)


def _honesty(parts: Parts, scene: Scene, model: Model, measured: Measured, count: ledger.Count) -> InspectHonesty:
    tested = max(len(np.unique(scene.grouping.groups[scene.test][parts.is_defect[scene.test]])), 1)
    not_tried = [NotTried(f"rung {key}", why) for key, why in measured.why_not.items()]
    not_tried.append(NotTried("nets trained for inspection (EfficientAD and others)", "not in this version"))
    return InspectHonesty(
        openings=count.openings,
        is_replay=count.is_replay,
        not_tried=tuple(not_tried),
        assumptions=(*_ASSUMPTIONS, f"pictures stand alone but for these groups: {scene.grouping.description}"),
        licences=((model.card.name, model.card.licence.name),),
        surest_miss=1 - 0.05 ** (1 / tested),
    )


def _remembered(
    parts: Parts, model: Model, plan: InspectPlan, commands: tuple[str, str], progress: Progress | None
) -> Inspected:
    """Good pictures alone: the cheapest rung of memory, its threshold, and no claim."""
    start = time.perf_counter()
    looked = readable(parts.dataset.paths, model)
    warnings = [f"{len(looked.failures)} images cannot be read and are left out"] if looked.failures else []
    dataset = parts.dataset.keep(looked.indices, warnings)
    groups = copies(looked)
    known = replace(parts, dataset=dataset, masks=parts.masks_of(dataset))
    count = len(dataset.paths)
    with threadpool_limits(1, user_api="blas"):
        sight = see(dataset.paths, model, plan.size, plan.thing, progress)
        bank = banked(model, sight, np.arange(count), groups, _recipe("A1", plan), {"rung": "A1"})
    data = Data(
        title=dataset.title,
        names=dataset.names,
        classes=dataset.classes,
        counts=(count,),
        pool=count,
        test=0,
        groups=len(np.unique(groups)),
        grouping="near-duplicates",
        licence=dataset.licence,
        data_hash=digest([facts.sha256 for facts in looked.facts], []),
        warnings=dataset.warnings,
    )
    no_test = NotTried("every rung", "there are no defects to test on: add a folder of them for AUROC and miss rate")
    honesty = InspectHonesty(0, False, (no_test,), _ASSUMPTIONS, ((model.card.name, model.card.licence.name),), 1.0)
    outcome = _untested(_Run(known, model, plan, sight, commands, start), data, bank, honesty)
    return Inspected(outcome, bank, sight, known)
