"""The ask of ``inspect``: what is strange here, for whoever has seen good pictures only?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from anmok.errors import BadRequest
from anmok.results import AnomalyMap
from anmok.tasks.asks import Ask


@dataclass(frozen=True, slots=True)
class Inspect(Ask[AnomalyMap, AnomalyMap]):
    """How strange is this picture, and where?

    The model has a memory of good pictures. ``threshold`` is the score above which a picture is called strange; with
    ``None`` the memory's own, which was set on good pictures, where it has one.
    """

    task: ClassVar[str] = "inspect"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise BadRequest(f"threshold {self.threshold}: want a score from 0 up")
