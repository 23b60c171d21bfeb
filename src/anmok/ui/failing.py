"""Why an event failed, for the place where its answer would stand: a toast is gone before everybody has read it."""

from __future__ import annotations

import html
import threading
from collections import OrderedDict
from typing import Final

import gradio as gr

from anmok.ui.texts import Words

_VISITORS: Final = 256  # whose reason has not been fetched yet; a browser fetches it at once


class Reasons:
    """The last reason of each visitor, from the failed event until the one that shows it. Gradio lets an event that
    fails change nothing, and runs the second one for a browser alone. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, str] = OrderedDict()

    def keep(self, visitor: str, reason: str) -> None:
        """Instead of what this visitor was told before.

        Args:
            visitor: gradio's ``session_hash``.
            reason: one line of plain text in the page's language.
        """
        with self._lock:
            self._held.pop(visitor, None)
            self._held[visitor] = reason
            while len(self._held) > _VISITORS:
                self._held.popitem(last=False)

    def taken(self, words: Words, request: gr.Request) -> str:
        """The reason as a paragraph of HTML, once; of a fault that no visitor is told of, that there is no answer."""
        with self._lock:
            reason = self._held.pop(request.session_hash or "", "")
        return f'<p class="anmok-said anmok-why">{html.escape(reason or words("try.failed"))}</p>'
