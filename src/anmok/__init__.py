"""anmok (안목, "a discerning eye"): image foundation models put to work, measured on your own images.

>>> import anmok
>>> model = anmok.load("mini")
>>> model.classify("cat.jpg", ["cat", "dog"]).label
'cat'
"""

from __future__ import annotations

from anmok.catalogue import Card, card, cards
from anmok.errors import AnmokError
from anmok.inputs import Encoded, Text
from anmok.load import Adapter, Model, load
from anmok.results import Embedding, Failure, Scores
from anmok.tasks import Ask, Classify, Embed

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AnmokError",
    "Ask",
    "Card",
    "Classify",
    "Embed",
    "Embedding",
    "Encoded",
    "Failure",
    "Model",
    "Scores",
    "Text",
    "card",
    "cards",
    "load",
]
