"""The tab ``Chat``: questions about photos, videos and sounds, or about anything, and answers as they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final

import gradio as gr
from anyio import CapacityLimiter, to_thread

from anmok.errors import AnmokError, BadMedia
from anmok.results import Piece
from anmok.tasks import Chat
from anmok.ui.chatting import bringing, commands, showing
from anmok.ui.chatting.bringing import Brought, seconds
from anmok.ui.chatting.browser_model import browser_model
from anmok.ui.chatting.talking import Said, Stops, conversation_of, grown, is_video, named
from anmok.ui.copying import code_tab
from anmok.ui.page import Page
from anmok.ui.senses import Senses
from anmok.ui.texts import Spoken, Words
from anmok.ui.trying.fields import model_field

_MOST_LETTERS: Final = 20_000
_MOST_TOKENS: Final = 4096
_WRITING: Final = 64  # threads: answers at a time
_VALUES: Final = 12  # of ``_Shown.all``
# On a phone the answer begins below what is seen, and grows there.
_GROWING: Final = """() => {
  const talk = document.getElementById('chat-talk');
  const field = document.querySelector('#chat-question textarea');
  if (field.value.trim() && talk.getBoundingClientRect().bottom > innerHeight) talk.scrollIntoView({ block: 'start' });
}"""
_SEEN: Final = "() => document.getElementById('chat-said').scrollIntoView({ block: 'nearest' })"


@dataclass(frozen=True, slots=True)
class _Form:
    """What is asked, in the order in which events get it."""

    brought: Brought
    question: Any
    model: Any
    system: Any
    most: Any
    temperature: Any
    seed: Any
    turns: Any  # what was said until now

    @property
    def all(self) -> list[Any]:
        brought = self.brought
        asked = [brought.pictures, self.question, self.model, self.system]
        heard = [brought.sound, brought.has_sound, brought.start, brought.end]
        return [*asked, self.most, self.temperature, self.seed, *heard, self.turns]


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the answer stands, beside the fields of the question, which are emptied."""

    talk: Any
    said: Any
    stop: Any
    codes: list[Any]

    def all(self, form: _Form) -> list[Any]:
        brought = form.brought
        fields = [form.turns, self.talk, brought.pictures, form.question, self.said, self.stop]
        return [*fields, brought.sound, brought.start, brought.end, *self.codes]


def tab(page: Page) -> None:
    """One tab: the question on the left, the conversation on the right."""
    words = page.words
    with gr.Tab(words("chat.title"), id="chat", elem_id="chat-tab"), gr.Row():
        with gr.Column(scale=4, min_width=300):
            form, go, clear = _form(page)
        with gr.Column(scale=8, min_width=300):
            shown = _results(page)
    _Events(page).wire(form, shown, go, clear)


def _form(page: Page) -> tuple[_Form, Any, Any]:
    words = page.words
    brought = bringing.fields(page)
    question = gr.Textbox(
        "",
        label=words("chat.question"),
        info=words("chat.question_hint"),
        lines=1,
        max_lines=8,
        max_length=_MOST_LETTERS,
        elem_id="chat-question",
    )
    with gr.Row():
        go = gr.Button(words("chat.go"), variant="primary", elem_id="chat-go")
        clear = gr.Button(words("chat.clear"), elem_id="chat-clear")
    model = model_field(page, "chat", has_other=False).model
    brought.follow(page, model)
    browser_model(words)
    with gr.Accordion(words("chat.more"), open=False):
        system = gr.Textbox(
            "", label=words("chat.system"), info=words("chat.system_hint"), max_lines=4, max_length=4000
        )
        most = gr.Slider(1, _MOST_TOKENS, 512, step=1, label=words("chat.most"))
        temperature = gr.Slider(
            0, 2, 0, step=0.05, label=words("chat.temperature"), info=words("chat.temperature_hint")
        )
        seed = gr.Number(0, label=words("chat.seed"), info=words("chat.seed_hint"), precision=0, minimum=0)
    return _Form(brought, question, model, system, most, temperature, seed, gr.State(())), go, clear


def _results(page: Page) -> _Shown:
    words = page.words
    talk = gr.HTML(showing.talk(words, ()), elem_id="chat-talk", css_template=showing.style())
    stop = gr.Button(words("chat.stop"), variant="stop", visible=False, size="sm", elem_id="chat-stop")
    said = gr.HTML(showing.paragraph(words("chat.begin")), elem_id="chat-said", elem_classes="anmok-live")
    with gr.Accordion(words("try.copy"), open=False), gr.Tabs():
        labels: tuple[tuple[str, Any], ...] = (
            ("Python", "python"),
            ("curl", "shell"),
            (words("try.command_line"), "shell"),
        )
        codes = [code_tab(label, language, _blank(page.words)) for label, language in labels]
    return _Shown(talk, said, stop, codes)


def _blank(words: Words) -> str:
    """What stands in place of a command before there is one."""
    return f"# {words('chat.begin')}\n"


def _ended(text: str) -> str:
    """With a full stop, so that another sentence may follow."""
    return text if text.endswith((".", "!", "?", ")")) and not text.endswith("...)") else f"{text}."


@dataclass(frozen=True, slots=True)
class _Filled:
    """What stands in the fields that are emptied when it is asked."""

    pictures: tuple[str, ...] = ()
    question: str = ""
    sound: str | None = None
    start: str = ""
    end: str = ""

    def said(self, words: Words, *, has_sound: bool) -> Said:
        """Raises:
        Spoken: the seconds are none.
        """
        sounds = (self.sound,) if self.sound else ()
        told = Said("user", self.question.strip(), self.pictures, sounds)
        if not told.has_time:  # the seconds are of nothing, and the fields may not even be seen
            return told
        has_film = any(map(is_video, self.pictures))
        start, end = seconds(words, self.start), seconds(words, self.end)
        return replace(told, has_sound=has_sound and has_film, start=start or 0.0, end=end)


class _Events:
    """What happens when somebody asks, stops an answer or clears the table. ``ask`` and ``clear`` answer with the
    values of ``_Shown.all``."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._stops = Stops()
        self._writing = CapacityLimiter(_WRITING)

    def wire(self, form: _Form, shown: _Shown, go: Any, clear: Any) -> None:
        triggers = [go.click, form.question.submit]
        gr.on(triggers, None, js=_GROWING, api_visibility="private")
        asked = gr.on(
            triggers,
            self.ask,
            form.all,
            shown.all(form),
            api_name="chat",
            trigger_mode="once",
            show_progress="hidden",
        )
        asked.success(None, js=_SEEN)
        shown.stop.click(self.stop, None, [shown.stop], api_name="chat_stop", show_progress="hidden")
        hidden: Any = {"api_visibility": "private", "show_progress": "hidden"}
        clear.click(self.clear, None, shown.all(form), **hidden)

    async def ask(self, request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        """values: as ``_Form.all`` has them."""
        pictures, question, model, system, most, temperature, seed, sound, has_sound, start, end, turns = values
        page, visitor = self._page, request.session_hash or ""
        filled = _Filled(tuple(pictures or ()), question or "", sound, *(str(one or "") for one in (start, end)))
        if not filled.question.strip():
            yield self._nothing(page.words("chat.no_question"))
            return
        ask = Chat(int(most), float(temperature), seed=int(seed or 0) if temperature else None)
        asked: tuple[Said, ...] = tuple(turns)
        try:
            asked = (*turns, filled.said(page.words, has_sound=bool(has_sound)))
            name = page.usable(request, model)
            self._check(name, filled)
            pieces = page.host.engine.stream(name, conversation_of(page.host, asked, system), ask)
            codes = commands.texts(commands.Act.of(page, name, ask, asked, system))
            with self._stops.until(visitor) as stopped:
                async for step in self._written(grown(pieces, stopped, self._writing), asked, codes):
                    # What is still written would bring back a conversation that was cleared away.
                    yield [gr.skip() for _ in range(_VALUES)] if stopped.is_dropped else step
        except AnmokError as error:  # gradio's own way of telling it covers the fields with what was typed
            if isinstance(error, BadMedia):
                error = await to_thread.run_sync(named, asked[-1], error)
            yield self._values(tuple(turns), f"{_ended(page.told(error))} {page.words('chat.failed')}", [], filled)

    def _check(self, name: str, filled: _Filled) -> None:
        """Raises:
        Spoken: a file that is nothing to the model.
        """
        senses, words = Senses.of(self._page.host, name), self._page.words
        if refused := senses.refused(filled.pictures, filled.sound):
            raise Spoken(words("chat.not_taken", ", ".join(refused), senses.line(words, name)))

    async def _written(
        self, pieces: AsyncIterator[Piece], asked: tuple[Said, ...], codes: list[str]
    ) -> AsyncIterator[list[Any]]:
        """The conversation as the answer grows, and at the end what it took. The fields are emptied once: the next
        question may be typed meanwhile."""
        words, text, reply = self._page.words, "", None
        yield self._values((*asked, Said("assistant", "")), words("chat.writing"), codes, _Filled(), is_running=True)
        async for piece in pieces:
            text, reply = text + piece.text, piece.reply
            if not piece.text and reply is None:
                yield [gr.skip() for _ in range(_VALUES)]  # where the visitor has left, gradio ends this here
            elif reply is None:
                yield self._values((*asked, Said("assistant", text)), words("chat.writing"), [], is_running=True)
        told = words("chat.stopped") if reply is None else showing.totals(words, reply)
        yield self._values((*asked, Said("assistant", text)), told, codes)  # the last one is all that programs see

    def stop(self, request: gr.Request) -> Any:
        """Ends the answer that this visitor waits for; what there is of it stays."""
        self._stops.stop(request.session_hash or "")
        return gr.update(visible=False)

    def clear(self, request: gr.Request) -> list[Any]:
        """An empty table."""
        self._stops.stop(request.session_hash or "", is_dropped=True)
        return self._values((), self._page.words("chat.begin"), [_blank(self._page.words)] * 3, _Filled())

    def _nothing(self, text: str) -> list[Any]:
        skipped: list[Any] = [gr.skip() for _ in range(_VALUES)]
        skipped[4] = showing.paragraph(text)
        return skipped

    def _values(
        self,
        turns: tuple[Said, ...],
        text: str,
        codes: list[str],
        filled: _Filled | None = None,
        *,
        is_running: bool = False,
    ) -> list[Any]:
        """``filled`` stands in the form from now on; None, and no ``codes``, leave what stands there."""
        shown = codes or [gr.skip()] * 3
        if filled is None:
            pictures, question, *heard = [gr.skip()] * 5
        else:
            pictures, question = list(filled.pictures) or None, filled.question
            heard = [filled.sound, filled.start, filled.end]
        state = [turns, showing.talk(self._page.words, turns), pictures, question, showing.paragraph(text)]
        return [*state, gr.update(visible=is_running), *heard, *shown]
