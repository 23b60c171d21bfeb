"""The tab ``Chat``: questions about photos, videos and sounds, or about anything, and answers as they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr
from anyio import CapacityLimiter

from anmok.errors import AnmokError
from anmok.results import Piece
from anmok.tasks import Chat
from anmok.ui.chatting import commands, hearing, showing
from anmok.ui.chatting.browser_model import browser_model
from anmok.ui.chatting.hearing import Ears
from anmok.ui.chatting.talking import Said, Stops, conversation_of, grown, is_video
from anmok.ui.copying import code_tab
from anmok.ui.page import Page
from anmok.ui.texts import Words
from anmok.ui.trying.fields import model_field

_MOST_LETTERS: Final = 20_000
_MOST_TOKENS: Final = 4096
_WRITING: Final = 64  # threads: answers at a time
_VALUES: Final = 10  # of ``_Shown.all``
# On a phone the answer begins below what is seen.
_SEEN: Final = "() => document.getElementById('chat-said').scrollIntoView({ block: 'nearest' })"


@dataclass(frozen=True, slots=True)
class _Form:
    """What is asked, in the order in which events get it."""

    pictures: Any
    question: Any
    model: Any
    system: Any
    most: Any
    temperature: Any
    seed: Any
    ears: Ears
    turns: Any  # what was said until now

    @property
    def all(self) -> list[Any]:
        asked = [self.pictures, self.question, self.model, self.system]
        heard = [self.ears.sounds, self.ears.has_sound]
        return [*asked, self.most, self.temperature, self.seed, *heard, self.turns]


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the answer stands, beside the fields of the question, which are emptied."""

    talk: Any
    said: Any
    stop: Any
    codes: list[Any]

    def all(self, form: _Form) -> list[Any]:
        fields = [form.turns, self.talk, form.pictures, form.question, self.said, self.stop, form.ears.sounds]
        return [*fields, *self.codes]


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
    pictures = gr.File(
        label=words("chat.pictures"),
        file_count="multiple",
        file_types=["image", "video"],
        height=150,
        elem_id="chat-pictures",
    )
    ears = hearing.fields(page)
    seen = gr.HTML(css_template=showing.style(), elem_id="chat-seen")
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
    ears.follow(page.host, model, pictures, seen)
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
    return _Form(pictures, question, model, system, most, temperature, seed, ears, gr.State(())), go, clear


def _results(page: Page) -> _Shown:
    words = page.words
    talk = gr.HTML(showing.talk(words, ()), elem_id="chat-talk", css_template=showing.style())
    said = gr.HTML(showing.paragraph(words("chat.begin")), elem_id="chat-said", elem_classes="anmok-live")
    stop = gr.Button(words("chat.stop"), variant="stop", visible=False, size="sm", elem_id="chat-stop")
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


def _said(question: str, pictures: Any, sounds: Any, *, has_sound: bool) -> Said:
    """What is asked, out of the fields."""
    shown, heard = (tuple(str(path) for path in paths or ()) for paths in (pictures, sounds))
    return Said("user", question.strip(), shown, heard, bool(has_sound) and any(map(is_video, shown)))


class _Events:
    """What happens when somebody asks, stops an answer or clears the table. ``ask`` and ``clear`` answer with the
    values of ``_Shown.all``."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._stops = Stops()
        self._writing = CapacityLimiter(_WRITING)

    def wire(self, form: _Form, shown: _Shown, go: Any, clear: Any) -> None:
        asked = gr.on(
            [go.click, form.question.submit],
            self.ask,
            form.all,
            shown.all(form),
            api_name="chat",
            trigger_mode="once",
            show_progress="hidden",
        )
        asked.success(None, js=_SEEN)
        shown.stop.click(self.stop, None, [shown.stop], api_name="chat_stop", show_progress="hidden")
        clear.click(self.clear, None, shown.all(form), api_visibility="private", show_progress="hidden")

    async def ask(self, request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        """values: as ``_Form.all`` has them."""
        pictures, question, model, system, most, temperature, seed, sounds, has_sound, turns = values
        page, visitor = self._page, request.session_hash or ""
        if not (question or "").strip():
            yield self._nothing(page.words("chat.no_question"))
            return
        name = page.usable(request, model)
        ask = Chat(int(most), float(temperature), seed=int(seed or 0) if temperature else None)
        asked = (*turns, _said(question, pictures, sounds, has_sound=has_sound))
        try:
            pieces = page.host.engine.stream(name, conversation_of(page.host, asked, system), ask)
            codes = commands.texts(commands.Act.of(page, name, ask, asked, system))
            with self._stops.until(visitor) as stopped:
                async for step in self._written(grown(pieces, stopped, self._writing), asked, codes):
                    yield step
        except AnmokError as error:  # gradio's own way of telling it covers the fields with what was typed
            told = f"{page.told(error)} {page.words('chat.failed')}"
            yield self._values(tuple(turns), told, [], (pictures, question, sounds))

    async def _written(
        self, pieces: AsyncIterator[Piece], asked: tuple[Said, ...], codes: list[str]
    ) -> AsyncIterator[list[Any]]:
        """The conversation as the answer grows, and at the end what it took."""
        words, text, reply = self._page.words, "", None
        yield self._values((*asked, Said("assistant", "")), words("chat.writing"), codes, is_running=True)
        async for piece in pieces:
            text, reply = text + piece.text, piece.reply
            if not piece.text and reply is None:
                yield [gr.skip() for _ in range(_VALUES)]  # where the visitor has left, gradio ends this here
            elif reply is None:
                yield self._values((*asked, Said("assistant", text)), words("chat.writing"), codes, is_running=True)
        told = words("chat.stopped") if reply is None else showing.totals(words, reply)
        yield self._values((*asked, Said("assistant", text)), told, codes)

    def stop(self, request: gr.Request) -> Any:
        """Ends the answer that this visitor waits for; what there is of it stays."""
        self._stops.stop(request.session_hash or "")
        return gr.update(visible=False)

    def clear(self, request: gr.Request) -> list[Any]:
        """An empty table."""
        self._stops.stop(request.session_hash or "")
        return self._values((), self._page.words("chat.begin"), [_blank(self._page.words)] * 3)

    def _nothing(self, text: str) -> list[Any]:
        skipped: list[Any] = [gr.skip() for _ in range(_VALUES)]
        skipped[4] = showing.paragraph(text)
        return skipped

    def _values(
        self,
        turns: tuple[Said, ...],
        text: str,
        codes: list[str],
        asked: tuple[Any, str, Any] = (None, "", None),
        *,
        is_running: bool = False,
    ) -> list[Any]:
        """``asked`` are the pictures, the question and the sounds that stand in the form; no ``codes`` leave those that
        stand."""
        pictures, question, sounds = asked
        shown = codes or [gr.skip()] * 3
        state = [turns, showing.talk(self._page.words, turns), pictures or None, question, showing.paragraph(text)]
        return [*state, gr.update(visible=is_running), sounds or None, *shown]
