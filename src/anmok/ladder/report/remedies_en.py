"""What is wrong with the data and what to do next, in English."""

from __future__ import annotations

from dataclasses import dataclass

from anmok.ladder.prepare import TINY
from anmok.ladder.report.commands import Action, again, with_table
from anmok.ladder.report.facts import SHOWN_PAIRS, SHOWN_SUSPECTS, WARNINGS, Facts, column
from anmok.ladder.report.figures import Figures
from anmok.ladder.report.phrases import rung_called, spoken

_FIGURES = Figures("en")
_count, _found = _FIGURES.count, _FIGURES.found
_percent, _width = _FIGURES.percent, _FIGURES.width


@dataclass(frozen=True, slots=True)
class EnglishRemedies:
    """Says ``facts``. Every method returns whole sentences of plain text."""

    facts: Facts

    def wrong(self) -> str:
        """What is wrong with my data?"""
        known, outcome = self.facts, self.facts.outcome
        parts = [self.leak()] if outcome.leak is not None else []
        parts.extend(self._suspicions())
        if suspects := len(outcome.suspects):
            noun = "one image" if suspects == 1 else f"{_found(suspects)} images"
            shown = f"the {SHOWN_SUSPECTS} surest" if suspects > SHOWN_SUSPECTS else "all"
            parts.append(
                f"Model and label disagree about {noun}, {shown} shown below: check them; in a class where the model "
                "is weak, it may be the model that is wrong."
            )
        if pairs := len(outcome.duplicates):
            noun = "One pair" if pairs == 1 else f"{_found(pairs)} pairs"
            under = f", {_count(known.conflicts)} of them under two labels" if known.conflicts else ""
            shown = f"; {SHOWN_PAIRS} are shown below" if pairs > SHOWN_PAIRS else ", shown below"
            parts.append(f"{noun} of near-duplicates{under}{shown}.")
        warnings = outcome.data.warnings
        parts.extend(_sentence(warning) for warning in warnings[:WARNINGS])
        if more := max(len(warnings) - WARNINGS, 0):
            parts.append(f"{more} more warning{'s' * (more > 1)} below.")
        return " ".join(parts) or "We looked for leaks, duplicates and wrong labels, and found none."

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

    def next_steps(self) -> tuple[Action, ...]:
        """What next?"""
        known, outcome = self.facts, self.facts.outcome
        found = [*self._measures()]
        if known.weak_spot is not None:
            found.append(Action(f"Label more images of “{known.weak_spot.name}” before others: it is found least."))
        found.extend(self._checks())
        if known.conflicts or outcome.suspects:
            pairs = " and the pairs under two labels" if known.conflicts else ""
            words = f"Look at the doubtful labels{pairs} below, change only real mistakes, and run again:"
            found.append(Action(words, again(outcome.reproduce, {})))
        if outcome.leak is not None:
            found.append(self._grouped("Write down which images belong together, instead of our guess"))
        if doubling := self.doubling():
            found.append(Action(doubling))
        if known.standing in ("decided", "open") and outcome.follow_up:
            found.append(Action("Try it on new images:", outcome.follow_up))
        return tuple(found)

    def doubling(self) -> str:
        """What twice the labels would buy; empty where the curve does not tell."""
        gain = self.facts.outcome.recommendation.next_gain
        if gain is None:
            return ""
        little = "little, " if gain < self.facts.outcome.margin else ""
        bought = f"{little}about {_width(gain)}" if gain > 0 else "nothing"
        curve = f"the learning curve of rung {self.facts.chosen.key}"
        return f"If {curve} goes on as it ends (an extrapolation), doubling the labels would buy {bought}."

    def _suspicions(self) -> list[str]:
        """What a control that works means for the verdict."""
        found = []
        for control in self.facts.suspicious:
            name, expected = spoken(column(control), "en"), _percent(control.expected)
            reached = f"{_percent(control.accuracy.value)}, where {expected} is expected"
            told = f"The label can be told without a look at the picture, by the {name} ({reached})"
            found.append(
                {
                    "series": f"{told}: the images that lie together may have been made together, and then the "
                    "accuracy above is too high.",
                    "making": f"{told}: if that comes from how the images were made and not from what they show, the "
                    "accuracy above is too high.",
                    "name": f"{told}: harmless as long as the model sees pixels alone.",
                    "none": f"A control works that must not: {name} ({reached}). Trust no figure here before you "
                    "know why.",
                }[self.facts.cause(control)]
            )
        return found

    def _checks(self) -> list[Action]:
        causes = [self.facts.cause(control) for control in self.facts.suspicious]
        found = []
        if "none" in causes:
            found.append(Action("Find out why that control works before you use any figure here."))
        if "making" in causes:
            found.append(
                Action(
                    "Check that the images of all classes were taken and saved alike (camera, size, format, quality); "
                    "where they were not, make them alike and run again."
                )
            )
        if "series" in causes and self.facts.outcome.leak is None:
            found.append(self._grouped("Write down which images were made together"))
        return found

    def _measures(self) -> tuple[Action, ...]:
        known, typed = self.facts, self.facts.outcome.reproduce
        if known.standing == "development":
            there = _count(known.outcome.data.pool)
            return (
                Action(
                    f"{there} images have a label so far: label more, at least {TINY} in all, so that some can be "
                    "kept aside as a sealed test set."
                ),
            )
        if known.standing == "useless":
            words = "Try another model (anmok models lists them), or clearer images, before you build on this:"
            return (Action(words, again(typed, {"--model": "NAME"})),)
        if known.standing == "open" and known.images_needed is not None:
            needed = _count(known.images_needed)
            return (Action(f"To settle it, label until the test set holds about {needed} images."),)
        if known.standing == "open" and known.is_out_of_reach:
            return (
                Action("More labels will not settle it: take the cheaper rung, or ask for less by a larger --margin."),
            )
        return ()

    def _grouped(self, words: str) -> Action:
        columns = "in a table with the columns image,label,group"
        return Action(f"{words}, {columns}:", with_table(self.facts.outcome.reproduce, "labels.csv"))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
