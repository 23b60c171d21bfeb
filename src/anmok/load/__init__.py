"""``load(name) -> Model``: the one place that turns a card into a running model."""

from __future__ import annotations

from anmok.load.adapter import Adapter
from anmok.load.answerers import Answerer, Bottleneck, Cache, Head, Prompt, Tiled
from anmok.load.bank import Bank
from anmok.load.decision import Decision, logits_of, odds_against
from anmok.load.loading import load, tiny
from anmok.load.model import Model
from anmok.load.targets import card_of

__all__ = [
    "Adapter",
    "Answerer",
    "Bank",
    "Bottleneck",
    "Cache",
    "Decision",
    "Head",
    "Model",
    "Prompt",
    "Tiled",
    "card_of",
    "load",
    "logits_of",
    "odds_against",
    "tiny",
]
