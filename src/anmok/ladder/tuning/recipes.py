"""One fixed recipe for each rung, scaled to the number of pictures; nothing is searched for on the user's data.

Sizes are those usual for few pictures: CLIP-LoRA (Zanella and Ben Ayed, CVPR 2024 workshops) for a small rank; Kumar
et al. (ICLR 2022) for beginning with the head; BEiT (Bao et al., ICLR 2022) for rates that fall towards the input. The
learning rate of the last blocks is the best of three (1e-4, 3e-4, 1e-3) on the judging pictures of the solar cells'
pool, with `mini`; the others were set by hand and tried nowhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anmok.train.opening import How
    from anmok.train.recipe import Recipe

_PASSES = {"5": 12, "7": 12}  # over the teaching pictures, at most; through the whole tower, fewer
_PASSES_THROUGH = 8
FEWEST_PASSES = 2  # below, a run is not begun
_STEPS = (60, 600)  # at least, at most
_CHECKS, _PATIENCE = 12, 3
_BATCH = {"5": 32, "7": 32}  # of activations; pictures go through the whole tower by 16
_RATES = {"4": 3e-4, "4a": 3e-4, "4b": 3e-4, "5": 3e-4, "6": 1e-4, "7": 3e-4}


def how_of(key: str) -> How:
    """What moves on this rung."""
    from anmok.train.opening import How

    ways = {
        "4": How("lora", rank=4, strength=4.0, dropout=0.0),
        "4a": How("dora", rank=4, strength=4.0, dropout=0.0),
        "4b": How("bottleneck", narrow=32),
        "5": How("last", last=2),
        "6": How("full"),
        "7": How("last", last=2),
    }
    return ways[key]


def recipe_of(key: str, pictures: int, seed: int) -> Recipe:
    """How long and how fast, for so many teaching pictures."""
    from anmok.train.recipe import Recipe

    batch = _BATCH.get(key, 16)
    steps = min(max(pictures * _PASSES.get(key, _PASSES_THROUGH) // batch, _STEPS[0]), _STEPS[1])
    return Recipe(
        steps=steps,
        rate=_RATES[key],
        batch=batch,
        weight_decay=0.05 if key in ("5", "6", "7") else 0.01,
        check_every=max(1, steps // _CHECKS),
        patience=_PATIENCE,
        seed=seed,
    )


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """The same with fewer steps, warm-up and cosine in proportion."""
    return replace(recipe, steps=steps, check_every=max(1, steps // _CHECKS))
