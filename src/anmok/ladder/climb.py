"""The climb: look once, split once, fit on the pool, open the test set once, and say what was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anmok import __version__
from anmok.evidence.intervals import Estimate, accuracy
from anmok.evidence.splits import folds
from anmok.ladder import findings, ledger, verdicts
from anmok.ladder.aside import Asides
from anmok.ladder.beside import Beside
from anmok.ladder.dataset import Dataset
from anmok.ladder.evaluate import Evaluated, Price, cross_fitted
from anmok.ladder.features import grey_features
from anmok.ladder.made import with_made
from anmok.ladder.measure import Measured, Watch, measure, outer_folds
from anmok.ladder.outcome import Leak, Outcome
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene, prepare, told
from anmok.ladder.pricing import Pricing, priced
from anmok.ladder.random_prompts import prompt_controls
from anmok.ladder.rungs.fitting import Material, available
from anmok.ladder.rungs.order import ASKED, CLOSER, MADE, TUNED
from anmok.ladder.small_print import honesty, not_tried
from anmok.ladder.stakes import Resolved, resolved
from anmok.ladder.trusting import trust
from anmok.ladder.tuning.student import KEY as STUDENT
from anmok.ladder.zero_shot import TextSide, random_words, text_side
from anmok.load import Adapter, Model

Progress = Callable[[str, int, int], None]
Labels = NDArray[np.int64]

_DEVELOPMENT_RUNG = "1"  # has nothing costly to choose: what a leak does to a model shows on it as on any


@dataclass(frozen=True, slots=True, eq=False)
class Climbed:
    """The outcome, the recommended rung ready to be written, and who was predicted as what. ``student``: the distilled
    one, recommended or not."""

    outcome: Outcome
    best: Adapter
    scene: Scene
    measured: Measured
    student: Adapter | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """What the test set answered, and how the books stand."""

    measured: Measured
    count: ledger.Count
    stake: Resolved | None


def climb(
    dataset: Dataset,
    model: Model,
    plan: Plan,
    *,
    commands: tuple[str, str] = ("", ""),
    progress: Progress | None = None,
    watch: Watch | None = None,
    beside: Beside | None = None,
) -> Climbed:
    """The whole ladder on labelled images. ``commands``: the one that was typed, and the one that runs the winner.
    ``watch``: is told of rungs as they answer, and may end the climb; the books then say that the test set was opened
    before the first of them is told. ``beside``: further models, where they are loaded already.

    Raises:
        BadData: too few usable images or classes.
        CannotWrite: the cache or the ledger cannot be written.
    """
    start = time.perf_counter()
    look = None if progress is None else lambda done, total: progress("pictures", done, total)
    made = None if progress is None else lambda done, total: progress("made pictures", done, total)
    scene = with_made(prepare(dataset, model, plan, look), model, plan, made)
    stake = None if plan.stakes is None else resolved(plan.stakes, scene)
    text = text_side(model, scene.dataset.classes, plan)
    # Thin matrices: a second BLAS thread costs more in waiting than it brings, and much more on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        planned = tuple(rung.key for rung in text.rungs)
        planned += tuple(
            key
            for key in (*available(text.towers, scene.made is not None), *CLOSER, *ASKED, *TUNED)
            if key in plan.rungs
        )
        count = None if watch is None else _open(scene, model, plan, planned, len(scene.pool), start)
        measured = measure(scene, model, text, plan, progress, watch, beside)
        if count is None:
            count = _open(scene, model, plan, tuple(measured.final), _to_choose(measured), start)
        return _concluded(scene, model, plan, text, _Opened(measured, count, stake), commands, start)


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
    asides = Asides(scene, model, text, plan, measured)
    pricing = None if opened.stake is None else priced(asides, opened.stake)
    judged = verdicts.recommendation(measured, scene, plan, None if pricing is None else pricing.ranking(plan.margin))
    key = judged.recommendation.key
    chosen = measured.final[key]
    trusted = trust(chosen, asides.of(key), scene.held(), measured.material, scene.dataset.classes)
    outcome = replace(
        _outcome(asides, judged, _shown(chosen, pricing, scene), opened.count),
        trust=trusted,
        priced=None if pricing is None else pricing.told(key, judged.by_worth, plan.margin, plan.seed),
        reproduce=commands[0],
        follow_up=commands[1],
        seconds=time.perf_counter() - start,
    )
    best = _adapter(model, scene, text, chosen, plan)
    if pricing is not None:
        rule = pricing.decided[key].rule
        best = replace(best, temperature=rule.temperature, decision=rule.decision)
    elif trusted.calibration is not None:
        best = replace(best, temperature=trusted.calibration.temperature)
    small = measured.final.get(STUDENT)
    student = None if small is None else _adapter(model, scene, text, small, plan)
    return Climbed(outcome, best, scene, measured, student)


def _shown(chosen: Evaluated, pricing: Pricing | None, scene: Scene) -> Evaluated:
    """With the answers that the artefact will give, which are not the likeliest where errors have a price."""
    if pricing is None:
        return chosen
    answers = pricing.decided[chosen.step.key].answers[None]  # (1, m)
    return replace(chosen, predicted=answers, correct=answers == scene.labels[scene.test])


def _outcome(asides: Asides, judged: verdicts.Judged, chosen: Evaluated, count: ledger.Count) -> Outcome:
    """But for how it was asked, and how long it took."""
    scene, model, text, plan, measured = asides.scene, asides.model, asides.text, asides.plan, asides.measured
    held, names = scene.held(), scene.dataset.classes
    controls = findings.controls(
        measured.material,
        held,
        grey_features(model),
        random_words(model, names, plan.seed),
        scene.grouping.leaks.grouped or scene.grouping.leaks.random,
    )
    untried, to_choose = not_tried(plan, text, measured), _to_choose(measured)
    asked = next((one.student for key, one in measured.final.items() if key in ASKED), None)
    return Outcome(
        model=model.card.name,
        model_note=model.card.summary,
        data=told(scene),
        recommendation=judged.recommendation,
        steps=tuple(one.step for one in measured.final.values()),
        curve=tuple(one.step for one in measured.curve),
        comparisons=judged.comparisons,
        controls=controls + prompt_controls(model, names, plan, measured, held),
        leak=_leak(scene, measured),
        per_class=findings.per_class(chosen, held, names, [int(count) for count in np.bincount(scene.labels)]),
        confusions=findings.confusions(chosen, held, scene.test, names),
        suspects=findings.suspects(_DEVELOPMENT_RUNG, measured.material, scene.pool, names),
        duplicates=findings.pairs(scene.grouping.duplicates, scene.labels),
        honesty=honesty(scene, model, untried, to_choose, _development(asides, chosen.step.key), count, asked),
        margin=plan.margin,
        seed=plan.seed,
        plan_hash=plan.digest(scene.data_hash, scene.split_hash),
        reproduce="",
        follow_up="",
        seconds=0.0,
        is_development=scene.is_development,
        version=__version__,
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

    regrouped = replace(material, groups=groups, flipped=None)
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
        made="" if scene.made is None else scene.made.provenance,
        writer="" if plan.written is None else plan.written.writer,
        calls=0 if plan.written is None else plan.written.calls,
        tokens=0 if plan.written is None else plan.written.tokens,
    )
    ledger.record(scene.data_hash, opening)
    return count


def _to_choose(measured: Measured) -> int:
    """Labels of the pool that some choice used."""
    has_chosen = any(one.chosen_from > 1 for one in measured.final.values())
    return len(measured.material.labels) if has_chosen else 0


def _development(asides: Asides, key: str) -> Estimate | None:
    """What cross-validation on the pool alone says of the recommended rung; none of a tuned one, for its time."""
    aside = asides.of(key)
    if asides.scene.is_development or isinstance(aside, str) or aside.source != "cross-fitted":
        return None
    return accuracy(aside.logits.argmax(1) == aside.labels, aside.groups)


def _adapter(model: Model, scene: Scene, text: TextSide, chosen: Evaluated, plan: Plan) -> Adapter:
    """The recommended rung as it is shipped: a zero-shot winner is its labels and prompts."""
    asked = next((rung.ask for rung in text.rungs if rung.key == chosen.step.key), None)
    base = chosen.student or model
    return Adapter(
        base=base.card.name,
        maker=base.maker,
        labels=scene.dataset.classes,
        rung=f"{chosen.step.key} {chosen.step.rung}",
        templates=None if asked is None else asked.templates,
        descriptions=None if asked is None else asked.descriptions,
        head=chosen.head if asked is None else None,
        change=chosen.change,
        licences=_licences(model, scene, chosen),
        ledger={"data": scene.data_hash, "plan": plan.digest(scene.data_hash, scene.split_hash)},
    )


def _licences(model: Model, scene: Scene, chosen: Evaluated) -> dict[str, str]:
    licences = {"weights": model.card.licence.id, "images": scene.dataset.licence}
    if chosen.student is not None:
        licences["weights"] = chosen.student.card.licence.id
        if chosen.step.key not in ASKED:
            licences["teacher"] = model.card.licence.id
    if scene.made is not None and chosen.step.key in MADE:
        licences |= dict(scene.made.licences)
    return licences
