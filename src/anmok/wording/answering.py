"""The tokens of an answer, as they stand where a model answers."""

from __future__ import annotations

from collections.abc import Sequence

from anmok.inputs import Conversation
from anmok.wording.reader import Reader, Span
from anmok.wording.template import Template

_ASKED, _SAID = "?", "y"


def answer_ids(reader: Reader, template: Template, answers: Sequence[str]) -> list[tuple[int, ...]]:
    """The ids of each answer behind a prompt, without the token that ends it.

    What the template writes before an answer and not at the end of a prompt (a blank, mostly) belongs to them.
    """
    before = template.spans(Conversation.about(question=_ASKED), ())
    lead = [Span(text)] if (text := _lead(template, before)) else []
    prompt = reader.ids(before)
    found = []
    for answer in answers:
        ids = reader.ids([*before, *lead, Span(answer, is_said=True)])
        if ids[: len(prompt)] != prompt:  # the prompt's last letters would go into one token with the answer's first
            ids = prompt + reader.ids([*lead, Span(answer, is_said=True)])
        found.append(tuple(ids[len(prompt) :]))
    return found


def _lead(template: Template, before: Sequence[Span]) -> str:
    """What stands between the prompt and an answer that was given to it."""
    after = template.spans(Conversation.about(question=_ASKED).then(_SAID, _ASKED), ())
    said = [i for i, span in enumerate(after) if span.is_said]
    told, prompt = "".join(span.text for span in after[: said[1]]), "".join(span.text for span in before)
    return told[len(prompt) :] if told.startswith(prompt) else ""
