"""From numbers to words: better, worse, same, cannot tell; and which rung to use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anmok.errors import BadRequest
from anmok.evidence.compare import Contrast, Trial, trial
from anmok.evidence.mix import Mix
from anmok.evidence.power import images_to_settle

_SETTLING = 1.959964 + 0.841621  # normal quantiles of 95 % two-sided and of 80 % power
_SHOWING = 1.644854 + 0.841621  # of 95 % one-sided and of 80 % power


class Word(Enum):
    """The four things that a comparison may say."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word about B against A at a margin.

    images_needed: how many test images in all would settle a CANNOT_TELL, with 80 % probability, were the
    gain what it looks like (or the margin, if that is more). None with any other word, and where images alone
    would not do: the support draws differ too much, or the gain lies at the margin.
    """

    word: Word
    contrast: Contrast
    margin: float
    images_needed: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One rung: its cost in any unit; which test images it has right, (n,) or (S, n) for S support draws."""

    name: str
    cost: float
    correct: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Standing:
    """One rung against all the others.

    shortfall: accuracy of the best rung minus its own. worst_shortfall: the largest, over all the others,
    one-sided 95 % upper bound of what it lacks. is_good_enough: that bound is at most the margin.
    """

    name: str
    cost: float
    accuracy: float
    shortfall: float
    worst_shortfall: float
    is_good_enough: bool


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which rung to use.

    best_name: the rung with the highest observed accuracy, the cheaper one of a tie. is_decided: the rung
    ``name`` was shown to be within the margin of every other one; if not, it is the best guess and no more.
    images_needed: test images in all that would show it, None if decided or if images alone would not do.
    standings: from the cheapest rung up. verdicts: every rung but the cheapest against the cheapest one not
    yet beaten, after Holm.
    """

    name: str
    best_name: str
    is_decided: bool
    images_needed: int | None
    reason: str
    standings: tuple[Standing, ...]
    verdicts: tuple[Verdict, ...]


def judge(contrast: Contrast, margin: float = 0.01) -> Verdict:
    """The word for a contrast; ``margin`` is the smallest gain that matters, as a share (0.01 = one point).

    BETTER: the (adjusted) interval lies above 0 and the gain is at least the margin; WORSE mirrored. SAME:
    the 90 % interval lies inside the margin on both sides. Otherwise CANNOT_TELL. Raises `BadRequest` for a
    margin outside (0, 1).
    """
    _check_margin(margin)
    if contrast.interval.low > 0 and contrast.gain >= margin:
        word = Word.BETTER
    elif contrast.interval.high < 0 and contrast.gain <= -margin:
        word = Word.WORSE
    elif contrast.is_same(margin):
        word = Word.SAME
    else:
        return Verdict(Word.CANNOT_TELL, contrast, margin, _images_needed(contrast, margin))
    return Verdict(word, contrast, margin, None)


def recommend(
    candidates: Sequence[Candidate],
    groups: ArrayLike | None,
    margin: float = 0.01,
    *,
    seed: int,
    mix: Mix | None = None,
) -> Recommendation:
    """The cheapest rung shown to be no worse than any other by more than the margin.

    Shown: for each other rung, the one-sided 95 % upper bound of what it would gain is at most the margin.
    Testing against every rung and not against the winner of this very test leaves no room for the winner's
    curse, and needs no correction (an intersection-union test, Berger 1982). Where no rung is shown to be so,
    the cheapest one whose *observed* shortfall is within the margin is named, and ``is_decided`` is false.
    mix: of images that do not count alike. Raises `BadRequest`, `BadData` for candidates that cannot be compared.
    """
    if not candidates:
        raise BadRequest("no rung to choose from: give at least one candidate")
    tried = trial([(rung.name, rung.correct) for rung in candidates], groups, seed=seed, mix=mix)
    return recommend_from({rung.name: rung.cost for rung in candidates}, tried, margin)


def recommend_from(costs: Mapping[str, float], tried: Trial, margin: float = 0.01) -> Recommendation:
    """`recommend` for models that were resampled already, each by its name with its cost. Raises `BadRequest`."""
    _check_margin(margin)
    rungs = sorted((Candidate(name, cost, tried.correct[name]) for name, cost in costs.items()), key=lambda r: r.cost)
    standings = tuple(_standing(rung, rungs, tried, margin) for rung in rungs)
    best = max(standings, key=lambda s: s.accuracy)
    shown = [s for s in standings if s.is_good_enough]
    chosen = (shown or [s for s in standings if s.shortfall <= margin] or [best])[0]
    verdicts = tuple(judge(contrast, margin) for contrast in tried.contrasts(_planned(rungs, tried, margin)))
    return Recommendation(
        name=chosen.name,
        best_name=best.name,
        is_decided=bool(shown),
        images_needed=None if shown else _images_to_decide(chosen, rungs, tried, margin),
        reason=_reason(chosen, best, standings, margin),
        standings=standings,
        verdicts=verdicts,
    )


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise BadRequest(f"a margin of {margin}: give it as a share between 0 and 1, 0.01 for one point")


def _images_needed(contrast: Contrast, margin: float) -> int | None:
    gain = max(abs(contrast.gain), margin)
    spare = 1 - contrast.draw_variance * (_SETTLING / gain) ** 2
    if spare <= 0:
        return None
    effect = contrast.design_effect
    if contrast.image_variance > 0:  # means over several draws vary less than one draw, which the formula is for
        single = contrast.disagreement - contrast.gain**2
        effect = contrast.image_variance * contrast.n_images / single
    needed = images_to_settle(gain, max(contrast.disagreement, gain), design_effect=effect / spare)
    return needed if needed > contrast.n_images else None


def _standing(rung: Candidate, rungs: Sequence[Candidate], tried: Trial, margin: float) -> Standing:
    gains = [tried.gain(rung.name, other.name) for other in rungs if other is not rung]
    worst = max((gain.interval(0.9).high for gain in gains), default=0.0)
    shortfall = max((gain.value for gain in gains), default=0.0)
    share = tried.value(rung.name)
    return Standing(rung.name, rung.cost, share, max(shortfall, 0.0), max(worst, 0.0), worst <= margin)


def _planned(rungs: Sequence[Candidate], tried: Trial, margin: float) -> list[tuple[str, str]]:
    """Each rung with the cheapest one not yet beaten; beaten at the Bonferroni level, to be sure."""
    level, champion, pairs = 1 - 0.05 / max(len(rungs) - 1, 1), rungs[0].name, []
    for rung in rungs[1:]:
        pairs.append((champion, rung.name))
        gain = tried.gain(champion, rung.name)
        if gain.value >= margin and gain.interval(level).low > 0:
            champion = rung.name
    return pairs


def _images_to_decide(chosen: Standing, rungs: Sequence[Candidate], tried: Trial, margin: float) -> int | None:
    """Images that would show ``chosen`` good enough, with 80 % probability, were the gains as they look."""
    needed = 0.0
    for rung in rungs:
        if rung.name == chosen.name:
            continue
        gain = tried.gain(chosen.name, rung.name)
        by_image, by_draw = gain.outlook(0.9)
        room = ((margin - gain.value) / _SHOWING) ** 2 - by_draw
        if gain.value >= margin or room <= 0:
            return None
        needed = max(needed, by_image * gain.likeness.n / room)
    return max(math.ceil(needed), 1)


def _reason(chosen: Standing, best: Standing, standings: Sequence[Standing], margin: float) -> str:
    points, bound = f"{100 * margin:g} point{'' if margin == 0.01 else 's'}", f"{100 * chosen.worst_shortfall:.1f}"
    if not chosen.is_good_enough:
        return (
            f"undecided: {chosen.name} is the cheapest whose observed shortfall to {best.name} is within "
            f"{points}, but it may lack up to {bound}"
        )
    open_ = [s.name for s in standings if s.cost < chosen.cost and s.shortfall <= margin]
    cheaper = f"; not excluded, though not shown either: the cheaper {', '.join(open_)}" if open_ else ""
    return f"{chosen.name} is the cheapest shown to lack at most {points} (here {bound} at most){cheaper}"
