"""What the report needs beside the outcome: small pictures, and the table of all predictions."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as pillow

from anmok import media
from anmok.ladder.climb import Climbed
from anmok.ladder.report.facts import SHOWN_PAIRS, SHOWN_SUSPECTS

if TYPE_CHECKING:
    import pyarrow as pa

_SIDE, _QUALITY = 160, 80


def thumbnails(climbed: Climbed) -> dict[int, bytes]:
    """JPEG bytes, at most 160 pixels a side, of the images that the page shows."""
    outcome = climbed.outcome
    wanted = {index for confusion in outcome.confusions for index in confusion.examples}
    wanted |= {suspect.index for suspect in outcome.suspects[:SHOWN_SUSPECTS]}
    wanted |= {index for pair in outcome.duplicates[:SHOWN_PAIRS] for index in (pair.first, pair.second)}
    return {index: thumbnail(media.read(climbed.scene.dataset.paths[index])) for index in sorted(wanted)}


def predictions(climbed: Climbed) -> pa.Table:
    """One row per held-out image and rung with all labels, and per draw at few labels: all that is needed to compute
    every figure of the report again. Columns: image, label, group, rung, shots (0: none, -1: all), draw, pred."""
    import pyarrow as pa

    scene, measured = climbed.scene, climbed.measured
    names, classes = np.asarray(scene.dataset.names, object), np.asarray(scene.dataset.classes, object)
    held = scene.held()
    every = [*measured.final.values(), *measured.curve]
    parts = [(one.step, draw, row) for one in every for draw, row in enumerate(one.predicted)]
    size = len(scene.test)
    shots = [-1 if step.shots is None else step.shots for step, _, _ in parts]
    return pa.table(
        {
            "image": pa.array(np.tile(names[scene.test], len(parts))).dictionary_encode(),
            "label": pa.array(np.tile(classes[held.labels], len(parts))).dictionary_encode(),
            "group": np.tile(held.groups, len(parts)).astype(np.int32),
            "rung": pa.array(np.repeat([step.key for step, _, _ in parts], size)).dictionary_encode(),
            "shots": np.repeat(np.asarray(shots, np.int32), size),
            "draw": np.repeat(np.asarray([draw for _, draw, _ in parts], np.int32), size),
            "pred": pa.array(classes[np.concatenate([row for _, _, row in parts])]).dictionary_encode(),
        }
    )


def thumbnail(image: media.Image) -> bytes:
    """JPEG bytes, at most 160 pixels a side."""
    picture = pillow.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
