"""Why an event failed, for the place where its answer would stand: a toast is gone before everybody has read it."""

from __future__ import annotations

import html
from typing import Final

import gradio as gr

from anmok.ui.holding import Held
from anmok.ui.texts import Words

_VISITORS: Final = 256  # whose reason has not been fetched yet; a browser fetches it at once


class Reasons:
    """The last reason of each visitor, from the failed event until the one that shows it. Gradio lets an event that
    fails change nothing, and runs the second one for a browser alone."""

    def __init__(self) -> None:
        self._held: Held[str] = Held(_VISITORS)

    def keep(self, visitor: str, reason: str) -> None:
        """Instead of what this visitor was told before.

        Args:
            visitor: gradio's ``session_hash``.
            reason: one line of plain text in the page's language.
        """
        self._held.give(visitor, reason)

    def taken(self, words: Words, request: gr.Request) -> str:
        """The reason as a paragraph of HTML, once; of a fault that no visitor is told of, that there is no answer."""
        reason = self._held.take(request.session_hash or "")
        return f'<p class="anmok-said anmok-why">{html.escape(reason or words("try.failed"))}</p>'
