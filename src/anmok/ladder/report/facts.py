"""What the sentences, the page and the terminal all need to know about an outcome, worked out once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from anmok.ladder.outcome import ClassRow, Comparison, Control, Outcome, Step

Strength = Literal["firm", "fair", "weak"]
Standing = Literal["decided", "open", "useless", "development"]

# Half-widths of the 95 % interval: firm up to the first, weak beyond the second.
FIRM, WEAK = 0.03, 0.08
CANNOT_TELL = "CANNOT TELL"
MAJORITY, METADATA = "majority", "metadata: "  # what the ladder calls the one control, and how it begins the others
WARNINGS = 2  # of the data, told in the answers; all of them stand in the report
# Below this share of the images, it is said how many independent ones they are worth.
_WORTH_SAYING = 0.8


@dataclass(frozen=True, slots=True)
class Facts:
    """``standing``: which of four verdicts this is. ``strength``: how loudly it may be said.

    ``images_needed``: test images that would settle what is open; None where nothing is, or nobody can say.
    ``unbeaten``: a cheaper rung than the recommended one that may be as good, for all that these images say.
    """

    outcome: Outcome
    chosen: Step
    best: Step
    standing: Standing
    strength: Strength
    images_needed: int | None
    unbeaten: Comparison | None
    majority: Control | None
    majority_class: str
    weakest: ClassRow | None
    conflicts: int  # duplicate pairs under two labels

    @property
    def is_zero_shot(self) -> bool:
        """The recommended rung needs no labels."""
        return self.chosen.labels == 0

    @property
    def shots_enough(self) -> int | None:
        """Labels per class that do as well as all of them, where that is really fewer."""
        shots = self.outcome.recommendation.shots_enough
        if shots is None or self.is_zero_shot or shots < 1:
            return None
        return shots if shots * len(self.outcome.data.classes) < self.chosen.labels else None

    @property
    def worth(self) -> int | None:
        """How many independent images the tested ones are worth, where that is clearly fewer."""
        estimate = self.chosen.accuracy
        if not math.isfinite(estimate.effective_n) or estimate.effective_n >= _WORTH_SAYING * estimate.n:
            return None
        return max(round(estimate.effective_n), 1)

    @property
    def suspicious(self) -> tuple[Control, ...]:
        """The controls that reach more than they should."""
        return tuple(control for control in self.outcome.controls if control.is_suspicious)


def facts(outcome: Outcome) -> Facts:
    """The facts of ``outcome``, which must hold the rungs that its recommendation names."""
    advice = outcome.recommendation
    chosen, best = outcome.step(advice.key), outcome.step(advice.best)
    standing = _standing(outcome)
    majority = next((control for control in outcome.controls if control.name == MAJORITY), None)
    tested = [row for row in outcome.per_class if row.tested]
    counts = outcome.data.counts
    return Facts(
        outcome=outcome,
        chosen=chosen,
        best=best,
        standing=standing,
        strength=_strength(outcome, chosen, standing),
        images_needed=_images_needed(outcome) if standing == "open" else None,
        unbeaten=_unbeaten(outcome, standing),
        majority=majority,
        majority_class=outcome.data.classes[counts.index(max(counts))] if counts else "",
        weakest=min(tested, key=lambda row: row.recall.value, default=None),
        conflicts=sum(pair.is_conflict for pair in outcome.duplicates),
    )


def claim(outcome: Outcome, comparison: Comparison) -> str:
    """The word of a comparison, as far as it may be claimed: without a sealed test nothing is settled."""
    return CANNOT_TELL if outcome.is_development else comparison.word


def contrast(outcome: Outcome, key: str) -> Comparison | None:
    """The planned comparison of the rung ``key`` with the cheapest one that nothing had beaten before it."""
    return next((comparison for comparison in outcome.comparisons if comparison.key == key), None)


def _standing(outcome: Outcome) -> Standing:
    advice = outcome.recommendation
    if outcome.is_development:
        return "development"
    if not advice.is_useful:
        return "useless"
    return "decided" if advice.is_decided else "open"


def _strength(outcome: Outcome, chosen: Step, standing: Standing) -> Strength:
    half = chosen.accuracy.interval.half_width
    if standing != "decided" or not half <= WEAK:
        return "weak"
    is_clear = outcome.honesty.openings <= 1 and _unbeaten(outcome, standing) is None
    return "firm" if half <= FIRM and is_clear else "fair"


def _unbeaten(outcome: Outcome, standing: Standing) -> Comparison | None:
    found = contrast(outcome, outcome.recommendation.key)
    return found if standing == "decided" and found is not None and found.word == CANNOT_TELL else None


def _images_needed(outcome: Outcome) -> int | None:
    """Of the contrast with the best rung where one was planned, else the most that an open one asks for."""
    advice = outcome.recommendation
    pair = {advice.key, advice.best}
    needed = {
        frozenset((found.key, found.against)): found.images_needed
        for found in outcome.comparisons
        if found.word == CANNOT_TELL and advice.key in (found.key, found.against)
    }
    direct = needed.get(frozenset(pair))
    return direct if direct is not None else max((n for n in needed.values() if n is not None), default=None)
