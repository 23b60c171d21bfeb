"""The verdict where errors have a price: what to use, what may be claimed, and what the rungs cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anmok.evidence.intervals import Estimate
from anmok.evidence.overkill import Claim
from anmok.ladder.outcome import Outcome
from anmok.ladder.outcome_trust import Priced, PricedRung, Saving
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.phrases import rung_called, texts
from anmok.ladder.settling import MOST

Standing = Literal["decided", "open", "useless", "development"]


@dataclass(frozen=True, slots=True)
class Pricing:
    """Sentences about ``priced``, the outcome's own."""

    outcome: Outcome
    priced: Priced
    standing: Standing
    lang: Lang

    def advice(self) -> str:
        """What to do."""
        words, chosen = self._words, self._chosen
        kind = "cost" if self.priced.kind == "costs" else "miss"
        said = {
            "rung": self._rung(chosen.key),
            "value": self.value(chosen.value),
            "span": self.span(chosen.value),
            "constant": self.priced.constant,
            "constant_cost": _cost(self.priced.constant_cost or 0.0),
            "at_most": self._share(self.priced.at_most or 0.0),
            "overkill": "" if chosen.overkill is None else Figures(self.lang).estimate(chosen.overkill),
        }
        return words[f"{kind}_{self.standing}"].format(**said)

    def certainty(self) -> str:
        """How sure that is: what may be claimed of the defects; without a class of good ones the interval."""
        parts = [self.claimed(), self.promised()]
        return " ".join(part for part in parts if part) or self.rests()

    def rests(self) -> str:
        """The interval, and on how many images."""
        found = self._chosen.value
        return self._words["rests" if self.priced.kind == "costs" else "rests_miss"].format(
            span=self.span(found), images=self._count(found.n)
        )

    def promised(self) -> str:
        """What holds of the overkill to come."""
        priced = self.priced
        if priced.kind == "costs" or priced.at_most is None or priced.reachable is None:
            return ""
        return self._words[f"promise_{priced.promise.replace(' ', '_')}"].format(
            at_most=self._share(priced.at_most),
            reachable=self._share(priced.reachable),
            good=self._count(priced.good_images),
            needed=self._count(priced.good_needed),
        )

    def claimed(self) -> str:
        """Whether a low miss rate may be claimed, and what it would take."""
        claim = self.priced.claim
        if claim is None:
            return ""
        return self._claim_of(claim)

    def margin(self) -> str:
        """What counts as a difference."""
        key = "margin" if self.priced.kind == "costs" else "margin_miss"
        share = Figures(self.lang).width(self.priced.margin)
        return self._words[key].format(margin=_cost(self.priced.margin), share=share)

    def value(self, estimate: Estimate) -> str:
        """A cost as it is, a miss rate in per cent."""
        return _cost(estimate.value) if self.priced.kind == "costs" else self._share(estimate.value)

    def value_of(self, cost: float) -> str:
        """A cost that is no estimate."""
        return _cost(cost)

    def span(self, estimate: Estimate) -> str:
        """Its interval."""
        if self.priced.kind == "overkill":
            return Figures(self.lang).span(estimate.interval)
        low, high = _cost(estimate.interval.low), _cost(estimate.interval.high)
        return f"{low} to {high}" if self.lang == "en" else f"{low}~{high}"

    def saved(self, saving: Saving) -> str:
        """What a rung saves over another, with its interval."""
        if self.priced.kind == "overkill":
            figures = Figures(self.lang)
            return f"{figures.points(saving.saved)} ({figures.points_span(saving.low, saving.high)})"
        low, high = _cost(saving.low, is_signed=True), _cost(saving.high, is_signed=True)
        between = f"{low} to {high}" if self.lang == "en" else f"{low} ~ {high}"
        return f"{_cost(saving.saved, is_signed=True)} ({between})"

    def prevalence(self) -> str:
        """How common the classes were said to be; empty where the mix of the test was taken."""
        if self.priced.prevalence is None:
            return self._words["mix"] if self.priced.kind == "costs" else ""
        shares = zip(self.outcome.data.classes, self.priced.prevalence, strict=True)
        return self._words["prevalence"].format(shares=", ".join(f"{name} {self._share(one)}" for name, one in shares))

    def _claim_of(self, claim: Claim) -> str:
        words, known = self._words, f"claim_{claim.reason.replace(' ', '_')}"
        said = words[known].format(
            defects=self._count(claim.defects),
            photos=self._count(claim.photos),
            missed=self._count(claim.missed),
            below=self._share(claim.below, 0),
            upper=self._share(claim.upper),
            smallest=self._share(claim.smallest),
            least=self._count(claim.least_defects),
            least_photos=self._count(claim.least_photos),
        )
        if claim.is_shown or claim.needed_defects is None or claim.needed_photos is None or not claim.missed:
            return said
        if claim.needed_photos > MOST:
            return f"{said} {words['claim_out_of_reach'].format(most=self._count(MOST))}"
        needed = {"needed": self._count(claim.needed_defects), "needed_photos": self._count(claim.needed_photos)}
        return f"{said} {words['claim_needed'].format(**needed)}"

    @property
    def _words(self) -> dict[str, str]:
        return texts(self.lang)["priced"]

    @property
    def _chosen(self) -> PricedRung:
        return self.priced.rung(self.outcome.recommendation.key)

    def _rung(self, key: str) -> str:
        return rung_called(self.outcome, key, self.lang)

    def _share(self, share: float, digits: int = 1) -> str:
        written = Figures(self.lang).percent(share, digits)
        return written.replace(".0", "", 1)

    def _count(self, number: float) -> str:
        return Figures(self.lang).count(number)


def _cost(cost: float, *, is_signed: bool = False) -> str:
    """Three digits, in the unit of the table."""
    digits = f"{cost:+.3g}" if is_signed else f"{cost:.3g}"
    return f"{cost:{'+' * is_signed},.0f}" if "e+" in digits else digits
