"""The list of this server's folders, made anew whenever somebody is about to look at it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from anmok.ui.keeping import is_kept
from anmok.ui.listing import Choices, FreshList
from anmok.ui.page import Page
from anmok.ui.sources import WHOLE, Folders


@dataclass(frozen=True, slots=True)
class FolderList:
    """``whole`` is what the list calls the folder itself; ``nothing``, where it is not empty, is its first line and
    stands for no folder; ``upload`` is what it calls a zip that was chosen elsewhere."""

    page: Page
    whole: str
    nothing: str = ""
    upload: str = ""

    def choices(self, chosen: str | None = None) -> Choices:
        """Pairs of what is read and what events get, as the disk has them now.

        Args:
            chosen: the value of the field; a zip stands in the list only where it is chosen.
        """
        root = self.page.host.root
        names = [] if root is None else Folders(root).names()
        first = [(self.nothing, "")] if self.nothing else []
        last: Choices = []
        if chosen and is_kept(chosen):
            last = [(self.upload, chosen)] if self.upload else []
        elif root is not None and chosen and chosen not in names:  # gone since: whoever uses it is told so, by us
            last = [(_typed(chosen), chosen)]
        return [*first, *((self.whole if one == WHOLE else _typed(one), one) for one in names), *last]

    def field(self, label: str, elem_id: str, value: str | None = None) -> Any:
        """The list; not to be seen where the server shows no folder."""
        is_seen = self.page.host.root is not None
        return gr.Dropdown(self.choices(), value=value, label=label, visible=is_seen, min_width=280, elem_id=elem_id)

    def keep_fresh(self, field: Any, tab: Any) -> tuple[FreshList, Any]:
        """Makes the list again when the page is loaded, its tab opened or the field entered. Returns the list, for
        events that choose in it, and the event of the tab, after which others may follow."""
        blocks: Any = Context.root_block
        fresh = FreshList(field, self.choices)
        fresh.renew(blocks.load)
        fresh.renew(field.focus)
        return fresh, fresh.renew(tab.select)


def _typed(name: str) -> str:
    """As people type it: a Mac writes the syllables of Korean names in parts."""
    return unicodedata.normalize("NFC", name)
