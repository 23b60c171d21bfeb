"""Rung 7: the eye adapted first. Masked pre-training on the pool's pictures and on those without a label; then the
linear head and the last blocks as on rung 5, on the tower that came out.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022, arXiv:2111.06377). No test picture is
among the pictures, nor a near-copy of one. How far to go with the eye is not chosen: the test says what it is worth.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest, Unsupported
from anmok.ladder.evaluate import Evaluated
from anmok.ladder.tuning.ground import Ground, seen, with_learned
from anmok.ladder.tuning.recipes import FEWEST_PASSES, recipe_of, shortened
from anmok.ladder.tuning.rung import affordable, answered, fitted, unfit
from anmok.ladder.tuning.skipped import Skipped, too_long
from anmok.ladder.tuning.spare import spare_pictures
from anmok.ladder.tuning.timing import TIMED

if TYPE_CHECKING:
    from anmok.nets.change import Change
    from anmok.train.masked import Adapted
    from anmok.train.recipe import Recipe

Array = NDArray[np.float32]

KEY: Final = "7"
_PASSES, _BATCH, _RATE = 20, 16, 1e-4
_STEPS = (60, 800)  # at least, at most


def climb_adapted(ground: Ground, seconds: float) -> Evaluated | Skipped:
    """The rung within ``seconds``, or the reason for leaving it out."""
    reason = unfit(KEY, ground)
    if reason:
        return Skipped(KEY, reason)
    try:
        each = _seconds_each(ground)
    except (Unsupported, BadRequest) as error:  # a convolutional tower, or pictures that do not divide
        return Skipped(KEY, str(error))
    begun = time.perf_counter()
    paths = [*ground.paths, *spare_pictures(ground).paths]
    eye = eye_recipe(len(paths), ground.plan.seed)
    recipe = recipe_of(KEY, len(ground.teaching), ground.plan.seed)
    last = affordable(KEY, ground, recipe, seconds)[1] + len(ground.paths) * ground.price.ms_per_image / 1e3
    steps = int(min(eye.steps, max(0.0, (seconds - last) / (each * eye.batch))))
    if steps < eye.steps and steps * eye.batch < FEWEST_PASSES * len(paths):
        return Skipped(KEY, too_long(last + each * eye.batch * eye.steps))
    adapted = _adapted(ground, paths, shortened(eye, steps) if steps < eye.steps else eye)
    opened = _with_eye(ground, adapted.change)
    tuned = fitted(KEY, opened, recipe)
    whole = together(adapted.change, tuned.change)
    found = answered(
        KEY, replace(opened, model=ground.model), replace(tuned, change=whole), time.perf_counter() - begun
    )
    variant = f"{steps} steps on {len(paths)} pictures without their labels, then {found.step.variant}"
    change = {name: tensor.numpy() for name, tensor in whole.tensors().items()}
    return replace(found, change=change, step=replace(found.step, variant=variant))


def eye_recipe(pictures: int, seed: int) -> Recipe:
    """How long and how fast the eye learns, on so many pictures."""
    from anmok.train.recipe import Recipe

    steps = min(max(pictures * _PASSES // _BATCH, _STEPS[0]), _STEPS[1])
    return Recipe(steps=steps, rate=_RATE, batch=_BATCH, weight_decay=0.05, check_every=steps, seed=seed)


def together(first: Change, second: Change) -> Change:
    """One change that does what the first and then the second do; both add to weights and nothing else."""
    from anmok.nets.change import Change

    dense = dict(first.dense)
    for name, difference in second.dense.items():
        dense[name] = dense[name] + difference if name in dense else difference
    return Change(dense=dense)


def _adapted(ground: Ground, paths: Sequence[Path], recipe: Recipe) -> Adapted:
    from anmok.train.examples import Pictures
    from anmok.train.masked import adapt_eye

    inputs = Pictures(paths, ground.kind.prepare, ground.plan.seed)
    # The file's folder stands for the labelled pictures; how many there are beside them goes into the name.
    path = ground.checkpoints / f"{KEY}-eye-{len(paths)}.safetensors"
    return adapt_eye(ground.kind.trunk(), inputs, recipe, checkpoint=path, report=ground.told("the eye"))


def _with_eye(ground: Ground, change: Change) -> Ground:
    """The same ground under the adapted tower: its features of the pool, and what is made of them."""
    arrays = {name: tensor.numpy() for name, tensor in change.tensors().items()}
    model = with_learned(ground.model, ground.material.classes, ground.linear.head, arrays)
    features = seen(model, ground.paths)  # (n, F)
    return replace(ground, model=model, material=replace(ground.material, features=features, flipped=None))


def _seconds_each(ground: Ground) -> float:
    """Of one picture of the user's through the masked net and back: the second of two rehearsals.

    Raises:
        Unsupported: the tower is no transformer.
        BadRequest: its pictures do not divide into patches.
    """
    from anmok.train.examples import Pictures
    from anmok.train.masked import Masking, masked_loss, masked_net

    trunk = ground.kind.trunk()
    net = masked_net(trunk, Masking(), ground.plan.seed)
    for stage in list(trunk.stages)[:-1]:
        stage.requires_grad_(True)
    pixels = Pictures(ground.paths, ground.kind.prepare)
    rows = np.arange(min(TIMED, len(ground.paths)))
    spent = 0.0
    for turn in range(2):
        begun = time.perf_counter()
        masked_loss(net, pixels.at(rows, turn)).backward()  # type: ignore[no-untyped-call]
        spent = time.perf_counter() - begun
    return spent / len(rows)
