"""One upper rung, from the pool's pictures to answers on the held-out ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import WrongState
from anmok.files import remove
from anmok.ladder.evaluate import Evaluated, tuned_step
from anmok.ladder.rungs.order import RUNGS
from anmok.ladder.tuning.ground import Ground, seen, with_learned
from anmok.ladder.tuning.kept import Kept, Told, place_of, read, write
from anmok.ladder.tuning.prompted import HOLDS, climb_prompt
from anmok.ladder.tuning.recipes import FEWEST_PASSES, how_of, recipe_of, shortened
from anmok.ladder.tuning.skipped import Skipped, too_long
from anmok.ladder.tuning.timing import within
from anmok.load import Head

if TYPE_CHECKING:
    from anmok.train.recipe import Recipe
    from anmok.train.tuning import Lesson, Tuned

Array = NDArray[np.float32]

_SMOOTHED = 50  # images of the rarest class from which labels are smoothed
_SMOOTHING = 0.1


def climb_one(key: str, ground: Ground, seconds: float) -> Evaluated | Skipped:
    """A tuned rung within ``seconds``, or the reason for leaving it out."""
    if key in HOLDS:
        return climb_prompt(key, ground)
    reason = unfit(key, ground)
    if reason:
        return Skipped(key, reason)
    recipe = recipe_of(key, len(ground.teaching), ground.plan.seed)
    place = place_of(key, ground, how_of(key), recipe)
    kept = None if ground.plan.is_fresh else read(place)
    if kept is not None and kept.told.asked >= recipe.steps:
        return _evaluated(key, ground, kept)
    steps, needed = affordable(key, ground, recipe, seconds)
    if kept is not None and kept.told.asked >= steps:  # the time would not reach as far as it did before
        return _evaluated(key, ground, kept)
    if steps * recipe.batch < FEWEST_PASSES * len(ground.teaching) and steps < recipe.steps:
        return Skipped(key, too_long(needed))
    start = time.perf_counter()
    chosen = shortened(recipe, steps) if steps < recipe.steps else recipe
    tuned = fitted(key, ground, chosen)
    made = _kept(ground, tuned, chosen.steps, time.perf_counter() - start)
    write(place, made)
    return _evaluated(key, ground, made)


def answered(key: str, ground: Ground, tuned: Tuned, seconds: float) -> Evaluated:
    """The held-out pictures through the tuned tower, as whoever loads the result will see them."""
    return _evaluated(key, ground, _kept(ground, tuned, len(tuned.curve.losses), seconds))


def _kept(ground: Ground, tuned: Tuned, asked: int, seconds: float) -> Kept:
    change = {name: tensor.numpy() for name, tensor in tuned.change.tensors().items()}
    weight, bias = np.asarray(tuned.weight), np.asarray(tuned.bias)
    model = with_learned(ground.model, ground.material.classes, _head(ground, weight, bias), change)
    logits = _head(ground, weight, bias).logits(seen(model, ground.tested))  # (m, K)
    told = Told(asked, len(tuned.curve.losses), float(tuned.share), len(tuned.judged), seconds)
    return Kept(told, change, weight, bias, logits)


def _head(ground: Ground, weight: Array, bias: Array) -> Head:
    return Head(weight=weight, bias=bias, mean=ground.start.mean, scale=ground.start.scale)


def _evaluated(key: str, ground: Ground, kept: Kept) -> Evaluated:
    """The seconds are those that it took to learn, whenever that was."""
    told, head = kept.told, _head(ground, kept.weight, kept.bias)
    predicted = kept.logits.argmax(1)[None]  # (1, m)
    share = f"{100 * told.share:.0f} % of the way" if told.share else "no step was better"
    nbytes = sum(array.nbytes for array in kept.change.values()) + head.nbytes
    variant, labels = f"{share}, {told.steps} steps", len(ground.paths)
    step = tuned_step(key, variant, (ground.held, ground.price), predicted, told.seconds, (labels, nbytes))
    correct = predicted == ground.held.labels
    change = kept.change if told.share else None
    return Evaluated(step, predicted, correct, kept.logits, head, told.compared, change)


def unfit(key: str, ground: Ground) -> str:
    """Why this rung cannot be climbed here; empty where it can."""
    if not ground.is_tunable:
        return "this model's weights cannot be tuned"
    if ground.scene.is_development:
        return "too few images for a test set of their own"
    if ground.rarest < RUNGS[key].fewest:
        return f"it wants {RUNGS[key].fewest} labelled images of every class to learn from; {ground.rarest} are there"
    if len(ground.judging) < 2 * ground.material.classes:
        return "too few groups of images to keep some for judging"
    return ""


def fitted(key: str, ground: Ground, recipe: Recipe) -> Tuned:
    """The tower and the head, trained as this rung does it."""
    path = ground.checkpoints / f"{key}.safetensors"
    try:
        return _trained(key, ground, recipe, path)
    except WrongState:  # a killed run that was cut short to another number of steps: the machine was as busy as it was
        remove(path)
        return _trained(key, ground, recipe, path)


def _trained(key: str, ground: Ground, recipe: Recipe, path: Path) -> Tuned:
    from anmok.train.tuning import tune

    how = how_of(key)
    trunk = ground.kind.trunk()
    boundary = trunk.boundary(how.last) if how.kind == "last" else 0
    lesson = _lesson(ground, trunk, boundary)
    return tune(trunk, ground.start, lesson, how, recipe, checkpoint=path, report=ground.told(RUNGS[key].name))


def _lesson(ground: Ground, trunk: Any, boundary: int) -> Lesson:
    from anmok.train.examples import Activations, Pictures
    from anmok.train.tuning import Lesson

    seed, prepare = ground.plan.seed, ground.kind.prepare
    inputs: Any = Pictures(ground.paths, prepare, seed)
    if boundary > 0:
        inputs = Activations(trunk, boundary, ground.paths, prepare, seed, ground.told("activations"))
    smoothing = _SMOOTHING if ground.rarest >= _SMOOTHED else 0.0
    return Lesson(inputs, ground.material.labels, ground.teaching, ground.judging, boundary, smoothing)


def affordable(key: str, ground: Ground, recipe: Recipe, seconds: float) -> tuple[int, float]:
    """Steps that fit into ``seconds``, and the seconds for the whole recipe."""
    from anmok.train.tuning import SHARES

    looks = len(ground.tested) + len(SHARES) * len(ground.judging)
    return within(seconds, ground, how_of(key), recipe, (looks, len(ground.paths)))
