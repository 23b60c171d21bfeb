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
from anmok.inputs import Clip, Conversation, Cue, Encoded, Prompted, Sound, Text, Turn
from anmok.load import Adapter, Model, load
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Embedding,
    Failure,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Piece,
    Points,
    Reply,
    Scores,
    Tracked,
    Tracks,
)
from anmok.tasks import (
    Ask,
    Chat,
    Classify,
    Depth,
    Detect,
    Embed,
    Everything,
    Gaze,
    Inspect,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AnmokError",
    "AnomalyMap",
    "Ask",
    "Card",
    "Chat",
    "Classify",
    "Clip",
    "Conversation",
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
    "Gaze",
    "Gazes",
    "Inspect",
    "Keypoints",
    "Masks",
    "Matte",
    "Matting",
    "Model",
    "NormalMap",
    "Normals",
    "Parse",
    "PartMap",
    "Piece",
    "Pointing",
    "Points",
    "Pose",
    "Prompted",
    "Reply",
    "Rle",
    "Scores",
    "Segment",
    "Sound",
    "Text",
    "Track",
    "Tracked",
    "Tracks",
    "Turn",
    "card",
    "cards",
    "load",
]
