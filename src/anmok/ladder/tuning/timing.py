"""How long training takes, from one step of it on the user's own pictures: what a budget has room for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from anmok.ladder.tuning.ground import Ground

if TYPE_CHECKING:
    from anmok.train.opening import How
    from anmok.train.recipe import Recipe

TIMED = 4  # pictures


def within(seconds: float, ground: Ground, how: How, recipe: Recipe, looks: tuple[int, int]) -> tuple[int, float]:
    """Steps that fit into ``seconds``, and the seconds for the whole recipe.

    ``looks``: pictures through the whole tower, once, whatever the steps; and pictures whose activations are kept,
    where only the last blocks move, of which two views are taken.
    """
    looked = ground.price.ms_per_image / 1e3
    whole, kept = looks
    fixed = looked * (whole + (2 * kept if how.kind == "last" else 0))
    per_step = step_seconds(ground, how, recipe) * recipe.batch + looked * len(ground.judging) / recipe.check_every
    return int(min(recipe.steps, max(0.0, (seconds - fixed) / per_step))), fixed + per_step * recipe.steps


def step_seconds(ground: Ground, how: How, recipe: Recipe) -> float:
    """Of one picture forwards and backwards: the second of two rehearsals on the user's own pictures."""
    import torch

    from anmok.train.examples import Pictures
    from anmok.train.opening import opened
    from anmok.train.trainer import precision_of

    trunk = ground.kind.trunk()
    boundary = trunk.boundary(how.last) if how.kind == "last" else 0
    rows = np.arange(min(TIMED, len(ground.paths)))
    pictures = Pictures(ground.paths, ground.kind.prepare)
    x = pictures.at(rows, None)
    with torch.no_grad():
        x = trunk.before(x, boundary)
    opened(trunk, how)
    dtype = precision_of(recipe, torch.device("cpu"))
    spent = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        if boundary == 0:
            pictures.at(rows, 0)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = trunk.train().after(x, boundary).square().mean()
        loss.backward()
        spent = time.perf_counter() - begun
    return spent / len(rows)
