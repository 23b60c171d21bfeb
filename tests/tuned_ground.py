"""What a rung that fine-tunes stands on: coloured pictures, a toy model's features of them, and their split."""

from __future__ import annotations

from pathlib import Path

import pytest

from anmok.ladder import Plan
from anmok.ladder.dataset import read
from anmok.ladder.evaluate import Price
from anmok.ladder.prepare import prepare
from anmok.ladder.rungs.fitting import Material
from anmok.ladder.tuning.ground import Ground
from anmok.load import tiny
from test_ladder import write


def ground_of(folder: Path, plan: Plan) -> Ground:
    """Of 35 pictures a class, looked at with a cache of their own."""
    photos, model = write(folder / "photos", 35, 40, seed=0), tiny(plan.model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANMOK_CACHE", str(folder / "cache"))
        scene = prepare(read(photos), model, plan)
    pool = scene.pool
    material = Material(scene.looked.features[pool], scene.labels[pool], scene.grouping.groups[pool], 3, None)
    return Ground(model, scene, material, scene.held(), Price(1.0, 1.0), plan)
