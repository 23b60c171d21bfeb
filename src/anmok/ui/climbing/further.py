"""What a visitor may say beyond the usual: time for fine-tuning, what errors cost, and further models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from anmok.catalogue import Card
from anmok.errors import BadRequest
from anmok.ladder import Plan
from anmok.ladder.plan import DEFAULT_BUDGET, rungs_for
from anmok.ladder.stakes import Stakes, read_prevalence
from anmok.ui.climbing.ascending import BUDGETS, EVERYTHING, models, talkers
from anmok.ui.page import Page
from anmok.ui.picking import Picker
from anmok.ui.texts import Spoken, Words

MOST_MINUTES: Final = 240.0  # of a server's time, for one climb
_GOOD: Final = "good"


@dataclass(frozen=True, slots=True)
class Further:
    """The fields, in the order in which events get them."""

    minutes: Any
    student: Any
    vlm: Any
    overkill: Any
    good: Any
    prevalence: Any

    @property
    def all(self) -> list[Any]:
        return [self.minutes, self.student, self.vlm, self.overkill, self.good, self.prevalence]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What stands in them. ``student`` and ``vlm`` are served names, empty for none; ``overkill`` is in per cent."""

    minutes: float = 0.0
    student: str = ""
    vlm: str = ""
    overkill: float = 0.0
    good: str = ""
    prevalence: str = ""

    @classmethod
    def of(cls, values: Sequence[Any]) -> Wishes:
        """As they come from the browser, where a field that was emptied is None.

        Raises:
            BadRequest: a number that none of the fields lets through.
        """
        minutes, student, vlm, overkill, good, prevalence = values
        told = cls(
            float(minutes or 0), student or "", vlm or "", float(overkill or 0), (good or "").strip(), prevalence or ""
        )
        if not (0 <= told.minutes <= MOST_MINUTES and 0 <= told.overkill < 100):  # nor what is no number
            raise BadRequest(f"want 0 to {MOST_MINUTES:g} minutes, and an overkill of 0 to less than 100 per cent")
        return told

    @property
    def needs_everything(self) -> bool:
        """Something of it belongs to the upper rungs."""
        return self.minutes > 0 or bool(self.student) or bool(self.vlm)


def fields(page: Page) -> Further:
    """An accordion of them, closed."""
    words = page.words
    with gr.Accordion(words("climb.further"), open=False, elem_id="climb-further"):
        minutes = gr.Number(
            0,
            label=words("climb.minutes"),
            info=words("climb.minutes_hint"),
            minimum=0,
            maximum=MOST_MINUTES,
            elem_id="climb-minutes",
        )
        student = _model(page, "student", "climb-student")
        vlm = _model(page, "vlm", "climb-vlm")
        overkill = gr.Number(
            0,
            label=words("climb.overkill"),
            info=words("climb.overkill_hint"),
            minimum=0,
            maximum=50,
            elem_id="climb-overkill",
        )
        good = gr.Textbox(_GOOD, label=words("climb.good"), max_lines=1, elem_id="climb-good")
        prevalence = gr.Textbox(
            "",
            label=words("climb.prevalence"),
            info=words("climb.prevalence_hint"),
            max_lines=1,
            elem_id="climb-prevalence",
        )
    return Further(minutes, student, vlm, overkill, good, prevalence)


def _model(page: Page, what: str, elem_id: str) -> Any:
    """A field for one further served model, hidden where none is served."""
    words, names = page.words, models if what == "student" else talkers
    found, nobody = names(page.host), words("climb.nobody")
    field = gr.Dropdown(
        [(nobody, ""), *((name, name) for name in found)],
        value="",
        label=words(f"climb.{what}"),
        info=words(f"climb.{what}_hint"),
        visible=len(found) > 0,
        filterable=False,
        elem_id=elem_id,
    )
    return page.pickers.add(Picker(field, names, nobody=nobody, is_first=True, least=1))


def planned(
    words: Words,
    usual: Plan,
    how_far: str,
    wishes: Wishes,
    cards: tuple[Card | None, Card | None],
    classes: Sequence[str],
) -> Plan:
    """The plan of a climb.

    Args:
        words: of the page.
        usual: with model, margin and seed.
        how_far: a key of ``BUDGETS``.
        wishes: what was said beyond.
        cards: of the student and of the model that talks.
        classes: that the pictures have.

    Raises:
        Spoken: what was said does not go together, or names a class that there is not.
        BadRequest: a prevalence that cannot be read.
    """
    if wishes.needs_everything and how_far != EVERYTHING:
        raise Spoken(words("climb.needs_all", words(f"climb.budget.{EVERYTHING}")))
    student, vlm = ("" if card is None else card.name for card in cards)
    rungs = BUDGETS[how_far]
    if how_far == EVERYTHING:
        rungs = rungs_for(has_budget=wishes.minutes > 0, has_student=bool(student), has_vlm=bool(vlm))
    return Plan(
        usual.model,
        margin=usual.margin,
        seed=usual.seed,
        rungs=rungs,
        budget=60 * wishes.minutes if wishes.minutes > 0 else DEFAULT_BUDGET,
        stakes=_stakes(words, wishes, classes),
        student=student,
        vlm=vlm,
    )


def _stakes(words: Words, wishes: Wishes, classes: Sequence[str]) -> Stakes | None:
    if wishes.overkill > 0 and wishes.prevalence:
        raise Spoken(words("climb.one_of_both", words("climb.overkill"), words("climb.prevalence")))
    shares = read_prevalence(wishes.prevalence) if wishes.prevalence else ()
    named = [name for name, _ in shares] + ([wishes.good] if wishes.overkill > 0 else [])
    strange = next((name for name in named if name not in classes), None)
    if strange is not None:
        raise Spoken(words("climb.no_class", strange, ", ".join(classes[:5])))
    if wishes.overkill > 0:
        return Stakes(max_overkill=wishes.overkill / 100, good=wishes.good)
    if not shares:
        return None
    missing = next((name for name in classes if name not in dict(shares)), None)
    if missing is not None:
        raise Spoken(words("climb.no_share", missing))
    return Stakes(prevalence=shares, good=wishes.good if wishes.good in classes else "")
