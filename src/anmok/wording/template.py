"""A chat template: what stands between the turns of a conversation, rendered in a sandbox.

What was said goes in after rendering, so the template decides where it stands but never reads it, and nothing in it
can be taken for the template's own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from anmok.errors import BadRequest, BadWeights
from anmok.inputs import Clip, Conversation, Frames, Text, Turn
from anmok.wording.reader import Span

Content = Literal["parts", "text"]

# Private letters of Unicode around a number: no template has them.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_PROBE: Final = "x"
_LONGEST = 2**20  # letters of a template, and of what it makes


class Template:
    """One model's.

    Args:
        source: the template, in Jinja, as transformers renders it.
        content: whether a turn's content is handed over as ``parts`` (texts, pictures and clips in their order) or as
            one ``text``; ``slots`` then stand in it as they are.
        slots: how the template (or, for ``text``, this class) writes a picture and a clip.
        special: texts that the template may ask for by name (``bos_token``).
        name: of the card, for messages.

    Raises:
        BadWeights: it is no template.
    """

    def __init__(
        self,
        source: str,
        content: Content,
        slots: Mapping[Literal["image", "video"], str],
        special: Mapping[str, str],
        name: str,
    ) -> None:
        if len(source) > _LONGEST:
            raise BadWeights(f"{name}: its chat template has {len(source):,} letters, more than {_LONGEST:,}")
        from jinja2.exceptions import TemplateError

        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise BadWeights(f"{name}: its chat template cannot be read ({error})") from None
        self._content = content
        self._slots = dict(slots)
        self._special = dict(special)
        self._name = name
        self._trims = {role: self._is_trimmed(role) for role in ("system", "user", "assistant")}

    def spans(self, said: Conversation, shown: Sequence[str]) -> list[Span]:
        """The prompt. ``shown`` are the texts that stand for pictures and clips, in their order.

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
            spans += [Span(rendered[at : mark.start()]), texts[int(mark[1])]]
            at = mark.end()
        spans.append(Span(rendered[at:]))
        return self._filled(spans, [*shown], [isinstance(one, Clip | Frames) for one in said.shown])

    def _message(self, turn: Turn, texts: list[Span]) -> dict[str, Any]:
        """As the template gets it: marks in place of texts, which are put away."""
        parts: list[dict[str, str]] = []
        for part in turn.parts:
            if isinstance(part, Text):
                text = part.text.strip() if self._trims[turn.role] else part.text
                parts.append({"type": "text", "text": f"{_OPEN}{len(texts)}{_CLOSE}"})
                texts.append(Span(text, is_said=True))
            else:
                parts.append({"type": "video" if isinstance(part, Clip | Frames) else "image"})
        if not parts:  # an answer that was stopped before its first word
            parts.append({"type": "text", "text": ""})
        content: Any = parts
        if self._content == "text":
            content = "".join(one.get("text") or f"{self._slots[one['type']]}\n" for one in parts)  # type: ignore[index]
        return {"role": turn.role, "content": content}

    def _rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        from jinja2.exceptions import TemplateError

        try:
            rendered: str = self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except TemplateError as error:
            raise BadRequest(f"{self._name}: its template refuses this conversation ({str(error)[:120]})") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, MemoryError) as error:
            raise BadWeights(f"{self._name}: its template breaks down ({type(error).__name__})") from None
        if len(rendered) > _LONGEST:
            raise BadWeights(f"{self._name}: its template makes more than {_LONGEST:,} letters")
        return rendered

    def _filled(self, spans: Sequence[Span], shown: list[str], moves: list[bool]) -> list[Span]:
        """With the texts of pictures and clips where the template has its own for them."""
        wanted = [self._slots["video" if one else "image"] for one in moves]
        if not wanted:
            return [span for span in spans if span.text]
        pattern = re.compile("|".join(re.escape(one) for one in sorted(set(wanted), key=len, reverse=True)))
        places = [match.group() for span in spans if not span.is_said for match in pattern.finditer(span.text)]
        if places != wanted:
            raise BadWeights(
                f"{self._name}: its template has {len(places)} places for {len(wanted)} pictures and clips: "
                "it was not made for a model that looks"
            )
        rest = iter(shown)
        filled = [
            span if span.is_said else Span(pattern.sub(lambda _: next(rest), span.text)) for span in spans if span.text
        ]
        return [span for span in filled if span.text]

    def _is_trimmed(self, role: str) -> bool:
        """Whether the template cuts blanks around what this role says."""
        content: Any = f" {_PROBE} "
        if self._content == "parts":
            content = [{"type": "text", "text": content}]
        turn = {"role": role, "content": content}
        others = [{**turn, "role": "user"}] if role != "user" else []
        messages = [*others, turn] if role == "assistant" else [turn, *others]
        try:
            rendered = self._rendered(messages)
        except (BadRequest, BadWeights):  # no system turn, or none but the last: nothing to cut there
            return False
        return f" {_PROBE} " not in rendered


def _environment() -> Any:
    """As transformers renders templates, which were written for it (its documentation, "Chat templates")."""
    try:
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError:
        from anmok.errors import MissingDependency

        raise MissingDependency("chat templates need jinja2: pip install 'anmok[models]'") from None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: object) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(str(message))
