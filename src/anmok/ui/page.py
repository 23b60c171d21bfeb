"""What every tab of the page is given."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from anmok.errors import AnmokError, UnknownModel
from anmok.ui import telling
from anmok.ui.failing import Reasons
from anmok.ui.host import Host
from anmok.ui.look import paragraph
from anmok.ui.picking import Pickers
from anmok.ui.sessions import Sessions
from anmok.ui.texts import Words

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """The server below, the words of one language, a place for files, and all fields in which a model is chosen."""

    host: Host
    words: Words
    sessions: Sessions
    pickers: Pickers = field(default_factory=Pickers)

    def guarded(self, event: Callable[P, T], reasons: Reasons | None = None) -> Callable[P, T]:
        """An event whose errors of ours are shown as one line in the page's language. Others are gradio's to hide.

        Args:
            event: whatever the page calls.
            reasons: keeps that line for its visitor, where the event is given gradio's request.
        """

        @functools.wraps(event)
        def _guarded(*given: P.args, **named: P.kwargs) -> T:
            try:
                return event(*given, **named)
            except AnmokError as error:
                raise self._refusal(error, given, reasons) from None

        return _guarded

    def guarded_steps(
        self, event: Callable[P, AsyncIterator[T]], reasons: Reasons | None = None
    ) -> Callable[P, AsyncIterator[T]]:
        """The same for an event that answers in steps."""

        @functools.wraps(event)
        async def _guarded(*given: P.args, **named: P.kwargs) -> AsyncIterator[T]:
            try:
                async for step in event(*given, **named):
                    yield step
            except AnmokError as error:
                raise self._refusal(error, given, reasons) from None

        return _guarded

    def _refusal(self, error: AnmokError, given: Sequence[object], reasons: Reasons | None) -> Any:
        """What gradio shows, once it is kept for the place of the answer."""
        line = self.told(error)
        request = next((one for one in given if isinstance(one, gr.Request)), None)
        if reasons is not None and request is not None:
            reasons.keep(request.session_hash or "", line)
        return telling.shown(line)

    def columns(self, intro: str) -> Any:
        """Columns side by side, under each other on a phone, and over them what the tab is for: whoever has not begun
        reads it before the form, however narrow the page."""
        gr.HTML(paragraph(self.words(intro)), elem_id=intro.replace(".", "-"))
        return gr.Row()

    def told(self, error: AnmokError) -> str:
        """One line of an error that is shown otherwise."""
        return telling.told(self.words, error, self.host.root)

    def usable(self, request: gr.Request, name: str) -> str:
        """The name of a served model that this visitor may use.

        Raises:
            UnknownModel: there is none of that name for him.
        """
        scope: Any = getattr(request.request, "scope", {})
        if name not in self.host.models or not self.host.may_use(scope, name):
            raise UnknownModel(f"this server has no model called {str(name)[:60]!r}")
        return name
