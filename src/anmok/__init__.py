"""anmok (안목, "a discerning eye"): image foundation models put to work, measured on your own images.

>>> import anmok
>>> model = anmok.load("mini")
>>> model.classify("cat.jpg", ["cat", "dog"]).label
'cat'
"""

from __future__ import annotations

from anmok.catalogue import Card, card, cards
from anmok.errors import AnmokError
from anmok.geometry import Rle
from anmok.inputs import Clip, Cue, Encoded, Prompted, Text
from anmok.load import Adapter, Model, load
from anmok.results import (
    DepthMap,
    Detections,
    Embedding,
    Failure,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Scores,
    Tracked,
    Tracks,
)
from anmok.tasks import (
    Ask,
    Classify,
    Depth,
    Detect,
    Embed,
    Everything,
    Matting,
    Normals,
    Parse,
    Pose,
    Segment,
    Track,
)

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AnmokError",
    "Ask",
    "Card",
    "Classify",
    "Clip",
    "Cue",
    "Depth",
    "DepthMap",
    "Detect",
    "Detections",
    "Embed",
    "Embedding",
    "Encoded",
    "Everything",
    "Failure",
    "Keypoints",
    "Masks",
    "Matte",
    "Matting",
    "Model",
    "NormalMap",
    "Normals",
    "Parse",
    "PartMap",
    "Pose",
    "Prompted",
    "Rle",
    "Scores",
    "Segment",
    "Text",
    "Track",
    "Tracked",
    "Tracks",
    "card",
    "cards",
    "load",
]
