"""How something is trained: plain values, with which a run can be told, repeated and taken up again."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

from anmok.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Recipe:
    """AdamW with warm-up and a cosine down to nothing.

    ``steps`` are updates; each looks at ``batch`` examples, in ``accumulation`` parts. ``rate`` is the learning rate
    of a group of parameters whose factor is 1. Every ``check_every`` steps, and at the end, the judge is asked;
    ``patience`` checks without an improvement end the run (0: never). ``precision``: ``auto`` takes bfloat16 where the
    processor computes in it, and float32 elsewhere.
    """

    steps: int
    rate: float
    batch: int = 32
    accumulation: int = 1
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps
    clip: float = 1.0  # largest norm of the gradient
    check_every: int = 50
    patience: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.accumulation, self.check_every) < 1 or self.patience < 0:
            raise BadRequest(f"recipe: steps, batch, accumulation and check_every must be at least 1: {self}")
        if self.accumulation > self.batch:
            raise BadRequest(f"recipe: a batch of {self.batch} cannot be taken in {self.accumulation} parts")
        if not (0 < self.rate < math.inf and 0 <= self.warmup < 1 and self.weight_decay >= 0 and self.clip > 0):
            raise BadRequest(f"recipe: rate and clip must be positive, warm-up a share below 1: {self}")

    def factor(self, step: int) -> float:
        """Of the learning rate at ``step``, counted from 0: up in a line, down in half a cosine."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    def digest(self, about: str) -> str:
        """Of the recipe and of what it is used on: what a checkpoint must agree with."""
        text = json.dumps([asdict(self), about], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
