"""The tab ``Search``: the photos of a folder that fit some words, or another photo, best."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr

from anmok.index import Served, by_photo, by_words
from anmok.ui.choosing import FolderList
from anmok.ui.copying import code_tab
from anmok.ui.failing import Reasons
from anmok.ui.keeping import keep
from anmok.ui.look import in_sight
from anmok.ui.page import Page
from anmok.ui.picking import Picker, doing
from anmok.ui.searching import commands, showing
from anmok.ui.searching.commands import Wanted
from anmok.ui.searching.shelves import Shelf, shelves_of
from anmok.ui.sources import Source, allowance_of, folder_of
from anmok.ui.texts import Spoken
from anmok.ui.trying.fields import facts_of, picture_field

COUNT: Final = 24  # photos that are shown
_LOOK: Final = 0.3  # seconds between two looks at how far it is
# On a phone the answer begins below what is seen.
_SEEN: Final = in_sight("search-said")


@dataclass(frozen=True, slots=True)
class _Form:
    """What is asked, in the order in which events get it."""

    folder: Any
    zipped: Any
    model: Any
    words: Any
    photo: Any

    @property
    def place(self) -> list[Any]:
        return [self.folder, self.zipped, self.model]


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the answer stands."""

    said: Any
    gallery: Any
    table: Any
    codes: list[Any]

    @property
    def all(self) -> list[Any]:
        return [self.said, self.gallery, self.table, *self.codes]


def tab(page: Page) -> None:
    """One tab: the question on the left, the photos on the right."""
    words = page.words
    folders = FolderList(page, words("search.whole"))
    with (
        gr.Tab(words("search.title"), id="search", elem_id="search-tab") as shown_tab,
        page.columns("search.begin"),
    ):
        with gr.Column(scale=4, min_width=300):
            form = _form(page, folders)
            go = gr.Button(words("search.go"), variant="primary", elem_id="search-go")
        with gr.Column(scale=8, min_width=300):
            shown = _results(page)
    folders.keep_fresh(form.folder, shown_tab)
    _Events(page).wire(form, go, shown)


def _form(page: Page, folders: FolderList) -> _Form:
    words, host = page.words, page.host
    names = host.doing("embed")
    folder = folders.field(words("search.folder"), "search-folder")
    with gr.Accordion(words("search.zip_title"), open=host.root is None):
        zipped = gr.File(label=words("search.zip"), file_types=[".zip"], height=120, elem_id="search-zip")
    text = gr.Textbox(
        "", label=words("search.words"), info=words("search.words_hint"), max_lines=1, elem_id="search-words"
    )
    photo = picture_field(page, words("search.photo"), height=210)
    field = gr.Dropdown(list(names), value=names[0], label=words("try.model"), filterable=False, elem_id="search-model")
    model = page.pickers.add(Picker(field, doing("embed")))
    facts = gr.HTML(facts_of(words, host.models[names[0]]))
    model.change(
        lambda name: facts_of(words, host.models[name]) if name in host.models else "",
        [model],
        [facts],
        api_visibility="private",
        show_progress="hidden",
    )
    return _Form(folder, zipped, model, text, photo)


def _results(page: Page) -> _Shown:
    words = page.words
    said = gr.HTML(elem_id="search-said", elem_classes="anmok-live")
    gallery = gr.Gallery(
        label=words("search.answer"),
        show_label=False,
        columns=4,
        height="auto",
        object_fit="cover",
        interactive=False,
        visible=False,
        buttons=["fullscreen"],
        elem_id="search-gallery",
    )
    table = gr.DownloadButton(words("try.download", "JSON"), visible=False, size="sm", elem_id="search-table")
    with gr.Accordion(words("search.copy"), open=False), gr.Tabs():
        codes = [
            code_tab(label, language) for label, language in (("Python", "python"), (words("search.shell"), "shell"))
        ]
    return _Shown(said, gallery, table, codes)


class _Events:
    """What happens when somebody chooses a folder, and when he searches."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._shelves = shelves_of(page)

    def wire(self, form: _Form, go: Any, shown: _Shown) -> None:
        page = self._page
        # What is chosen is looked through at once, while the words are typed.
        unread, unanswered = Reasons(), Reasons()
        looked = gr.on(
            [form.folder.change, form.zipped.upload, form.model.change],
            page.guarded_steps(self.look, unread),
            form.place,
            [shown.said],
            api_visibility="private",
            trigger_mode="always_last",
            show_progress="hidden",
        )
        unread.show(looked, page.words, [shown.said], lambda why: [why])
        done = gr.on(
            [go.click, form.words.submit],
            page.guarded_steps(self.search, unanswered),
            [*form.place, form.words, form.photo],
            shown.all,
            api_name="search",
            trigger_mode="once",
            show_progress="minimal",
            show_progress_on=[go],
        )
        done.success(None, js=_SEEN)
        hidden = gr.update(visible=False)  # never an older answer beside words that have none
        failed = unanswered.show(done, page.words, shown.all, lambda why: [why, hidden, hidden, "", ""])
        failed.then(None, js=_SEEN)

    async def look(self, folder: str | None, zipped: str | None, model: str, request: gr.Request) -> AsyncIterator[str]:
        """How far the folder is looked through, until it can be searched."""
        if not folder and not zipped:
            yield ""
            return
        shelf = await asyncio.to_thread(self._shelf, folder, zipped, model, request)
        async for told in self._waiting(shelf):
            yield told
        yield showing.ready(self._page.words, shelf.found())

    async def search(
        self,
        folder: str | None,
        zipped: str | None,
        model: str,
        words: str,
        photo: str | None,
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:
        """The answer, and before it how far the folder is looked through."""
        if not words.strip() and not photo:
            raise Spoken(self._page.words("search.nothing"))
        shelf = await asyncio.to_thread(self._shelf, folder, zipped, model, request)
        async for told in self._waiting(shelf):
            yield [told, *[gr.skip()] * 4]
        yield await asyncio.to_thread(self._answer, shelf, model, words.strip(), photo, request.session_hash or "")

    def _shelf(self, folder: str | None, zipped: str | None, model: str, request: gr.Request) -> Shelf:
        host = self._page.host
        name = self._page.usable(request, model)
        if not zipped and not folder:
            raise Spoken(self._page.words("label.no_source"))
        if zipped:
            found = keep(Path(zipped), allowance_of(host))
            source = Source(found.photos, Path(zipped).stem, found)
        else:
            source = folder_of(host, folder)
        return self._shelves.open(source, name, host.models[name])

    async def _waiting(self, shelf: Shelf) -> AsyncIterator[str]:
        while not shelf.ended.is_set():
            yield showing.looking(self._page.words, shelf)
            await asyncio.sleep(_LOOK)

    def _answer(self, shelf: Shelf, model: str, words: str, photo: str | None, visitor: str) -> list[Any]:
        host, texts = self._page.host, self._page.words
        card, index = host.models[model], shelf.found()
        served = Served(host.engine, model, card)
        vector = by_words(served, words) if words else by_photo(served, Path(photo or "").read_bytes())
        hits = index.search(vector, COUNT)
        name = "" if words else Path(photo or "").name
        folder = self._page.sessions.place(visitor)
        table = showing.written(shelf, hits, words or name, index.maker, folder)
        shown = showing.pictures(shelf, hits, folder)
        wanted = Wanted(shelf.source.called, words, name, host.targets.get(model, card.name), card, COUNT)
        return [
            showing.found(texts, index, hits, card, words),
            gr.update(value=shown, visible=True),
            gr.update(value=str(table), visible=True),
            commands.python(wanted),
            commands.shell(wanted),
        ]
