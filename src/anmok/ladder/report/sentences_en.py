"""The sentences in English."""

from __future__ import annotations

from dataclasses import dataclass

from anmok.ladder.outcome import Step
from anmok.ladder.report.facts import CANNOT_TELL, Facts, contrast, gain
from anmok.ladder.report.figures import Figures, difference
from anmok.ladder.report.phrases import rung_called
from anmok.ladder.settling import MOST

_FIGURES = Figures("en")
_count = _FIGURES.count
_duration = _FIGURES.duration
_estimate = _FIGURES.estimate
_megabytes = _FIGURES.megabytes
_milliseconds = _FIGURES.milliseconds
_percent = _FIGURES.percent
_points_span = _FIGURES.points_span
_span = _FIGURES.span
_width = _FIGURES.width


@dataclass(frozen=True, slots=True)
class English:
    """Says ``facts``. Every method returns whole sentences of plain text."""

    facts: Facts

    @property
    def questions(self) -> tuple[str, ...]:
        """The five, in the order of the report."""
        return (
            "Is it good enough?",
            "How sure is that?",
            "What did it cost?",
            "What is wrong with my data?",
            "What next?",
        )

    def advice(self) -> str:
        """First sentence of the verdict: what to do."""
        known, right = self.facts, _percent(self.facts.chosen.accuracy.value)
        rung = self._rung(known.chosen)
        if known.standing == "development":
            return (
                f"Too few labels for a verdict: {rung} looks like the one to start with, right on {right} of "
                "the images (a development estimate, not a test)."
            )
        if known.standing == "useless":
            return f"Do not rely on this yet: {rung}, our choice, gets {right} right{self._no_better()}."
        if known.standing == "open":
            return f"Start with {self._start(rung, right)} {CANNOT_TELL} from these images."
        if known.is_zero_shot:
            enough = f"Zero-shot is enough{', so far' * (known.strength == 'weak')}"
            return f"{enough}: {rung} needs no labels and gets {right} of the test images right."
        labels = _plural(known.chosen.labels, "label")
        verb = "For now, use" if known.strength == "weak" else "Use"
        return (
            f"{verb} {rung}: with {labels} to learn from, it gets {right} of the test images right{self._gained()}"
            f"{self._fewer()}."
        )

    def certainty(self) -> str:
        """Second sentence of the verdict: how sure that is."""
        known = self.facts
        interval = f"95 % interval {_span(known.chosen.accuracy.interval)}"
        images = _plural(known.chosen.accuracy.n, "image" if known.standing == "development" else "test image")
        if known.standing == "development":
            return (
                f"This is weak evidence: {interval} on {images} that also served to develop it, and no rung "
                "is claimed to be better than another."
            )
        if known.standing == "open":
            return f"This is weak evidence: {interval} from {images}, and {self._settling()}."
        opening = {
            "firm": "This is firm",
            "fair": "Take the figure as approximate",
            "weak": "This is weak evidence",
        }[known.strength]
        return f"{opening}: {interval} from {images}{self._caveat()}."

    def enough(self) -> str:
        """Is it good enough?"""
        known = self.facts
        of_hundred = min(max(round(known.chosen.accuracy.value * 100), 0), 100)
        if known.standing == "useless":
            first = f"Not yet{self._why_open()}."
        elif known.standing == "development":
            first = f"Too early to say. The development estimate is {of_hundred} right of 100 images."
        else:
            first = f"It gets about {of_hundred} of 100 images right and {100 - of_hundred} wrong."
        if known.standing != "useless" and known.majority is not None:
            share = _percent(known.majority.accuracy.value)
            first += f" Always answering “{known.majority_class}” would get {share}."
        weakest = known.weakest
        if weakest is not None:
            first += f" It is weakest on “{weakest.name}”: it finds {_estimate(weakest.recall)} of them."
        if known.more_balanced is not None:
            ahead, own = known.more_balanced.balanced_accuracy, known.chosen.balanced_accuracy
            first += (
                f" Where every class counts the same (balanced accuracy), {self._rung(known.more_balanced)} did "
                f"better: {_percent(ahead)} against {_percent(own)}."
            )
        if known.standing in ("decided", "open"):
            first += " Whether that will do depends on what a mistake costs you."
        return first

    def sure(self) -> str:
        """How sure is that?"""
        known, accuracy = self.facts, self.facts.chosen.accuracy
        what = "development estimate" if known.standing == "development" else "accuracy"
        parts = [f"The 95 % interval of the {what} is {_span(accuracy.interval)}."]
        if known.worth is not None:
            parts.append(
                f"It rests on {_plural(accuracy.n, 'image')} worth only about "
                f"{_count(known.worth)} independent ones, because images of one group are alike."
            )
        else:
            parts.append(f"It rests on {_plural(accuracy.n, 'image')}.")
        parts.extend(self._decision())
        openings = known.outcome.honesty.openings
        if openings > 1:
            parts.append(
                f"The test images have been opened by {openings} different plans (models, settings or splits); "
                "each look makes the figure a little too good."
            )
        return " ".join(parts)

    def cost(self) -> str:
        """What did it cost?"""
        step = self.facts.chosen
        labels = self._used_again() if self.facts.outcome.is_development else self._used_once()
        time = (
            f"To fit this rung takes about {_duration(step.cold_seconds)}" if step.cold_seconds else "Nothing is fitted"
        )
        if step.cold_seconds > step.seconds:
            each = _milliseconds(step.ms_per_image)
            time += f" from nothing, at {each} per image ({_duration(step.seconds)} once the features are cached)"
        return (
            f"{labels}. {time}. In use: {_milliseconds(step.ms_per_image)} per image on this machine, and "
            f"{_megabytes(step.megabytes)} to ship."
        )

    def _used_once(self) -> str:
        """The labels of a climb with a sealed test: none of these is one of those to learn from."""
        step, chosen = self.facts.chosen, self.facts.outcome.honesty.labels_to_choose
        labels = "No labels to learn from" if step.labels == 0 else f"{_plural(step.labels, 'label')} to learn from"
        if chosen and step.labels:
            labels += " and to choose settings by" if chosen == step.labels else f" ({_count(chosen)} to choose by)"
        if tested := self.facts.outcome.data.test:
            labels += f", {_count(tested)} to test: {_count(self.facts.labels)} in all"
        if chosen and not step.labels:
            labels += f" ({_count(chosen)} more to choose the settings of other rungs by)"
        return labels

    def _used_again(self) -> str:
        """The labels of a climb without a sealed test, where each of them has several parts to play."""
        total, learned = self.facts.labels, self.facts.chosen.labels
        of_them = "" if learned == total else f", {_count(learned) if learned else 'none'} of them to learn from"
        parts = ["to learn from"] if learned == total else []
        parts += ["to choose settings by"] if self.facts.outcome.honesty.labels_to_choose else []
        used = " and ".join([", ".join(parts), "to test"] if parts else ["to test"])
        return f"{_plural(total, 'label')} in all{of_them}: each of them was used {used}"

    def weak_spot(self) -> str:
        """The class that the accuracy hides; empty where there is none."""
        row = self.facts.weak_spot
        return "" if row is None else f"But of “{row.name}” it finds only {_estimate(row.recall)}."

    def _start(self, rung: str, right: str) -> str:
        known = self.facts
        if known.best.key == known.chosen.key:
            return f"{rung}, the best so far at {right} right; whether it is really ahead we"
        best = f"rung {known.best.key} ({known.best.rung}, {_percent(known.best.accuracy.value)})"
        return (
            f"{rung}, the first on the ladder to come within {self._margin()} of the best, at {right} right; "
            f"whether {best} is better we"
        )

    def _largest(self) -> str:
        return f"always answering “{self.facts.majority_class}”"

    def _no_better(self) -> str:
        known = self.facts
        if known.majority is None:
            return ", which is not shown to be better than guessing"
        share, lead = _percent(known.majority.accuracy.value), known.outcome.recommendation.lead
        if known.lead <= 0:
            return f", no more than {self._largest()} ({share})"
        span = "" if lead is None else f" (95 % interval {_points_span(lead.low, lead.high)} points)"
        return f", {self._largest()} {share}: that lead of {_width(known.lead)} is not shown to be real{span}"

    def _why_open(self) -> str:
        """Why an interval above the largest class's share is no proof: that share is uncertain as well."""
        known = self.facts
        if known.majority is None or known.lead <= 0:
            return f": {_percent(known.chosen.accuracy.value)} right{self._no_better()}"
        own, other = known.chosen.accuracy.interval, known.majority.accuracy.interval
        few = f", because the images are worth only about {_count(known.worth)} independent ones" if known.worth else ""
        return (
            f". The lead of {_width(known.lead)} over {self._largest()} may be chance: both figures are uncertain "
            f"({_span(own)} and {_span(other)}){few}"
        )

    def _gained(self) -> str:
        """Over the rung before, where that had labels too; else over the largest class."""
        known = self.facts
        found, lead = contrast(known.outcome, known.chosen.key), known.outcome.recommendation.lead
        is_shown = found is not None and found.word == "BETTER"
        against = None if found is None else next((s for s in known.outcome.steps if s.key == found.against), None)
        if lead is not None and known.majority is not None and not (is_shown and against and against.labels):
            span = _points_span(lead.low, lead.high, is_signed=False)
            return f", {_width(known.lead)} ({span}) more than {self._largest()}"
        if found is None or not is_shown:
            return ""
        span = _points_span(found.low, found.high, is_signed=False)
        return f", {_width(gain(known.outcome, found))} ({span}) more than rung {found.against}"

    def _fewer(self) -> str:
        shots = self.facts.shots_enough
        return "" if shots is None else f"; {_plural(shots, 'label')} per class would do about as well"

    def _caveat(self) -> str:
        known, leak = self.facts, self.facts.outcome.leak
        found = ""
        if known.standing == "useless" and known.majority is not None:
            share, span = known.majority.accuracy.value, known.majority.accuracy.interval
            found = f", but the {_percent(share)} of the largest class may itself be {_span(span)}"
        if leak is not None and (flattery := difference(leak.random_split.value, leak.group_split.value)) > 0:
            short = rung_called(known.outcome, leak.rung, "en").partition(" (")[0]
            found += f"; a random split would have promised {_width(flattery)} too much for {short}"
        if known.unbeaten is not None:
            found += f", and whether it beats the cheaper rung {known.unbeaten.against} we {CANNOT_TELL}"
        elif not found and known.standing == "decided" and known.best.key != known.chosen.key:
            found = f", and the best rung ({known.best.key}) is not ahead by more than {self._margin()}"
        return found

    def _decision(self) -> list[str]:
        known = self.facts
        if known.standing == "development":
            return ["Nothing was tested on sealed images, so no rung is claimed to be better than another."]
        if known.standing == "open":
            return [f"Which rung is better we {CANNOT_TELL}: {self._settling()}."]
        found = []
        if known.standing == "decided" and known.best.key != known.chosen.key:
            best = self._rung(known.best)
            found.append(f"Scored highest: {best}, but it is not ahead by more than {self._margin()}.")
        if known.unbeaten is not None:
            needed = known.unbeaten.images_needed
            settle = "" if needed is None else f"; about {_count(needed)} test images would settle it"
            if known.unbeaten.is_out_of_reach:
                settle = f"; {_out_of_reach()}"
            found.append(f"Whether it beats the cheaper rung {known.unbeaten.against} we {CANNOT_TELL}{settle}.")
        return found

    def _settling(self) -> str:
        known = self.facts
        needed, now = known.images_needed, known.chosen.accuracy.n
        if known.is_out_of_reach:
            return _out_of_reach()
        if needed is None:
            return "we cannot name a number of images that would settle it"
        size = f"a test set of about {_plural(needed, 'image')}{f' (now {_count(now)})' * (needed > now)}"
        if known.rival is not None:
            return f"{size} would settle rung {known.rival.key} against rung {known.chosen.key}"
        ahead = f"no rung is ahead of rung {known.chosen.key} by more than {self._margin()}"
        return f"{size} would show that {ahead}, if the differences are as they look"

    def _rung(self, step: Step) -> str:
        return rung_called(self.facts.outcome, step.key, "en")

    def _margin(self) -> str:
        return _width(self.facts.outcome.margin)


def _out_of_reach() -> str:
    return f"it would take more than {_count(MOST)} test images, so it is not to be settled by labelling more"


def _plural(number: int, noun: str) -> str:
    return f"{_count(number)} {noun}{'' if number == 1 else 's'}"
