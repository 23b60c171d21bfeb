"""What is strange about a picture, when only good ones are known: patches compared with those of good pictures.

Numpy only. Where the patches come from is the business of a model file; here a patch is a row of numbers. Nothing
is learned by gradient: a memory of good patches, the distance to the nearest one, and how far that may go.
"""

from __future__ import annotations

from anmok.inspecting.conformal import Limit, limit, p_values
from anmok.inspecting.foreground import Foreground, foreground
from anmok.inspecting.memory import Judged, Memory, Method, remember, top_mean
from anmok.inspecting.neighbours import coreset, distances, nearest
from anmok.inspecting.turning import ANGLES, turned
from anmok.inspecting.words import harmonic, prompts, strangeness, windows

__all__ = [
    "ANGLES",
    "Foreground",
    "Judged",
    "Limit",
    "Memory",
    "Method",
    "coreset",
    "distances",
    "foreground",
    "harmonic",
    "limit",
    "nearest",
    "p_values",
    "prompts",
    "remember",
    "strangeness",
    "top_mean",
    "turned",
    "windows",
]
