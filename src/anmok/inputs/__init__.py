"""What varies per item. What is shared by a whole call is an ask (``tasks.py``)."""

from __future__ import annotations

from typing import TypeAlias

from anmok.inputs.pointing import Box, Cue, Encoded, Point, Prompted, Sign, Text
from anmok.inputs.saying import Conversation, Part, Role, Turn
from anmok.inputs.showing import Clip, Frames, Shown, Sound
from anmok.media import Source

Item: TypeAlias = Source | Text | Encoded | Prompted | Clip | Conversation

__all__ = [
    "Box",
    "Clip",
    "Conversation",
    "Cue",
    "Encoded",
    "Frames",
    "Item",
    "Part",
    "Point",
    "Prompted",
    "Role",
    "Shown",
    "Sign",
    "Sound",
    "Source",
    "Text",
    "Turn",
]
