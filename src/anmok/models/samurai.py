"""SAMURAI: SAM 2.1 with a sense of motion, for objects that cross their like. It has no weights of its own.

Source: Yang et al., "SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking with Motion-Aware
Memory" (arXiv:2411.11922), as coded in github.com/yangchris11/samurai.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from anmok.nets.sam2_stream import Selector
from anmok.nets.samurai import Rules
from anmok.nets.samurai import Samurai as Choice
from anmok.tasks import Session, Setup, Track

# By a card's kind: the weight of the filter, as in the authors' configurations.
ALPHA: Mapping[str, float] = {"motion-small": 0.25, "motion-large": 0.15}


class Segmenter(Protocol):
    """The part that it is built on: SAM 2."""

    @property
    def nbytes(self) -> int: ...

    def session(self, ask: Track, selector: Selector | None) -> Session: ...


class Samurai:
    def __init__(self, setup: Setup, segmenter: Segmenter) -> None:
        self._rules = Rules(alpha=ALPHA[setup.kind])
        self._segmenter = segmenter

    @classmethod
    def from_files(cls, setup: Setup) -> Samurai:
        return cls(setup, setup.parts["segmenter"])

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Samurai:
        return cls(setup, setup.parts["segmenter"])

    @property
    def nbytes(self) -> int:
        return self._segmenter.nbytes

    def follow(self, ask: Track) -> Session:
        """What the cues point at, through a clip; each object with a filter of its own, which a cue starts afresh.

        Raises:
            Unsupported: labels.
        """
        return self._segmenter.session(ask, Choice(self._rules))
