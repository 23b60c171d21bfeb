"""Every rung on the held-out images: the one opening of the test set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.evidence.draws import support_draws
from anmok.evidence.splits import folds
from anmok.ladder.evaluate import Evaluated, Price, cross_fitted, fixed, learned
from anmok.ladder.features import look
from anmok.ladder.outcome import Step
from anmok.ladder.plan import Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import Material, available
from anmok.ladder.zero_shot import TextSide
from anmok.load import Model
from anmok.tasks import Embed

Labels = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

FLIP_LIMIT = 1000  # images of the pool up to which their mirror images are looked at for rung 3
OUTER_FOLDS = 5
_TIMED, _TIMED_SIDE = 7, 512


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody looks on. ``arrived`` is told each rung with all labels as soon as it has answered; where
    ``is_enough`` says so, no further rung is begun."""

    arrived: Callable[[Step], None]
    is_enough: Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """``final`` holds every rung with all labels, from the cheapest up; ``curve`` the learned ones at few labels."""

    material: Material
    final: Mapping[str, Evaluated]
    curve: tuple[Evaluated, ...]


def measure(
    scene: Scene,
    model: Model,
    text: TextSide,
    plan: Plan,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Measured:
    """Fits on the pool alone; each rung answers on the held-out images once. Whoever hands in a ``watch`` has recorded
    that the test set is opened."""
    held = scene.held()
    price = price_of(model, scene)
    keys = [key for key in available(text.towers) if key in plan.rungs]
    material = _material(scene, model, text, plan, "3" in keys)
    final: dict[str, Evaluated] = {}
    for rung in text.rungs:
        final[rung.key] = fixed(rung.key, rung.rung, rung.logits(held.features), rung.head, held, price)
        _tell(watch, final[rung.key])
    curve: list[Evaluated] = []
    supports = {} if scene.is_development else _supports(material, plan)
    total, done = len(keys) * (len(supports) + 1), 0
    for key in keys:
        if watch is not None and final and watch.is_enough():
            break
        for shots, draws in supports.items():
            curve.append(learned(key, shots, material, list(draws), held, price))
            done = _report(progress, done, total)
        if scene.is_development:
            fold = folds(material.labels, material.groups, outer_folds(material), plan.seed)
            final[key] = cross_fitted(key, material, fold, held, price)
        else:
            final[key] = learned(key, None, material, [np.arange(len(material.labels))], held, price)
        _tell(watch, final[key])
        done = _report(progress, done, total)
    return Measured(material, final, tuple(curve))


def _tell(watch: Watch | None, found: Evaluated) -> None:
    if watch is not None:
        watch.arrived(found.step)


def price_of(model: Model, scene: Scene) -> Price:
    """The median time of one decoded picture of the user's, and the size of the model."""
    image = media.read(scene.dataset.paths[0])
    image = image[:_TIMED_SIDE, :_TIMED_SIDE]
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        model.run([image], Embed(space="features"))
        times.append(time.perf_counter() - start)
    return Price(float(np.median(times[1:])) * 1e3, model.memory_bytes / 1e6)


def outer_folds(material: Material) -> int:
    """Five, or as many as there are groups."""
    return max(2, min(OUTER_FOLDS, len(np.unique(material.groups))))


def _material(scene: Scene, model: Model, text: TextSide, plan: Plan, is_tuned: bool) -> Material:
    pool = scene.pool
    flipped = None
    if is_tuned and len(pool) <= FLIP_LIMIT:
        flipped = look([scene.dataset.paths[i] for i in pool], model, view="flip").features
    return Material(
        features=scene.looked.features[pool],
        labels=scene.labels[pool],
        groups=scene.grouping.groups[pool],
        classes=len(scene.dataset.classes),
        towers=text.towers,
        flipped=flipped,
        seed=plan.seed,
    )


def _supports(material: Material, plan: Plan) -> dict[int, Labels]:
    """Nested draws, for as many shots as the classes have images beyond."""
    commonest = int(np.bincount(material.labels).max())
    shots = [n for n in plan.shots if n < commonest]
    if not shots:
        return {}
    found = support_draws(material.labels, shots, plan.draws, seed=plan.seed, groups=material.groups)
    return {n: rows.astype(np.int64) for n, rows in found.items()}


def _report(progress: Progress | None, done: int, total: int) -> int:
    if progress is not None:
        progress("rungs", done + 1, total)
    return done + 1
