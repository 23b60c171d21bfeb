"""Answers: frozen, numpy inside, shapes checked on construction. They know nobody who makes or draws them."""

from __future__ import annotations

from anmok.results.anomalies import AnomalyMap
from anmok.results.basic import Embedding, Failure, Result, Scores
from anmok.results.maps import DepthMap, Matte, NormalMap, PartMap
from anmok.results.people import Gazes, Keypoints
from anmok.results.places import Detections, Masks, Points
from anmok.results.talk import Piece, Reply
from anmok.results.tracks import Tracked, Tracks

__all__ = [
    "AnomalyMap",
    "DepthMap",
    "Detections",
    "Embedding",
    "Failure",
    "Gazes",
    "Keypoints",
    "Masks",
    "Matte",
    "NormalMap",
    "PartMap",
    "Piece",
    "Points",
    "Reply",
    "Result",
    "Scores",
    "Tracked",
    "Tracks",
]
