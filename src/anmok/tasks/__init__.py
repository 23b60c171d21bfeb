"""Asks: frozen questions whose type fixes the type of the answer; and what a model file must offer for each."""

from __future__ import annotations

from anmok.tasks.asks import Ask, Classify, Embed, P, R, check_labels
from anmok.tasks.offers import (
    Classifies,
    Detects,
    Embeds,
    Encoder,
    FindsNormals,
    Follows,
    Mattes,
    MeasuresDepth,
    Parses,
    Poses,
    Projects,
    Segments,
    Session,
    Setup,
    TextRules,
    WordVectors,
)
from anmok.tasks.seeing import Depth, Detect, Everything, Matting, Normals, Parse, Pose, Segment, Track

__all__ = [
    "Ask",
    "Classifies",
    "Classify",
    "Depth",
    "Detect",
    "Detects",
    "Embed",
    "Embeds",
    "Encoder",
    "Everything",
    "FindsNormals",
    "Follows",
    "Mattes",
    "Matting",
    "MeasuresDepth",
    "Normals",
    "P",
    "Parse",
    "Parses",
    "Pose",
    "Poses",
    "Projects",
    "R",
    "Segment",
    "Segments",
    "Session",
    "Setup",
    "TextRules",
    "Track",
    "WordVectors",
    "check_labels",
]
