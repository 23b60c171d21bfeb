"""How long a student learns, and how much of it moves: all of it where the time is there, otherwise its last blocks.

One fixed recipe for each, scaled to the number of pictures; nothing is chosen on anybody's data. Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022), go on for hundreds of passes; on a
processor a fraction of that has to do, and the judging pictures end the run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.recipes import FEWEST_PASSES, shortened

if TYPE_CHECKING:
    from anmok.train.opening import How
    from anmok.train.recipe import Recipe

Labels = NDArray[np.int64]
Moved = Literal["full", "last"]

PASSES = 30  # over the teaching pictures, at most
FEWEST_FULL = 4  # passes below which the last blocks alone are the better use of the time
_STEPS = (60, 3000)  # at least, at most
_CHECKS, _PATIENCE = 15, 4
_BATCH: dict[Moved, int] = {"full": 16, "last": 32}
_RATES: dict[Moved, float] = {"full": 3e-4, "last": 5e-4}
_TIMED = 4  # pictures


def how_of(moved: Moved) -> How:
    """What moves. Rates fall towards the input more gently than in fine-tuning: a student has further to go."""
    from anmok.train.opening import How

    return How("full", decay=0.9) if moved == "full" else How("last", last=2)


def recipe_of(moved: Moved, pictures: int, seed: int) -> Recipe:
    """How long and how fast, for so many teaching pictures."""
    from anmok.train.recipe import Recipe

    batch = _BATCH[moved]
    steps = min(max(pictures * PASSES // batch, _STEPS[0]), _STEPS[1])
    return Recipe(
        steps=steps,
        rate=_RATES[moved],
        batch=batch,
        weight_decay=0.05,
        check_every=max(1, steps // _CHECKS),
        patience=_PATIENCE,
        seed=seed,
    )


def choice(ground: Ground, teaching: Labels, seconds: float) -> tuple[How, Recipe] | str:
    """What fits into ``seconds``, or in words how long it would take."""
    needed = 0.0
    ways: tuple[tuple[Moved, int], ...] = (("full", FEWEST_FULL), ("last", FEWEST_PASSES))
    for moved, passes in ways:
        recipe = recipe_of(moved, len(teaching), ground.plan.seed)
        steps, needed = _affordable(moved, ground, len(teaching), recipe, seconds)
        if steps == recipe.steps or steps * recipe.batch >= passes * len(teaching):
            return how_of(moved), recipe if steps == recipe.steps else shortened(recipe, steps)
    unit = f"{needed:.0f} seconds" if needed < 90 else f"{needed / 60:.0f} minutes"
    return f"it would take about {unit}: --budget {max(1, int(needed * 1.3 / 60) + 1)}m"


def _affordable(moved: Moved, ground: Ground, pictures: int, recipe: Recipe, seconds: float) -> tuple[int, float]:
    """Steps that fit, and the seconds for the whole recipe, from one step that is timed."""
    looked = ground.price.ms_per_image / 1e3
    fixed = looked * (len(ground.tested) + len(ground.judging))
    if moved == "last":
        fixed += looked * 2 * (pictures + len(ground.judging))
    per_step = _step_seconds(moved, ground, recipe) * recipe.batch
    per_step += looked * len(ground.judging) / recipe.check_every
    return int(min(recipe.steps, max(0.0, (seconds - fixed) / per_step))), fixed + per_step * recipe.steps


def _step_seconds(moved: Moved, ground: Ground, recipe: Recipe) -> float:
    """Of one picture forwards and backwards: the second of two rehearsals on the user's own pictures."""
    import torch

    from anmok.train.examples import Pictures
    from anmok.train.opening import opened
    from anmok.train.trainer import precision_of

    how: How = how_of(moved)
    trunk: Any = ground.kind.trunk()
    boundary = trunk.boundary(how.last) if how.kind == "last" else 0
    rows = np.arange(min(_TIMED, len(ground.paths)))
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
