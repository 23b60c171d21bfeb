"""The page in one language: a frame around its tabs."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import gradio as gr

from anmok.ui import auditing, chatting, climbing, labelling, searching, trying
from anmok.ui.host import Host
from anmok.ui.look import ON_LOAD
from anmok.ui.page import Page
from anmok.ui.sessions import Sessions
from anmok.ui.texts import LANGUAGES, Words


@dataclass(frozen=True, slots=True)
class Tab:
    """``make`` adds a gr.Tab to the page. One that names a ``task`` stands there only where a served model has it."""

    make: Callable[[Page], None]
    task: str = ""


# In the order in which they stand.
TABS: Final[Sequence[Tab]] = (
    Tab(trying.tab),
    Tab(searching.tab, task="embed"),
    Tab(chatting.tab, task="chat"),
    Tab(labelling.tab),
    Tab(auditing.tab),
    Tab(climbing.tab),
)

_NAMES: Final = {"en": "English", "ko": "한국어"}
_EVENTS: Final = 40  # that run at a time; whether a model takes more is the engine's to say
_WAITING: Final = 256


def build(host: Host, language: str, sessions: Sessions) -> gr.Blocks:
    """The whole page in one language, not yet mounted."""
    page = Page(host, Words(language), sessions)
    blocks = gr.Blocks(
        title=page.words("page.title"),
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(600, 3600),  # seconds: every ten minutes, what is an hour old
    )
    with blocks:
        gr.HTML(_header(page), elem_id="anmok-header")
        with gr.Tabs(elem_id="anmok-tabs"):
            for tab in shown(host):
                tab.make(page)
        page.pickers.wire(blocks, host)
        blocks.load(None, js=ON_LOAD)
    blocks.queue(default_concurrency_limit=_EVENTS, max_size=_WAITING, api_open=True)
    return blocks


def shown(host: Host) -> list[Tab]:
    """The tabs of that server's page."""
    return [tab for tab in TABS if not tab.task or host.doing(tab.task)]


def _header(page: Page) -> str:
    words = page.words
    said = json.dumps(words.below("page.gradio"))  # what gradio says itself, in English whatever the page's language
    links = "".join(_link(one, is_shown=one == words.language) for one in LANGUAGES)
    return (
        f'<header class="anmok-header" data-said="{html.escape(said)}">'
        f"<h1>{words('page.title')}</h1><p>{words('page.motto')}</p>"
        f'<nav aria-label="{words("page.language")}">{links}'
        f'<button type="button" id="anmok-dark" aria-label="{words("page.dark")}" title="{words("page.dark")}">'
        f'<span aria-hidden="true">◐</span></button></nav></header>'
    )


def _link(language: str, *, is_shown: bool) -> str:
    current = ' aria-current="true"' if is_shown else ""
    return f'<a href="../?lang={language}" lang="{language}" hreflang="{language}"{current}>{_NAMES[language]}</a>'
