"""The pictures of the folder without a label, as far as anything may be learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok.ladder.features import look
from anmok.ladder.grouping import near_copies
from anmok.ladder.tuning.ground import Ground


@dataclass(frozen=True, slots=True, eq=False)
class Spare:
    """Where they lie, and their features (s, F) by the ladder's own model."""

    paths: Sequence[Path]
    features: NDArray[np.float32]


def spare_pictures(ground: Ground) -> Spare:
    """All but those that cannot be read and near-copies of test pictures."""
    scene, offered = ground.scene, ground.scene.dataset.spare
    if offered:
        found = look(offered, ground.model, progress=ground.told("pictures without a label"))
        if len(found.indices):
            fresh = np.flatnonzero(~near_copies(scene.looked, scene.test, found))
            return Spare([offered[int(found.indices[i])] for i in fresh], found.features[fresh])
    return Spare((), np.zeros((0, ground.material.features.shape[1]), np.float32))
