"""The ladder: zero-shot, a few labels, more labels; measured on the user's own images, on one sealed test set."""

from __future__ import annotations

from anmok.ladder.climb import climb
from anmok.ladder.dataset import Dataset
from anmok.ladder.outcome import Outcome
from anmok.ladder.plan import Plan

__all__ = ["Dataset", "Outcome", "Plan", "climb"]
