"""What the rungs cost by what errors cost: which is cheaper, or misses less at the same overkill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData
from anmok.evidence import overkill
from anmok.evidence.mix import Mix
from anmok.evidence.verdict import Verdict
from anmok.ladder.aside import Asides
from anmok.ladder.deciding import Decided, decided
from anmok.ladder.evaluate import Held
from anmok.ladder.outcome_trust import LeftOut, Priced, PricedRung, Saving
from anmok.ladder.settling import settling
from anmok.ladder.stakes import Resolved

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

_LEAST_MARGIN = 1e-6
CLAIMED = 0.05  # the miss rate that somebody may want to claim


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What each image's answer is worth, by rung: (1, r) in [0, 1] on the ``rows`` (r,) of the images that answer.
    ``floor`` (1, r): of what needs no model. ``mix``: how the images count, where not alike. ``margin``: the smallest
    gain that matters, in the same unit."""

    values: Mapping[str, Rows]
    floor: Rows
    rows: Labels
    mix: Mix | None
    margin: float


@dataclass(frozen=True, slots=True, eq=False)
class Pricing:
    """``decided``: by rung, of those that could be priced."""

    stake: Resolved
    held: Held
    classes: tuple[str, ...]
    decided: Mapping[str, Decided]
    left_out: tuple[LeftOut, ...]

    @property
    def unit(self) -> float:
        """One of worth in the unit of the table, or in shares of the defects."""
        return 1.0 if self.stake.costs is None else self.stake.costs.span

    def ranking(self, margin: float) -> Ranking:
        """By what answers cost, or by the defects that are found. ``margin``: as a share of the defects, or of what it
        costs to do without a model."""
        costs, truth = self.stake.costs, self.held.labels
        if costs is None:
            assert self.stake.good is not None
            assert self.stake.at_most is not None
            rows = np.flatnonzero(truth != self.stake.good)
            found = {key: (one.answers[rows] != self.stake.good)[None].astype(float) for key, one in self._each()}
            return Ranking(found, np.full((1, len(rows)), self.stake.at_most), rows, None, margin)
        worth = {key: costs.worth(truth, one.answers) for key, one in self._each()}
        mix = costs.mix(truth)
        always = mix.share @ costs.matrix  # (K,)
        floor = costs.worth(truth, np.full(len(truth), always.argmin()))
        spared = float(always.min() - mix.share @ np.diag(costs.matrix)) / costs.span  # by a model without a mistake
        return Ranking(worth, floor, np.arange(len(truth)), mix, max(margin * spared, _LEAST_MARGIN))

    def told(self, chosen: str, verdicts: tuple[Verdict, ...], margin: float, seed: int) -> Priced:
        """For the report. ``margin``: as in the ranking."""
        rungs = tuple(self._rung(key, one, seed) for key, one in self._each())
        plain = Priced(
            kind="overkill" if self.stake.costs is None else "costs",
            margin=self.ranking(margin).margin * self.unit,
            rungs=rungs,
            savings=tuple(_saving(one, self.unit) for one in verdicts),
            left_out=self.left_out,
            good="" if self.stake.good is None else self.classes[self.stake.good],
            claim=self._claim(self.decided[chosen]),
        )
        return self._with_constant(plain) if self.stake.costs is not None else self._with_promise(plain, chosen)

    def _with_constant(self, plain: Priced) -> Priced:
        assert self.stake.costs is not None
        given = self.stake.costs.prevalence
        always = self.stake.costs.mix(self.held.labels).share @ self.stake.costs.matrix  # (K,)
        return replace(
            plain,
            prevalence=None if given is None else tuple(float(share) for share in given),
            constant=self.classes[int(always.argmin())],
            constant_cost=float(always.min()),
        )

    def _with_promise(self, plain: Priced, chosen: str) -> Priced:
        found = self.decided[chosen].rule.threshold
        assert found is not None
        return replace(
            plain,
            at_most=found.at_most,
            promise=found.promise,
            reachable=found.reachable,
            good_images=found.n_good,
            good_needed=found.needed,
        )

    def _each(self) -> list[tuple[str, Decided]]:
        return list(self.decided.items())

    def _rung(self, key: str, one: Decided, seed: int) -> PricedRung:
        missed = alarmed = None
        if self.stake.good is not None:
            is_alarm = (one.answers != self.stake.good).astype(float)
            found = overkill.measure(is_alarm, self.held.labels != self.stake.good, 0.5, self.held.groups)
            missed, alarmed = found.missed, found.overkill
        if self.stake.costs is None:
            assert missed is not None
            return PricedRung(key, missed, missed, alarmed)
        cost = self.stake.costs.expected(self.held.labels, one.answers, self.held.groups, seed=seed).cost
        return PricedRung(key, cost, missed, alarmed)

    def _claim(self, one: Decided) -> overkill.Claim | None:
        if self.stake.good is None:
            return None
        rows = self.held.labels != self.stake.good
        is_missed = one.answers[rows] == self.stake.good
        return overkill.claimable(is_missed, len(rows), CLAIMED, self.held.groups[rows])


def priced(asides: Asides, stake: Resolved) -> Pricing:
    """Every rung that knows what it says of images it did not learn from; the others are left out, with the reason.

    Raises:
        BadData: there is none.
    """
    found, left_out = {}, []
    scene, plan = asides.scene, asides.plan
    for key, one in asides.measured.final.items():
        aside = asides.of(key)
        if isinstance(aside, str):
            left_out.append(LeftOut(key, aside))
            continue
        try:
            found[key] = decided(one, aside, stake, plan.seed, is_development=scene.is_development)
        except BadData as error:
            left_out.append(LeftOut(key, str(error)))
    if not found:
        raise BadData(f"{scene.dataset.title}: no rung can be priced; the first: {left_out[0].why}")
    return Pricing(stake, scene.held(), scene.dataset.classes, found, tuple(left_out))


def _saving(verdict: Verdict, unit: float) -> Saving:
    contrast = verdict.contrast
    low, high = contrast.interval.low * unit, contrast.interval.high * unit
    word = verdict.word.value.upper()
    needed = settling(verdict.images_needed)
    return Saving(contrast.name_b, contrast.name_a, word, contrast.gain * unit, low, high, *needed)
