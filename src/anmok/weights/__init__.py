"""Weights: from a card's source to verified local files. No pickle is ever opened as one."""

from __future__ import annotations

from anmok.weights.cache import Progress, cache_dir
from anmok.weights.convert import to_safetensors
from anmok.weights.fetching import fetch, is_fetched, revision_of
from anmok.weights.licence import accepted, require_licence

__all__ = [
    "Progress",
    "accepted",
    "cache_dir",
    "fetch",
    "is_fetched",
    "require_licence",
    "revision_of",
    "to_safetensors",
]
