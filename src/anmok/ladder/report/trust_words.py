"""How far to trust one answer, in words: each method one sentence or two, from the figures alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anmok.ladder.outcome import Outcome
from anmok.ladder.outcome_trust import Bar, Trust
from anmok.ladder.report.figures import Figures, Lang
from anmok.ladder.report.phrases import rung_called, spoken, texts

_SHARE = 1 / 3  # of the images that count as those it is surest of


@dataclass(frozen=True, slots=True)
class Answering:
    """Sentences about ``trust``, or why there are none. An empty one is not said."""

    outcome: Outcome
    lang: Lang

    def paragraphs(self) -> tuple[str, ...]:
        """What the section says, the plainest first."""
        trust, words = self.outcome.trust, texts(self.lang)["trust"]
        if trust is None:
            return (words["none"],)
        if trust.calibration is None:
            return (words["why_not"].format(rung=self._rung(trust), why=spoken(trust.why_not, self.lang)),)
        found = (self.ends(), self.scores(), self.answered(), self.labels(), self.strangers())
        return tuple(sentence for sentence in found if sentence)

    def ends(self) -> str:
        """How often the surest and the least sure answers are right."""
        trust = self._told()
        if trust is None or trust.calibration is None:
            return ""
        bars, figures = trust.calibration.after.bars, Figures(self.lang)
        if len(bars) < 2:
            return ""
        top, bottom = _right(bars[::-1]), _right(bars)
        words = texts(self.lang)["trust"]
        return words["ends"].format(
            rung=self._rung(trust), top=figures.percent(top, 0), bottom=figures.percent(bottom, 0)
        )

    def scores(self) -> str:
        """Whether a score means what it says."""
        trust = self._told()
        if trust is None or trust.calibration is None:
            return ""
        found, figures, words = trust.calibration, Figures(self.lang), texts(self.lang)["trust"]
        after = found.after
        is_wrong = after.ece > after.by_chance
        said = words["scores_wrong" if is_wrong else "scores_fine"].format(
            ece=figures.percent(after.ece), span=figures.span(after.interval), chance=figures.percent(after.by_chance)
        )
        if is_wrong and abs(after.overconfidence) >= 0.005:
            leaning = "too_sure" if after.overconfidence > 0 else "too_modest"
            said += " " + words[leaning].format(points=figures.width(after.overconfidence))
        if not found.is_fitted:
            return f"{said} {words['not_corrected'].format(images=figures.count(trust.images))}"
        heat, before = f"{found.temperature:.2f}", figures.percent(found.before.ece)
        return f"{said} {words['corrected'].format(before=before, temperature=heat)}"

    def labels(self) -> str:
        """Sets of labels."""
        trust = self._told()
        if trust is None or trust.sets is None:
            return ""
        found, figures, words = trust.sets, Figures(self.lang), texts(self.lang)["trust"]
        said = words["sets"].format(
            promised=figures.percent(found.promised, 0),
            covered=figures.estimate(found.covered),
            images=figures.count(found.images),
            range=figures.span(found.range),
            size=f"{found.mean_size:.2f}",
            single=figures.percent(found.single.value, 0),
        )
        return said if found.is_proven else f"{said} {words['sets_usual']}"

    def answered(self) -> str:
        """Where to leave the answer to a person."""
        trust = self._told()
        if trust is None or trust.abstaining is None:
            return ""
        found, figures, words = trust.abstaining, Figures(self.lang), texts(self.lang)["trust"]
        at_most = figures.percent(found.at_most, 0)
        if found.threshold is None or found.answered is None:
            return words["never"].format(at_most=at_most, needed=figures.count(found.needed))
        wrong = figures.percent(0.0) if found.errors is None else figures.estimate(found.errors)
        return words["answer_from"].format(
            threshold=rounded_up(found.threshold),
            coverage=figures.percent(found.answered.value, 0),
            errors=wrong,
            at_most=at_most,
        )

    def strangers(self) -> str:
        """Images of another kind."""
        trust = self._told()
        if trust is None or trust.strangers is None:
            return ""
        found, figures, words = trust.strangers, Figures(self.lang), texts(self.lang)["trust"]
        if found.near is None or found.interval is None:
            return words["strangers_unknown"]
        said = words["strangers"].format(
            near=figures.percent(found.near, 0), span=figures.span(found.interval), hardest=found.hardest
        )
        if found.limit is None:
            return said
        limit = words["strangers_limit"].format(limit=f"{found.limit:.2f}", rejected=figures.percent(found.rejected, 0))
        return f"{said} {limit}"

    def source(self) -> str:
        """What it rests on."""
        trust = self._told()
        if trust is None:
            return ""
        words, count = texts(self.lang)["trust"], Figures(self.lang).count
        ending = "source_development" if self.outcome.is_development else "source_test"
        first = words[f"source_{trust.source.replace(' ', '_').replace('-', '_')}"].format(images=count(trust.images))
        return f"{first} {words[ending].format(tested=count(self.outcome.data.test))}"

    def command(self) -> str:
        """That answers only what it is sure of; empty where nothing is promised, or nothing was written."""
        trust = self._told()
        if not self.answered() or trust is None or trust.abstaining is None or trust.abstaining.threshold is None:
            return ""
        if not self.outcome.follow_up:
            return ""
        return f"{self.outcome.follow_up} --threshold {rounded_up(trust.abstaining.threshold)}"

    def line(self) -> str:
        """One line for a terminal."""
        return self.answered() or ("" if self.outcome.trust is None else self.paragraphs()[0])

    def _told(self) -> Trust | None:
        trust = self.outcome.trust
        return None if trust is None or trust.calibration is None else trust

    def _rung(self, trust: Trust) -> str:
        return rung_called(self.outcome, trust.key, self.lang)


def rounded_up(threshold: float) -> str:
    """Three digits: no image is answered that the threshold would not have let through."""
    return f"{min(math.ceil(threshold * 1000 - 1e-9) / 1000, 1.0):.3f}"


def _right(bars: Sequence[Bar]) -> float:
    """The share that is right of the first third of the images or a little more."""
    wanted, seen, right = _SHARE * sum(bar.images for bar in bars), 0, 0.0
    for bar in bars:
        if seen >= wanted:
            break
        seen += bar.images
        right += bar.images * bar.accuracy
    return right / max(seen, 1)
