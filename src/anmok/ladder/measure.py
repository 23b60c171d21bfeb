"""Every rung on the held-out images: the one opening of the test set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.evidence.draws import support_draws
from anmok.evidence.splits import folds
from anmok.files import remove
from anmok.ladder import tiling
from anmok.ladder.asking.rung import SHARE, climb_asked, opened
from anmok.ladder.beside import Beside
from anmok.ladder.evaluate import Evaluated, Held, Price, cross_fitted, fixed, learned
from anmok.ladder.features import look
from anmok.ladder.outcome import Step
from anmok.ladder.plan import DEFAULT_BUDGET, Plan
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import Material, available
from anmok.ladder.rungs.order import ASKED, CLOSER, TUNED
from anmok.ladder.tally import Tally
from anmok.ladder.tiling import Closer
from anmok.ladder.tuning.adapted import KEY as ADAPTED
from anmok.ladder.tuning.adapted import climb_adapted
from anmok.ladder.tuning.few import climb_few
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.rung import climb_one
from anmok.ladder.tuning.skipped import Skipped
from anmok.ladder.tuning.student import KEY as STUDENT
from anmok.ladder.tuning.student import climb_student
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
    skipped: tuple[Skipped, ...] = ()
    closer: Closer | None = None  # what rung T saw

    def material_of(self, key: str) -> Material:
        """What the rung learned from."""
        return self.closer.material if key in CLOSER and self.closer is not None else self.material


def measure(
    scene: Scene,
    model: Model,
    text: TextSide,
    plan: Plan,
    progress: Progress | None = None,
    watch: Watch | None = None,
    beside: Beside | None = None,
) -> Measured:
    """Fits on the pool alone; each rung answers on the held-out images once. Whoever hands in a ``watch`` has recorded
    that the test set is opened."""
    held = scene.held()
    price = price_of(model, scene)
    keys = [key for key in available(text.towers) if key in plan.rungs]
    material = _material(scene, model, text, plan, any(key.startswith("3") for key in keys))
    final: dict[str, Evaluated] = {}
    for rung in text.rungs:
        final[rung.key] = fixed(rung.key, rung.rung, rung.logits(held.features), rung.head, held, price, rung.variant)
        _tell(watch, final[rung.key])
    curve: list[Evaluated] = []
    supports = {} if scene.is_development else _supports(material, plan)
    tally = Tally.of(progress, plan, len(keys), len(supports))
    beside = beside or Beside()
    ground = Ground(model, scene, material, held, price, plan, progress, beside.student)
    if plan.is_fresh:
        remove(ground.checkpoints)  # of a climb that was killed
    _on_features(ground, keys, supports, final, curve, watch, tally)
    end = time.perf_counter() + plan.budget
    closer = _tiled(ground, supports, final, curve, watch, tally)
    skipped = _asked(ground, beside, final, watch, end - time.perf_counter(), tally)
    skipped += _tuned(ground, final, watch, end - time.perf_counter(), tally)
    curve += _few_labels(ground, supports, final, watch, end - time.perf_counter(), tally)
    remove(ground.checkpoints)
    tally.compares()
    if isinstance(closer, Closer):
        return Measured(material, final, tuple(curve), skipped, closer)
    return Measured(material, final, tuple(curve), skipped if closer is None else (closer, *skipped))


def _on_features(
    ground: Ground,
    keys: Sequence[str],
    supports: Mapping[int, Labels],
    final: dict[str, Evaluated],
    curve: list[Evaluated],
    watch: Watch | None,
    tally: Tally,
) -> None:
    """The rungs on kept features, at few labels and with all; adds to ``final`` and ``curve``."""
    material, held, price = ground.material, ground.held, ground.price
    for key in keys:
        if watch is not None and final and watch.is_enough():
            return
        for shots, draws in supports.items():
            tally.begins(key)
            curve.append(learned(key, shots, material, list(draws), held, price))
            tally.ends()
        tally.begins(key)
        if ground.scene.is_development:
            fold = folds(material.labels, material.groups, outer_folds(material), material.seed)
            final[key] = cross_fitted(key, material, fold, held, price)
        else:
            final[key] = learned(key, None, material, [np.arange(len(material.labels))], held, price)
        tally.ends()
        _tell(watch, final[key])
    if (
        material.made is not None
        and "R" in ground.plan.rungs
        and not (watch is not None and final and watch.is_enough())
    ):
        tally.begins("R")
        final["R"] = _with_made(ground.scene, material, held, price)
        tally.ends()
        _tell(watch, final["R"])


def _tiled(
    ground: Ground,
    supports: Mapping[int, Labels],
    final: dict[str, Evaluated],
    curve: list[Evaluated],
    watch: Watch | None,
    tally: Tally,
) -> Closer | Skipped | None:
    """The rung that looks at tiles, where the photos are large enough; adds to ``final`` and ``curve``."""
    if tiling.KEY not in ground.plan.rungs or (watch is not None and final and watch.is_enough()):
        return None
    tally.begins(tiling.KEY)
    closer = tiling.look_closer(ground, ground.plan.budget)
    tally.ends()
    if isinstance(closer, Skipped):
        return closer
    curve += [closer.answered(shots, list(draws)) for shots, draws in supports.items()]
    if ground.scene.is_development:
        final[tiling.KEY] = closer.cross_fitted(outer_folds(closer.material))
    else:
        final[tiling.KEY] = closer.answered(None, [np.arange(len(closer.material.labels))])
    _tell(watch, final[tiling.KEY])
    return closer


def _with_made(scene: Scene, material: Material, held: Held, price: Price) -> Evaluated:
    """Real and made pictures together, on all labels of the pool."""
    if scene.is_development:
        fold = folds(material.labels, material.groups, outer_folds(material), material.seed)
        return cross_fitted("R", material, fold, held, price)
    return learned("R", None, material, [np.arange(len(material.labels))], held, price)


def _tuned(
    ground: Ground, final: dict[str, Evaluated], watch: Watch | None, left: float, tally: Tally
) -> tuple[Skipped, ...]:
    """The rungs that tune the tower, as many as ``left`` seconds have room for; adds to ``final``. None but the last
    may take more than half of what is left, so that the others have their turn."""
    skipped = []
    keys = [key for key in TUNED if key in ground.plan.rungs]
    for key in keys:
        if watch is not None and final and watch.is_enough():
            break
        start, room = time.perf_counter(), left if key == keys[-1] else left / 2
        tally.begins(key)
        if key == STUDENT:
            found = climb_student(ground, final, room, price_of)
        else:
            found = climb_adapted(ground, room) if key == ADAPTED else climb_one(key, ground, room)
        tally.ends()
        left -= time.perf_counter() - start
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            final[key] = found
            _tell(watch, found)
    return tuple(skipped)


def _few_labels(
    ground: Ground,
    supports: Mapping[int, Labels],
    final: Mapping[str, Evaluated],
    watch: Watch | None,
    left: float,
    tally: Tally,
) -> list[Evaluated]:
    """The tuned rungs at few labels: only where somebody asked for more time than the usual."""
    if ground.plan.budget <= DEFAULT_BUDGET or not supports or (watch is not None and final and watch.is_enough()):
        return []
    tally.begins_few()
    found = climb_few(ground, supports, final, left)
    tally.ends()
    return found


def _asked(
    ground: Ground, beside: Beside, final: dict[str, Evaluated], watch: Watch | None, left: float, tally: Tally
) -> tuple[Skipped, ...]:
    """The rungs that ask a vision-language model; adds to ``final``."""
    keys = [key for key in ASKED if key in ground.plan.rungs]
    if not keys or (watch is not None and final and watch.is_enough()):
        return ()
    model = opened(ground.plan, beside)
    if isinstance(model, str):
        return tuple(Skipped(key, model) for key in keys)
    skipped = []
    for key in keys:
        start = time.perf_counter()
        tally.begins(key)
        found = climb_asked(key, ground, model, left * SHARE, outer_folds(ground.material))
        tally.ends()
        left -= time.perf_counter() - start
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            final[key] = found
            _tell(watch, found)
    return tuple(skipped)


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
        made=None if scene.made is None else scene.made.extra,
    )


def _supports(material: Material, plan: Plan) -> dict[int, Labels]:
    """Nested draws, for as many shots as the classes have images beyond."""
    commonest = int(np.bincount(material.labels).max())
    shots = [n for n in plan.shots if n < commonest]
    if not shots:
        return {}
    found = support_draws(material.labels, shots, plan.draws, seed=plan.seed, groups=material.groups)
    return {n: rows.astype(np.int64) for n, rows in found.items()}
