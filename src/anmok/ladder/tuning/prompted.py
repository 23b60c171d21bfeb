"""Prompt tuning as a rung: the words before the class names are learned from the pool's cached features."""

from __future__ import annotations

import time

import numpy as np

from anmok import words
from anmok.errors import BadRequest, Unsupported, Untranslatable
from anmok.ladder.evaluate import Evaluated, tuned_step
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.skipped import Skipped

# CoOp's penalty, and KgCoOp's: its 8 at one image a class, and less where more images speak against it.
HOLDS = {"3e": 0.0, "3f": 8.0}
_MOST_SHOTS = 16


def climb_prompt(key: str, ground: Ground) -> Evaluated | Skipped:
    """The context learned on all labels of the pool, or why none could be."""
    from anmok.train.prompts import Recipe, soft_towers, tune

    start = time.perf_counter()
    towers, material = ground.material.towers, ground.material
    try:
        soft = soft_towers(ground.model)
        names = words.english(ground.scene.dataset.classes, ground.model.card.languages)
    except (Unsupported, Untranslatable) as error:
        return Skipped(key, str(error))
    assert towers is not None
    shots = min(len(material.labels) / material.classes, _MOST_SHOTS)
    recipe = Recipe(hold=HOLDS[key] / shots, seed=ground.plan.seed)
    try:
        prompt = tune(soft, names, material.features, material.labels, towers.texts, recipe).prompt
    except BadRequest as error:  # names so long that no context has room beside them
        return Skipped(key, str(error))
    logits = prompt.logits(ground.held.features)  # (m, K)
    predicted = logits.argmax(1)[None]  # (1, m)
    seconds = time.perf_counter() - start
    variant = f"{recipe.words!r}, {recipe.steps} steps"
    step = tuned_step(key, variant, (ground.held, ground.price), predicted, seconds, (len(ground.paths), prompt.nbytes))
    return Evaluated(step, predicted, np.asarray(predicted == ground.held.labels), logits, prompt, 1)
