"""What few labels do to a tuned rung: the same draws as the rungs on kept features, as far as the budget has room.

Only the cheap ones: tuned prompts, and the last blocks where enough images of a class are drawn to learn and to judge
from. Each draw is a run of its own, so there are fewer of them than of a head that takes a second.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anmok.files import remove
from anmok.ladder.evaluate import Evaluated, averaged
from anmok.ladder.tuning.ground import JUDGES, Ground
from anmok.ladder.tuning.prompted import HOLDS
from anmok.ladder.tuning.rung import climb_one
from anmok.ladder.tuning.skipped import Skipped

Labels = NDArray[np.int64]

CURVED: Final = ("3e", "3f", "5")  # the cheapest first
DRAWS: Final = 3  # of those that the other rungs have


def climb_few(
    ground: Ground, supports: Mapping[int, Labels], final: Mapping[str, Evaluated], seconds: float
) -> list[Evaluated]:
    """The rungs of ``final`` that can be had so, at few labels, within ``seconds``.

    Args:
        ground: of the whole pool.
        supports: labels a class -> (draws, images) rows of the pool, as the other rungs had them.
        final: the rungs with all labels. One that was left out there is left out here.
        seconds: none but the last may take more than half of what is left of them.
    """
    keys = [key for key in CURVED if key in final]
    found, left = [], seconds
    for key in keys:
        end = time.perf_counter() + (left if key == keys[-1] else left / 2)
        begun = time.perf_counter()
        for shots, draws in supports.items():
            expected = final[key].step.seconds if key in HOLDS else 0.0
            answers = _at(key, ground, draws[:DRAWS], end, expected)
            if answers:
                found.append(averaged(shots, answers, ground.held))
        left -= time.perf_counter() - begun
    return found


def _at(key: str, ground: Ground, draws: Labels, end: float, expected: float) -> list[Evaluated]:
    """One for each draw (S, images), or none at all: where one is left out, or there is no time for all. ``expected``:
    seconds of the first draw, where the rung does not keep to its time by itself."""
    found: list[Evaluated] = []
    for rows in draws:
        begun, to_come = time.perf_counter(), len(draws) - len(found)
        if begun + expected * to_come > end:
            return []
        drawn = _of_rows(ground, rows)
        if key not in HOLDS and len(np.unique(drawn.material.groups)) < JUDGES:
            return []  # too few groups to keep one from learning
        if ground.plan.is_fresh:
            remove(drawn.checkpoints)  # of a climb that was killed
        one = climb_one(key, drawn, (end - begun) / to_come)
        remove(drawn.checkpoints)
        if isinstance(one, Skipped):
            return []
        found.append(one)
        expected = time.perf_counter() - begun
    return found


def _of_rows(ground: Ground, rows: Labels) -> Ground:
    """As if nothing else of the pool had a label: what teaches and what judges come out of these rows."""
    material, scene = ground.material, ground.scene
    rows = np.sort(rows)
    flipped = None if material.flipped is None else material.flipped[rows]
    drawn = replace(
        material,
        features=material.features[rows],
        labels=material.labels[rows],
        groups=material.groups[rows],
        flipped=flipped,
    )
    # Checkpoints lie by data and split: those of other rows are of another run.
    shown = [scene.looked.facts[i].sha256 for i in scene.pool[rows]]
    split = hashlib.sha256(repr((scene.split_hash, shown)).encode()).hexdigest()[:32]
    return replace(ground, scene=replace(scene, pool=scene.pool[rows], split_hash=split), material=drawn)
