"""``load(name) -> Model``: the one place that turns a card into a running model."""

from __future__ import annotations

from anmok.load.adapter import Adapter, Head
from anmok.load.loading import load, tiny
from anmok.load.model import Model

__all__ = ["Adapter", "Head", "Model", "load", "tiny"]
