"""A chat template: what stands between the turns of a conversation, rendered in a sandbox.

What was said goes in after rendering, so the template decides where it stands but never reads it, and nothing in it
can be taken for the template's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from jinja2.exceptions import TemplateError

from anmok.errors import BadRequest, BadWeights
from anmok.inputs import Clip, Conversation, Frames, Shown, Sound, Text, Turn
from anmok.wording.reader import Span
from anmok.wording.sandbox import LONGEST, Refusal, Sandbox

Content = Literal["parts", "text"]
Slot = Literal["image", "video", "sound"]

# What transformers' templates call them.
_TYPES: Final[Mapping[Slot, str]] = {"image": "image", "video": "video", "sound": "audio"}
# Private letters of Unicode around a number: no template has them.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_MARK = re.compile(f"{_OPEN}([0-9]{{1,6}}){_CLOSE}")
_PROBE, _OTHER = "\ue0f4", "\ue0f5"
# What Python raises where a template does what it cannot, or is nested deeper than it reads.
_BREAKDOWNS: Final = (
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    MemoryError,
    SyntaxError,
)


class Template:
    """One model's.

    Args:
        source: the template, in Jinja, as transformers renders it.
        content: whether a turn's content is handed over as ``parts`` (texts, pictures, clips and sounds in their order)
            or as one ``text``; ``slots`` then stand in it as they are.
        slots: how the template (or, for ``text``, this class) writes a picture, a clip and a sound.
        special: texts that the template may ask for by name (``bos_token``).
        name: of the card, for messages.

    Raises:
        BadWeights: it is no template.
    """

    def __init__(
        self,
        source: str,
        content: Content,
        slots: Mapping[Slot, str],
        special: Mapping[str, str],
        name: str,
    ) -> None:
        if len(source) > LONGEST:
            raise BadWeights(f"{name}: its chat template has {len(source):,} letters, more than {LONGEST:,}")
        self._sandbox = Sandbox()
        try:
            self._template = self._sandbox.compiled(source)
        except (TemplateError, *_BREAKDOWNS) as error:
            raise BadWeights(f"{name}: its chat template cannot be read ({_short(error)})") from None
        self._content = content
        self._slots = dict(slots)
        # Where both are written alike the template may know pictures only.
        self._clip: Slot = "image" if slots.get("video") == slots.get("image") else "video"
        self._special = dict(special)
        self._name = name
        self._trims = {role: self._trims_of(role) for role in ("system", "user", "assistant")}

    def spans(self, said: Conversation, shown: Sequence[str]) -> list[Span]:
        """The prompt. ``shown`` are the texts that stand for pictures, clips and sounds, in their order.

        Raises:
            BadRequest: the template refuses the conversation (a system turn, mostly).
            BadWeights: it has no place for what is shown.
        """
        texts: list[Span] = []
        messages = [self._message(turn, texts) for turn in said.turns]
        rendered = self._rendered(messages)
        spans: list[Span] = []
        at = 0
        for mark in _MARK.finditer(rendered):
            if int(mark[1]) >= len(texts):
                raise BadWeights(f"{self._name}: its chat template has letters of its own in Unicode's private range")
            spans += [Span(rendered[at : mark.start()]), texts[int(mark[1])]]
            at = mark.end()
        spans.append(Span(rendered[at:]))
        return self._filled(spans, [*shown], [self._slots[self._slot(one)] for one in said.shown])

    def _message(self, turn: Turn, texts: list[Span]) -> dict[str, Any]:
        """As the template gets it: marks in place of texts, which are put away."""
        parts: list[dict[str, str]] = []
        for part in turn.parts:
            if isinstance(part, Text):
                text = self._trimmed(part.text, turn.role)
                parts.append({"type": "text", "text": f"{_OPEN}{len(texts)}{_CLOSE}"})
                texts.append(Span(text, is_said=True))
            else:
                slot = self._slot(part)
                is_text = self._content == "text"
                parts.append({"type": _TYPES[slot], **({"text": f"{self._slots[slot]}\n"} if is_text else {})})
        if not parts:  # an answer that was stopped before its first word
            parts.append({"type": "text", "text": ""})
        content: Any = parts
        if self._content == "text":
            content = "".join(one["text"] for one in parts)
        return {"role": turn.role, "content": content}

    def _rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        self._sandbox.begin()
        try:
            rendered: str = self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self._special
            )
        except Refusal as error:
            raise BadRequest(f"{self._name}: its template refuses this conversation ({_short(error)})") from None
        except (TemplateError, *_BREAKDOWNS) as error:
            raise BadWeights(f"{self._name}: its chat template breaks down ({_short(error)})") from None
        return rendered

    def _slot(self, one: Shown) -> Slot:
        if isinstance(one, Sound):
            return "sound"
        return self._clip if isinstance(one, Clip | Frames) else "image"

    def _filled(self, spans: Sequence[Span], shown: list[str], wanted: list[str]) -> list[Span]:
        """With the texts of what is shown where the template has its own for it, which are ``wanted``."""
        if not wanted:
            return [span for span in spans if span.text]
        pattern = re.compile("|".join(re.escape(one) for one in sorted(set(wanted), key=len, reverse=True)))
        places = [match.group() for span in spans if not span.is_said for match in pattern.finditer(span.text)]
        if places != wanted:
            raise BadWeights(
                f"{self._name}: its template has {len(places)} places for {len(wanted)} pictures, clips and sounds: "
                "it was not made for a model that looks"
            )
        rest = iter(shown)
        filled = [
            span if span.is_said else Span(pattern.sub(lambda _: next(rest), span.text)) for span in spans if span.text
        ]
        return [span for span in filled if span.text]

    def _trimmed(self, text: str, role: str) -> str:
        is_left, is_right = self._trims[role]
        text = text.lstrip() if is_left else text
        return text.rstrip() if is_right else text

    def _trims_of(self, role: str) -> tuple[bool, bool]:
        """Whether the template cuts blanks before and after what this role says."""
        turn, other = self._said(role, f"\t\t{_PROBE}\t\t"), self._said("user", _OTHER)
        messages = {"system": [turn, other], "user": [turn], "assistant": [other, turn]}[role]
        try:
            rendered = self._rendered(messages)
        except (BadRequest, BadWeights):  # no system turn, or none but the last: nothing to cut there
            return False, False
        if _PROBE not in rendered:
            return False, False
        return f"\t\t{_PROBE}" not in rendered, f"{_PROBE}\t\t" not in rendered

    def _said(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if self._content == "parts" else text}


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
