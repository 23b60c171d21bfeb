"""Why an event failed, for the place where its answer would stand: a toast is gone before everybody has read it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import gradio as gr

from anmok.ui.holding import Held
from anmok.ui.look import paragraph
from anmok.ui.texts import Words

_VISITORS: Final = 256  # whose reason has not been fetched yet; a browser fetches it at once


@dataclass(frozen=True, slots=True)
class _Reason:
    """``times``: how often it is still to be shown."""

    text: str
    times: int


class Reasons:
    """The last reason of each visitor, from the failed event until the one that shows it. Gradio lets an event that
    fails change nothing, and runs the second one for a browser alone. An event that fails again before it is shown has
    its last reason shown twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Held[_Reason] = Held(_VISITORS)

    def keep(self, visitor: str, reason: str) -> None:
        """Instead of what this visitor was told before.

        Args:
            visitor: gradio's ``session_hash``.
            reason: one line of plain text in the page's language.
        """
        with self._lock:
            before = self._held.take(visitor)
            self._held.give(visitor, _Reason(reason, 1 if before is None else before.times + 1))

    def taken(self, words: Words, request: gr.Request) -> str:
        """The reason as a paragraph of HTML, once for each event that failed; of a fault that no visitor is told of,
        that there is no answer."""
        visitor = request.session_hash or ""
        with self._lock:
            reason = self._held.take(visitor)
            if reason is not None and reason.times > 1:
                self._held.give(visitor, replace(reason, times=reason.times - 1))
        text = words("try.failed") if reason is None else reason.text
        return paragraph(text, "anmok-why")

    def show(self, event: Any, words: Words, places: Sequence[Any], values: Callable[[str], list[Any]]) -> Any:
        """Has those places say why, when the event failed. Returns the event that does so, for others to follow.

        Args:
            event: one of gradio's, whose function keeps its reasons here: see ``Page.guarded``.
            words: of the page.
            places: the components that change.
            values: of those places, given the paragraph: never an older answer beside it.
        """

        def why(request: gr.Request) -> Any:
            found = values(self.taken(words, request))
            return found if len(found) > 1 else found[0]  # gradio takes a single output as it is

        quietly: Any = {"api_visibility": "private", "show_progress": "hidden"}
        return event.failure(why, None, list(places), trigger_mode="multiple", **quietly)
