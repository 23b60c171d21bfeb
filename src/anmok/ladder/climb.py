"""The climb: look once, split once, fit on the pool, open the test set once, and say what was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anmok import __version__
from anmok.evidence.splits import folds
from anmok.ladder import findings, ledger, verdicts
from anmok.ladder.dataset import Dataset
from anmok.ladder.evaluate import Evaluated, Price, cross_fitted
from anmok.ladder.features import grey_features
from anmok.ladder.measure import Measured, Watch, measure, outer_folds
from anmok.ladder.outcome import Data, Honesty, Leak, NotTried, Outcome
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene, prepare
from anmok.ladder.rungs.fitting import LEARNED, Material, available
from anmok.ladder.zero_shot import TextSide, random_words, text_side
from anmok.load import Adapter, Model

Progress = Callable[[str, int, int], None]
Labels = NDArray[np.int64]

_DEVELOPMENT_RUNG = "1"  # has nothing costly to choose: what a leak does to a model shows on it as on any


@dataclass(frozen=True, slots=True, eq=False)
class Climbed:
    """The outcome, the recommended rung ready to be written, and who was predicted as what."""

    outcome: Outcome
    best: Adapter
    scene: Scene
    measured: Measured


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """What the test set answered, and how the books stand."""

    measured: Measured
    count: ledger.Count


def climb(
    dataset: Dataset,
    model: Model,
    plan: Plan,
    *,
    commands: tuple[str, str] = ("", ""),
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Climbed:
    """The whole ladder on labelled images. ``commands``: the one that was typed, and the one that runs the winner.
    ``watch``: is told of rungs as they answer, and may end the climb; the books then say that the test set was opened
    before the first of them is told.

    Raises:
        BadData: too few usable images or classes.
        CannotWrite: the cache or the ledger cannot be written.
    """
    start = time.perf_counter()
    look = None if progress is None else lambda done, total: progress("pictures", done, total)
    scene = prepare(dataset, model, plan, look)
    text = text_side(model, scene.dataset.classes, plan)
    # Thin matrices: a second BLAS thread costs more in waiting than it brings, and much more on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        planned = tuple(rung.key for rung in text.rungs) + tuple(k for k in available(text.towers) if k in plan.rungs)
        count = None if watch is None else _open(scene, model, plan, planned, len(scene.pool), start)
        measured = measure(scene, model, text, plan, progress, watch)
        if count is None:
            count = _open(scene, model, plan, tuple(measured.final), _to_choose(measured), start)
        return _concluded(scene, model, plan, text, _Opened(measured, count), commands, start)


def _concluded(
    scene: Scene,
    model: Model,
    plan: Plan,
    text: TextSide,
    opened: _Opened,
    commands: tuple[str, str],
    start: float,
) -> Climbed:
    measured = opened.measured
    leak = _leak(scene, measured)
    recommended = verdicts.recommendation(measured, scene, plan)
    chosen = measured.final[recommended.recommendation.key]
    held = scene.held()
    commonest = scene.dataset.classes
    outcome = Outcome(
        model=model.card.name,
        model_note=model.card.summary,
        data=_data(scene),
        recommendation=recommended.recommendation,
        steps=tuple(one.step for one in measured.final.values()),
        curve=tuple(one.step for one in measured.curve),
        comparisons=recommended.comparisons,
        controls=findings.controls(
            measured.material,
            held,
            grey_features(model),
            random_words(model, commonest, plan.seed),
            scene.grouping.leaks.grouped or scene.grouping.leaks.random,
        ),
        leak=leak,
        per_class=findings.per_class(chosen, held, commonest, [int(count) for count in np.bincount(scene.labels)]),
        confusions=findings.confusions(chosen, held, scene.test, commonest),
        suspects=findings.suspects(_DEVELOPMENT_RUNG, measured.material, scene.pool, commonest),
        duplicates=findings.pairs(scene.grouping.duplicates, scene.labels),
        honesty=_honesty(scene, model, plan, text, measured, chosen, opened.count),
        margin=plan.margin,
        seed=plan.seed,
        plan_hash=plan.digest(scene.data_hash, scene.split_hash),
        reproduce=commands[0],
        follow_up=commands[1],
        seconds=time.perf_counter() - start,
        is_development=scene.is_development,
        version=__version__,
    )
    return Climbed(outcome, _adapter(model, scene, text, chosen, plan), scene, measured)


def _data(scene: Scene) -> Data:
    dataset = scene.dataset
    return Data(
        title=dataset.title,
        names=dataset.names,
        classes=dataset.classes,
        counts=tuple(int(count) for count in np.bincount(scene.labels, minlength=len(dataset.classes))),
        pool=len(scene.pool),
        test=len(scene.test),
        groups=len(np.unique(scene.grouping.groups)),
        grouping=scene.grouping.description,
        licence=dataset.licence,
        data_hash=scene.data_hash,
        warnings=scene.warnings,
    )


def _leak(scene: Scene, measured: Measured) -> Leak | None:
    """What a random split would have claimed, and what survives by groups, on the development pool alone."""
    strongest, scheme = scene.grouping.leaks.strongest, scene.grouping.leaks.recommended
    if strongest is None or scheme is None:
        return None
    after = next((one for one in scene.grouping.leaks.grouped if one.name == strongest.name), strongest)
    by_copies = _cross_validated(scene, measured.material, scene.grouping.copies[scene.pool])
    by_groups = _cross_validated(scene, measured.material, scene.grouping.groups[scene.pool])
    return Leak(
        control=strongest.name,
        control_random=strongest.accuracy,
        control_grouped=after.accuracy,
        majority=strongest.majority,
        scheme=scheme.description_en,
        groups=scheme.n_groups,
        rung=by_groups.step.rung,
        random_split=by_copies.step.accuracy,
        group_split=by_groups.step.accuracy,
    )


def _cross_validated(scene: Scene, material: Material, groups: Labels, key: str = _DEVELOPMENT_RUNG) -> Evaluated:
    from anmok.ladder.evaluate import Held

    regrouped = Material(
        material.features, material.labels, groups, material.classes, material.towers, None, material.seed
    )
    held = Held(material.features, material.labels, groups)
    fold = folds(material.labels, groups, outer_folds(regrouped), material.seed)
    return cross_fitted(key, regrouped, fold, held, Price(0.0, 0.0))


def _open(scene: Scene, model: Model, plan: Plan, rungs: tuple[str, ...], to_choose: int, start: float) -> ledger.Count:
    """The books say so before the verdict does. Development estimates open nothing."""
    if scene.is_development:
        return ledger.Count(0, False)
    digest = plan.digest(scene.data_hash, scene.split_hash)
    count = ledger.count(scene.data_hash, digest)
    opening = ledger.Opening(
        plan=digest,
        model=model.maker,
        split=scene.split_hash,
        labels_train=len(scene.pool),
        labels_test=len(scene.test),
        labels_to_choose=to_choose,
        seconds=round(time.perf_counter() - start, 1),
        rungs=rungs,
        at=ledger.now(),
    )
    ledger.record(scene.data_hash, opening)
    return count


def _to_choose(measured: Measured) -> int:
    """Labels of the pool that some choice used."""
    has_chosen = any(one.chosen_from > 1 for one in measured.final.values())
    return len(measured.material.labels) if has_chosen else 0


def _honesty(
    scene: Scene,
    model: Model,
    plan: Plan,
    text: TextSide,
    measured: Measured,
    chosen: Evaluated,
    count: ledger.Count,
) -> Honesty:
    not_tried = [NotTried(f"rung {key}", "left out by the plan") for key in LEARNED if key not in plan.rungs]
    begun = {*measured.final, *(key for key in LEARNED if key not in available(text.towers))}
    not_tried += [
        NotTried(f"rung {key}", "stopped before it") for key in LEARNED if key in plan.rungs and key not in begun
    ]
    if text.reason:
        not_tried.append(NotTried("zero-shot and rung 3", text.reason))
    elif "0c" not in measured.final:
        not_tried.append(NotTried("rung 0c, own descriptions", "none were given: --descriptions FILE"))
    not_tried.append(NotTried("fine-tuning (LoRA, last blocks, full)", "not in this version"))
    development = None
    if not scene.is_development and chosen.step.key in LEARNED:
        groups = measured.material.groups
        development = _cross_validated(scene, measured.material, groups, chosen.step.key).step.accuracy
    assumptions = (
        "the images to come are like these: same camera, same things, same shares of the classes",
        "the labels are right",
        f"images stand alone but for these groups: {scene.grouping.description}",
    )
    licences = [(model.card.name, model.card.licence.name)]
    if scene.dataset.licence:
        licences.append((scene.dataset.title, scene.dataset.licence))
    return Honesty(
        openings=count.openings,
        is_replay=count.is_replay,
        labels_to_choose=_to_choose(measured),
        development=development,
        not_tried=tuple(not_tried),
        assumptions=assumptions,
        licences=tuple(licences),
    )


def _adapter(model: Model, scene: Scene, text: TextSide, chosen: Evaluated, plan: Plan) -> Adapter:
    """The recommended rung as it is shipped: a zero-shot winner is its labels and prompts."""
    asked = next((rung.ask for rung in text.rungs if rung.key == chosen.step.key), None)
    return Adapter(
        base=model.card.name,
        maker=model.maker,
        labels=scene.dataset.classes,
        rung=f"{chosen.step.key} {chosen.step.rung}",
        templates=None if asked is None else asked.templates,
        descriptions=None if asked is None else asked.descriptions,
        head=chosen.head if asked is None else None,
        licences={"weights": model.card.licence.id, "images": scene.dataset.licence},
        ledger={"data": scene.data_hash, "plan": plan.digest(scene.data_hash, scene.split_hash)},
    )
