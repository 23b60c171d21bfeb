"""What the anomaly ladder found: plain frozen values. ``report.json`` is this as it stands.

Shares (AUROC, gains, rates) are between 0 and 1. Intervals are 95 % unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from anmok.evidence.intervals import Estimate, Interval
from anmok.inspecting import Limit
from anmok.ladder.outcome import Comparison, Data, NotTried

FORMAT = "anmok.inspect/1"


@dataclass(frozen=True, slots=True)
class Rates:
    """A threshold that was set on good pictures of the pool, tried on the test pictures."""

    threshold: float | None  # of the rung's score; None where each fold had its own
    asked: float  # the share of good pictures that may be called strange
    smallest: float  # the smallest share that so few good pictures can speak for
    is_reachable: bool
    normals: int  # good pictures that it was set on
    overkill: Estimate  # of the good test pictures, called strange
    miss: Estimate  # of the defects, called good


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """Where flaws are marked: how well the map shows them, on pictures of at most ``side`` pixels a side."""

    auroc: float | None
    ap: float | None
    aupro: float | None
    aupro_interval: Interval | None
    regions: int
    side: int


@dataclass(frozen=True, slots=True)
class InspectStep:
    """One rung at one number of labels, on the test pictures."""

    key: str  # A0, A1, A2, P, A4
    good: int  # good pictures used
    defects: int  # labelled defects used
    draws: int
    auroc: Estimate
    rates: Rates | None
    pixels: PixelFigures | None
    seconds: float  # to remember or fit, patches at hand
    ms_per_image: float  # one picture through net and memory
    megabytes: float  # of the memory or head; the net comes on top


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind of defect, by the recommended rung."""

    name: str
    pictures: int
    tested: int
    auroc: Estimate
    miss: Estimate | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture worth a look. ``why``: missed, false alarm, or strangest."""

    index: int  # into ``Data.names``
    why: str
    score: float
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """``key``: the cheapest rung that is not worse than any other by more than the margin."""

    key: str
    best: str
    is_decided: bool
    is_useful: bool  # its AUROC is shown to lie above one half
    good_enough: int | None  # good references from which A1 is not worse than with all of them
    images_needed: int | None
    is_out_of_reach: bool  # more than 100,000 would settle it: not to be settled by labelling more
    reason: str
    remembered: str  # the rung that stands in the folder ``best``; empty where none was written


@dataclass(frozen=True, slots=True)
class InspectHonesty:
    openings: int
    is_replay: bool
    not_tried: tuple[NotTried, ...]
    assumptions: tuple[str, ...]
    licences: tuple[tuple[str, str], ...]
    surest_miss: float  # the miss rate that the test defects could exclude at best, had none been missed


@dataclass(frozen=True, slots=True)
class InspectOutcome:
    """Everything the report shows. ``steps`` is empty where there was no defect to test on: only the memory and its
    threshold (``limit``) were made then, and there is no claim about defects."""

    model: str
    model_note: str
    thing: str
    good: str  # the class of good pictures
    data: Data
    advice: Advice | None
    steps: tuple[InspectStep, ...]  # the rungs with all labels
    curve: tuple[InspectStep, ...]  # at few labels
    comparisons: tuple[Comparison, ...]
    kinds: tuple[KindRow, ...]
    shown: tuple[Shown, ...]
    limit: Limit | None  # of the memory in the folder ``best``
    honesty: InspectHonesty
    margin: float
    overkill: float
    seed: int
    size: int  # pixels of the canvas
    grid: tuple[int, int]  # patches of a picture
    has_ground: bool  # A2 found ground around the thing and left it out
    plan_hash: str
    reproduce: str
    follow_up: str
    seconds: float
    is_development: bool
    version: str
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def step(self, key: str) -> InspectStep:
        """The rung with all labels."""
        return next(step for step in self.steps if step.key == key)
