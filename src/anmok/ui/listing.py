"""A list of choices that is made anew whenever somebody is about to look at it, and sent only where it changed: while
one list takes the place of another, gradio takes another item than the one that is clicked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import gradio as gr

from anmok.ui.holding import Held

Choices: TypeAlias = list[tuple[str, str]]  # what is read, and what events get

_VISITORS: Final = 10_000  # whose list is known to be another one than the page was made with


class FreshList:
    """The list of one field. Events get whatever is chosen: whether there is such a thing is theirs to ask.

    Which list a visitor has is kept here, as its hash. Gradio's own ``State`` is not for that: when one is answered to
    the event of a tab, the next opening of that tab by the server goes untold.

    Args:
        field: a dropdown of gradio's, which has the list as it was when the page was made.
        choices: the list as it is now, where that value is chosen.
    """

    def __init__(self, field: Any, choices: Callable[[str | None], Choices]) -> None:
        field.preprocess = as_it_is
        self._field = field
        self._choices = choices
        self._made = _hashed(field.choices)  # what a page has when it is loaded
        self._sent: Held[int] = Held(_VISITORS)

    def renew(self, listen: Callable[..., Any]) -> Any:
        """Looks again at each such event of gradio's (``field.focus``, ``blocks.load``). Returns what it listens to."""
        return listen(self._again, [self._field], [self._field], api_visibility="private", show_progress="hidden")

    def choose(self, value: str, request: gr.Request) -> Any:
        """The field, for an event: that is chosen from now on, and it is to be seen."""
        now = self._choices(value)
        self._sent.give(request.session_hash or "", _hashed(now))
        return gr.update(choices=now, value=value, visible=True)

    def _again(self, chosen: str | None, request: gr.Request) -> Any:
        visitor, now = request.session_hash or "", self._choices(chosen)
        sent = self._sent.seen(visitor)
        if _hashed(now) == (self._made if sent is None else sent):
            return gr.skip()
        self._sent.give(visitor, _hashed(now))
        return gr.update(choices=now)


def _hashed(choices: Choices) -> int:
    return hash(tuple(choices))


def as_it_is(payload: Any) -> Any:
    """Instead of a field's ``preprocess``, which takes only what was there when the page was made."""
    return payload
