"""What the sentences, the page and the terminal all need to know about an outcome, worked out once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anmok.ladder.outcome import ClassRow, Comparison, Control, Outcome, Step
from anmok.ladder.outcome_trust import Saving
from anmok.ladder.report.figures import difference

Strength = Literal["firm", "fair", "weak"]
Standing = Literal["decided", "open", "useless", "development"]
Cause = Literal["series", "making", "name", "none"]

# Half-widths of the 95 % interval: firm up to the first, weak beyond the second.
FIRM, WEAK = 0.03, 0.08
CANNOT_TELL = "CANNOT TELL"
MAJORITY, METADATA = "majority", "metadata: "  # what the ladder calls the one control, and how it begins the others
WARNINGS = 2  # of the data, told in the answers; all of them stand in the report
SHOWN_SUSPECTS, SHOWN_PAIRS = 24, 12  # with their pictures
# Below this share of the images, it is said how many independent ones they are worth.
_WORTH_SAYING = 0.8
_CAUSES: Mapping[str, Cause] = {
    **dict.fromkeys(("number", "first_number", "order", "time", "folder", "camera"), "series"),
    **dict.fromkeys(("wording", "label_in_name"), "name"),
}  # everything else, such as the size of the file, may come from how the images were made
_WEAK_CLASS = 0.5  # recall below which a class is named beside the verdict
_UNGROUPED = ("near-duplicates", "none, as asked")  # groupings of the ladder that hold no series together


@dataclass(frozen=True, slots=True)
class Facts:
    """``standing``: which of four verdicts this is. ``strength``: how loudly it may be said.

    ``images_needed``: test images that would settle what is open; None where nothing is, or nobody can say.
    ``is_out_of_reach``: more would than anybody labels, and no number is told.
    ``rival``: the rung against which they would settle it; None where they are for all the others at once.
    ``unbeaten``: a cheaper rung than the recommended one that may be as good, for all that these images say.
    """

    outcome: Outcome
    chosen: Step
    best: Step
    standing: Standing
    strength: Strength
    images_needed: int | None
    is_out_of_reach: bool
    rival: Step | None
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
    def labels(self) -> int:
        """All that somebody had to write: to learn from, and to test. Without a sealed test these are the same ones."""
        data = self.outcome.data
        return data.pool if self.outcome.is_development else self.chosen.labels + data.test

    @property
    def lead(self) -> float:
        """Of the recommended rung over the largest class, as the two are printed; NaN without that control."""
        return (
            math.nan if self.majority is None else difference(self.chosen.accuracy.value, self.majority.accuracy.value)
        )

    @property
    def weak_spot(self) -> ClassRow | None:
        """A class that is missed so often that the accuracy alone would mislead: more often than found, or surely
        found more rarely than always giving the largest class is right."""
        row = self.weakest
        if row is None:
            return None
        floor = 0.0 if self.majority is None else self.majority.accuracy.value
        return row if row.recall.value < _WEAK_CLASS or row.recall.interval.high < floor else None

    @property
    def more_balanced(self) -> Step | None:
        """The rung that is ahead of the recommended one by more than the margin where every class counts the same."""
        steps = [step for step in self.outcome.steps if math.isfinite(step.balanced_accuracy)]
        top = max(steps, key=lambda step: step.balanced_accuracy, default=self.chosen)
        ahead = difference(top.balanced_accuracy, self.chosen.balanced_accuracy)
        return top if ahead > self.outcome.margin + 1e-9 else None

    @property
    def keeps_groups(self) -> bool:
        """The metadata controls were asked with groups kept together, not under a random split."""
        return self.outcome.leak is not None or self.outcome.data.grouping not in _UNGROUPED

    @property
    def mistakes(self) -> int:
        """Of the recommended rung on the test images."""
        rows = (row for row in self.outcome.per_class if row.tested)
        return round(sum(row.tested * (1 - row.recall.value) for row in rows))

    @property
    def suspicious(self) -> tuple[Control, ...]:
        """The controls that reach more than they should, but for what the leak tells and for sums of the others."""
        told = () if self.outcome.leak is None else (METADATA + self.outcome.leak.control,)
        found = [one for one in self.outcome.controls if one.is_suspicious and one.name not in told]
        alone = [one for one in found if one.name != METADATA + "together"]
        return tuple(alone or found)

    def cause(self, control: Control) -> Cause:
        """What a control that works points at."""
        return _CAUSES.get(column(control), "making") if control.name.startswith(METADATA) else "none"


def facts(outcome: Outcome) -> Facts:
    """The facts of ``outcome``, which must hold the rungs that its recommendation names."""
    advice = outcome.recommendation
    chosen, best = outcome.step(advice.key), outcome.step(advice.best)
    standing = _standing(outcome)
    needed, is_out, rival = _settling(outcome) if standing == "open" else (None, False, None)
    majority = next((control for control in outcome.controls if control.name == MAJORITY), None)
    tested = [row for row in outcome.per_class if row.tested]
    counts = outcome.data.counts
    return Facts(
        outcome=outcome,
        chosen=chosen,
        best=best,
        standing=standing,
        strength=_strength(outcome, chosen, standing),
        images_needed=needed,
        is_out_of_reach=is_out,
        rival=rival,
        unbeaten=_unbeaten(outcome, standing),
        majority=majority,
        majority_class=outcome.data.classes[counts.index(max(counts))] if counts else "",
        weakest=min(tested, key=lambda row: row.recall.value, default=None),
        conflicts=sum(pair.is_conflict for pair in outcome.duplicates),
    )


def column(control: Control) -> str:
    """What a control goes by: ``bytes``; its name where it is none of the metadata."""
    return control.name.removeprefix(METADATA)


def claim(outcome: Outcome, comparison: Comparison | Saving) -> str:
    """The word of a comparison, as far as it may be claimed: without a sealed test nothing is settled."""
    return CANNOT_TELL if outcome.is_development else comparison.word


def contrast(outcome: Outcome, key: str) -> Comparison | None:
    """The planned comparison of the rung ``key`` with the cheapest one that nothing had beaten before it."""
    return next((comparison for comparison in outcome.comparisons if comparison.key == key), None)


def gain(outcome: Outcome, comparison: Comparison) -> float:
    """Of a comparison, as the two accuracies are printed."""
    values = {step.key: step.accuracy.value for step in outcome.steps}
    if comparison.key not in values or comparison.against not in values:
        return comparison.gain
    return difference(values[comparison.key], values[comparison.against])


def _standing(outcome: Outcome) -> Standing:
    advice = outcome.recommendation
    if outcome.is_development:
        return "development"
    if not advice.is_useful:
        return "useless"
    return "decided" if advice.is_decided else "open"


def _strength(outcome: Outcome, chosen: Step, standing: Standing) -> Strength:
    if outcome.priced is not None:  # what may be claimed of the defects counts, and accuracy does not
        told = outcome.priced.claim
        return "fair" if standing == "decided" and (told is None or told.is_shown) else "weak"
    half = chosen.accuracy.interval.half_width
    if standing != "decided" or not half <= WEAK:
        return "weak"
    is_clear = outcome.honesty.openings <= 1 and _unbeaten(outcome, standing) is None
    return "firm" if half <= FIRM and is_clear else "fair"


def _unbeaten(outcome: Outcome, standing: Standing) -> Comparison | None:
    found = contrast(outcome, outcome.recommendation.key)
    return found if standing == "decided" and found is not None and found.word == CANNOT_TELL else None


def _settling(outcome: Outcome) -> tuple[int | None, bool, Step | None]:
    """Of the contrast with the highest rung where that was planned; else those that would show the recommended rung
    good enough against all the others."""
    advice = outcome.recommendation
    if outcome.priced is not None:  # the comparisons are of accuracies, which decided nothing here
        return advice.images_needed, advice.is_out_of_reach, None
    pair = {advice.key, advice.best}
    for found in outcome.comparisons:
        if found.word == CANNOT_TELL and {found.key, found.against} == pair:
            return found.images_needed, found.is_out_of_reach, outcome.step(advice.best)
    return advice.images_needed, advice.is_out_of_reach, None
