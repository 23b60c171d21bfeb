"""What a climb found about single answers, and about what errors cost: further values of an outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anmok.evidence.intervals import Estimate, Interval
from anmok.evidence.overkill import Claim


@dataclass(frozen=True, slots=True)
class Bar:
    """Images of like confidence: how sure the model was of them, and how many it had right."""

    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliable:
    """Whether a score means what it says. ``ece``: the mean distance between confidence and accuracy; ``by_chance``:
    what a perfectly calibrated model would show on as many images in 95 of 100 cases."""

    ece: float
    interval: Interval
    by_chance: float
    overconfidence: float  # mean confidence minus accuracy
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """``before`` at temperature 1, ``after`` at the temperature that was fitted on other images."""

    temperature: float
    is_fitted: bool  # not below 30 images
    before: Reliable
    after: Reliable


@dataclass(frozen=True, slots=True)
class LabelSets:
    """All labels that cannot be excluded, so that nine sets of ten hold the true one."""

    promised: float
    is_proven: bool  # for a head that was fitted again on all labels the promise is usual and not proven
    images: int  # that the threshold rests on
    range: Interval  # of what may really be covered, given so many
    covered: Estimate  # on the images that answer
    mean_size: float
    single: Estimate  # share of sets of one label


@dataclass(frozen=True, slots=True)
class RiskPoint:
    coverage: float
    risk: float


@dataclass(frozen=True, slots=True)
class Abstaining:
    """The threshold with the most answers that keeps at most ``at_most`` errors among them; None where none does."""

    at_most: float
    threshold: float | None
    needed: int  # images answered without an error from which on it could be promised
    answered: Estimate | None  # on the images that answer, as all below
    errors: Estimate | None  # among those answered
    curve: tuple[RiskPoint, ...]


@dataclass(frozen=True, slots=True)
class Strangers:
    """Images of kinds that the model was not taught, by the distance to those that it was.

    ``near``: mean AUROC of telling a class that was left out, None below three classes. ``limit``: the distance
    beyond which a share ``rejected`` of the known images lies; None with too few of them.
    """

    limit: float | None
    rejected: float
    near: float | None
    interval: Interval | None
    hardest: str
    images: int


@dataclass(frozen=True, slots=True)
class Trust:
    """How far to trust one answer of the recommended rung; figures on the images that answer, everything fitted on
    others. ``why_not``: where nothing could be said, the reason."""

    key: str
    images: int  # labelled ones that everything was fitted on
    source: Literal["cross-fitted", "nothing learned", "kept aside", "none"]
    why_not: str = ""
    calibration: Calibrated | None = None
    sets: LabelSets | None = None
    abstaining: Abstaining | None = None
    strangers: Strangers | None = None


@dataclass(frozen=True, slots=True)
class PricedRung:
    """``value``: expected cost per image, or the share of defects missed at the rung's own threshold. ``overkill``:
    the share of good images that are called defective."""

    key: str
    value: Estimate
    missed: Estimate | None
    overkill: Estimate | None


@dataclass(frozen=True, slots=True)
class Saving:
    """``key`` against ``against``: what it costs less per image, or how many defects fewer it misses (a share)."""

    key: str
    against: str
    word: str
    saved: float
    low: float
    high: float
    images_needed: int | None
    is_out_of_reach: bool = False  # more than 100,000 would settle it


@dataclass(frozen=True, slots=True)
class LeftOut:
    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Priced:
    """What errors cost, and what the rungs cost by that. Costs are in the unit of the table that was given."""

    kind: Literal["costs", "overkill"]
    margin: float  # in the same unit, or a share of the defects
    rungs: tuple[PricedRung, ...]
    savings: tuple[Saving, ...]
    left_out: tuple[LeftOut, ...]
    good: str = ""
    prevalence: tuple[float, ...] | None = None  # of each class; None: the mix of the test
    constant: str = ""  # the answer that is cheapest to give without looking
    constant_cost: float | None = None
    at_most: float | None = None  # the overkill asked for
    promise: str = ""  # "with confidence", "on average" or "none"
    reachable: float | None = None  # the overkill that can be promised so
    good_images: int = 0  # that the threshold rests on
    good_needed: int = 0  # for the promise
    claim: Claim | None = None  # about the defects that the recommended rung misses

    def rung(self, key: str) -> PricedRung:
        """What was found about one of them."""
        return next(one for one in self.rungs if one.key == key)
