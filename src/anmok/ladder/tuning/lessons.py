"""How long a student learns, and how much of it moves: all of it where the time is there, otherwise its last blocks.

One fixed recipe for each, scaled to the number of pictures; nothing is chosen on anybody's data. Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022), go on for hundreds of passes; on a
processor a fraction of that has to do, and the judging pictures end the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.recipes import FEWEST_PASSES, shortened
from anmok.ladder.tuning.skipped import too_long
from anmok.ladder.tuning.timing import within

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
        looks = (len(ground.tested) + len(ground.judging), len(teaching) + len(ground.judging))
        steps, needed = within(seconds, ground, how_of(moved), recipe, looks)
        if steps == recipe.steps or steps * recipe.batch >= passes * len(teaching):
            return how_of(moved), recipe if steps == recipe.steps else shortened(recipe, steps)
    return too_long(needed)
