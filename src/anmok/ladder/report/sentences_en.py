"""The sentences in English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anmok.ladder.outcome import Control, Step
from anmok.ladder.report.facts import CANNOT_TELL, METADATA, WARNINGS, Facts, contrast
from anmok.ladder.report.figures import Figures
from anmok.ladder.report.phrases import rung_called, spoken

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
            return f"Do not rely on this yet: even {rung}, our choice, gets {right} right, {self._no_better()}."
        if known.standing == "open":
            return f"{self._start(rung, right)} {CANNOT_TELL} from these images."
        if known.is_zero_shot:
            enough = f"Zero-shot is enough{', so far' * (known.strength == 'weak')}"
            return f"{enough}: {rung} needs no labels and gets {right} of the test images right."
        labels = _count(known.chosen.labels)
        verb = "For now, use" if known.strength == "weak" else "Use"
        return (
            f"{verb} {rung}: with {labels} labels it gets {right} of the test images right{self._gained()}"
            f"{self._fewer()}."
        )

    def certainty(self) -> str:
        """Second sentence of the verdict: how sure that is."""
        known = self.facts
        interval = f"95 % interval {_span(known.chosen.accuracy.interval)}"
        images = f"{_count(known.chosen.accuracy.n)} {'test ' * (known.standing != 'development')}images"
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
            first = f"Not yet: {_percent(known.chosen.accuracy.value)} right, {self._no_better()}."
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
                f"It rests on {_count(accuracy.n)} images that are worth only about "
                f"{_count(known.worth)} independent ones, because images of one group are alike."
            )
        else:
            parts.append(f"It rests on {_count(accuracy.n)} images.")
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
        step, honesty = self.facts.chosen, self.facts.outcome.honesty
        labels = "No labels to train on" if step.labels == 0 else f"{_count(step.labels)} labels"
        if honesty.labels_to_choose:
            labels += f" ({_count(honesty.labels_to_choose)} were used to choose)"
        if tested := self.facts.outcome.data.test:
            labels += f", {_count(tested)} {'more ' if step.labels else ''}to test,"
        time = f"{_duration(step.cold_seconds)} of computing"
        if step.cold_seconds > step.seconds:
            time += f" ({_duration(step.seconds)} once the features are cached)"
        return (
            f"{labels} and {time}. In use: {_milliseconds(step.ms_per_image)} per image on this machine, and "
            f"{_megabytes(step.megabytes)} to ship."
        )

    def wrong(self) -> str:
        """What is wrong with my data?"""
        known, outcome = self.facts, self.facts.outcome
        parts = []
        if outcome.leak is not None:
            parts.append(self.leak())
        else:
            parts.extend(self._suspicions())
        if outcome.suspects:
            parts.append(
                f"The labels that fit their images least are shown below ({_count(len(outcome.suspects))}): check "
                "them; in a class where the model is weak, it may be the model that is wrong."
            )
        if outcome.duplicates:
            under = f", {known.conflicts} of them under two labels" if known.conflicts else ""
            parts.append(f"{_plural(len(outcome.duplicates), 'pair')} of near-duplicates, shown below{under}.")
        warnings = outcome.data.warnings
        parts.extend(_sentence(warning) for warning in warnings[:WARNINGS])
        if len(warnings) > WARNINGS:
            parts.append(f"{_plural(len(warnings) - WARNINGS, 'more warning')} below.")
        return " ".join(parts) or "We looked for leaks, duplicates and wrong labels, and found none."

    def next_steps(self) -> str:
        """What next?"""
        known, outcome = self.facts, self.facts.outcome
        parts = [*self._measures()]
        if known.conflicts or outcome.suspects:
            pairs = " and the pairs under two labels" if known.conflicts else ""
            parts.append(f"Look at the doubtful labels{pairs} below, change only real mistakes, and run again.")
        if outcome.leak is not None:
            parts.append("Write down which images belong together and pass it as a group column, instead of our guess.")
        if doubling := self.doubling():
            parts.append(doubling)
        if known.standing in ("decided", "open") and outcome.follow_up:
            parts.append(f"Try it on new images: {outcome.follow_up}")
        return " ".join(parts)

    def doubling(self) -> str:
        """What twice the labels would buy; empty where the curve does not tell."""
        gain = self.facts.outcome.recommendation.next_gain
        if gain is None:
            return ""
        little = "little, " if gain < self.facts.outcome.margin else ""
        bought = f"{little}about {_width(gain)}" if gain > 0 else "nothing"
        return f"By the learning curve, doubling the labels would buy {bought}."

    def leak(self) -> str:
        """What gives the label away, and what that does to a model; empty where nothing does."""
        leak = self.facts.outcome.leak
        if leak is None:
            return ""
        return (
            f"The {spoken(leak.control, 'en')} alone predicts the label at "
            f"{_percent(leak.control_random.value)}, without a look at the picture. A random split would have "
            f"claimed {_percent(leak.random_split.value)} for {rung_called(self.facts.outcome, leak.rung, 'en')}; "
            f"with related images kept together, {_percent(leak.group_split.value)} survives."
        )

    def _suspicions(self) -> list[str]:
        by_metadata = [control for control in self.facts.suspicious if control.name.startswith(METADATA)]
        found = []
        if by_metadata:
            reached = [_reached(control.name.removeprefix(METADATA), control) for control in by_metadata]
            expected = _percent(by_metadata[0].expected)
            listed = ", ".join(reached)
            found.append(f"Without a look at the picture, the label is told by: {listed}; {expected} expected.")
        for control in self.facts.suspicious:
            if control not in by_metadata:
                expected = _percent(control.expected)
                found.append(f"A control works that must not: {_reached(control.name, control)}; {expected} expected.")
        return found

    def _measures(self) -> Sequence[str]:
        known = self.facts
        if known.standing == "development":
            return ("Label more images, enough to keep some aside as a sealed test set.",)
        if known.standing == "useless":
            return ("Try another model, or clearer images and labels, before anything is built on this.",)
        if known.standing == "open" and known.images_needed is not None:
            return (f"To settle it, label until the test set holds about {_count(known.images_needed)} images.",)
        return ()

    def _start(self, rung: str, right: str) -> str:
        known = self.facts
        if known.best.key == known.chosen.key:
            return f"Start with {rung}, the best so far at {right} right; whether it is really ahead we"
        best = self._rung(known.best)
        return f"Start with {rung}, the cheapest candidate, at {right} right; whether {best} is better we"

    def _no_better(self) -> str:
        majority = self.facts.majority
        if majority is None:
            return "which is not shown to be better than guessing"
        share = _percent(majority.accuracy.value)
        lead = self.facts.outcome.recommendation.lead
        span = "" if lead is None else f": its true lead may be {_points_span(lead.low, lead.high)} points"
        return f"not shown to be better than always answering “{self.facts.majority_class}” ({share}){span}"

    def _gained(self) -> str:
        found = contrast(self.facts.outcome, self.facts.chosen.key)
        if found is None or found.word != "BETTER":
            return ""
        span = _points_span(found.low, found.high, is_signed=False)
        return f", {_width(found.gain)} ({span}) more than rung {found.against}"

    def _fewer(self) -> str:
        shots = self.facts.shots_enough
        return "" if shots is None else f"; {_plural(shots, 'label')} per class would do about as well"

    def _caveat(self) -> str:
        known, leak = self.facts, self.facts.outcome.leak
        found = ""
        if leak is not None and leak.random_split.value > leak.group_split.value:
            flattery = _width(leak.random_split.value - leak.group_split.value)
            found = f"; a random split would have promised {flattery} too much"
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
            found.append(f"Whether it beats the cheaper rung {known.unbeaten.against} we {CANNOT_TELL}{settle}.")
        return found

    def _settling(self) -> str:
        needed, now = self.facts.images_needed, self.facts.chosen.accuracy.n
        if needed is None:
            return "we cannot name a number of images that would settle it"
        today = f" (now {_count(now)})" if needed > now else ""
        return f"a test set of about {_count(needed)} images{today} would settle it"

    def _rung(self, step: Step) -> str:
        return rung_called(self.facts.outcome, step.key, "en")

    def _margin(self) -> str:
        return _width(self.facts.outcome.margin)


def _reached(name: str, control: Control) -> str:
    return f"{spoken(name, 'en')} ({_percent(control.accuracy.value)})"


def _plural(number: int, noun: str) -> str:
    return f"{_count(number)} {noun}{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
