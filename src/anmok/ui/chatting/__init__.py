"""The tab ``Chat``: questions about photos, videos and sounds, or about anything, and answers as they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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
from anmok.ui.chatting.talking import Said, Stops, conversation_of, failed, grown, is_video, named, retried, told
from anmok.ui.copying import code_tab
from anmok.ui.look import in_sight, paragraph
from anmok.ui.page import Page
from anmok.ui.senses import Senses
from anmok.ui.texts import Spoken, Words
from anmok.ui.trying.fields import model_field

_MOST_LETTERS: Final = 20_000
_MOST_TOKENS: Final = 4096
_WRITING: Final = 64  # threads: answers at a time
_VALUES: Final = 14  # of ``_Shown.all``
# On a phone the answer begins below what is seen, and grows there.
_GROWING: Final = """() => {
  const talk = document.getElementById('chat-talk');
  const field = document.querySelector('#chat-question textarea');
  if (field.value.trim() && talk.getBoundingClientRect().bottom > innerHeight) talk.scrollIntoView({ block: 'start' });
}"""
_SEEN: Final = in_sight("chat-said")


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
    undone: Any  # the last question, where it may go back to its fields

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
    again: Any
    codes: list[Any]

    def all(self, form: _Form) -> list[Any]:
        brought = form.brought
        fields = [form.turns, self.talk, brought.pictures, form.question, self.said, self.stop]
        return [*fields, brought.sound, brought.start, brought.end, *self.codes, self.again, form.undone]


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
    return _Form(brought, question, model, system, most, temperature, seed, gr.State(()), gr.State(None)), go, clear


def _results(page: Page) -> _Shown:
    words = page.words
    talk = gr.HTML(showing.talk(words, ()), elem_id="chat-talk", css_template=showing.style())
    stop = gr.Button(words("chat.stop"), variant="stop", visible=False, size="sm", elem_id="chat-stop")
    again = gr.Button(words("chat.again"), visible=False, size="sm", elem_id="chat-again")
    said = gr.HTML(paragraph(words("chat.begin")), elem_id="chat-said", elem_classes="anmok-live")
    with gr.Accordion(words("try.copy"), open=False), gr.Tabs():
        labels: tuple[tuple[str, Any], ...] = (
            ("Python", "python"),
            ("curl", "shell"),
            (words("try.command_line"), "shell"),
        )
        codes = [code_tab(label, language, _blank(page.words)) for label, language in labels]
    return _Shown(talk, said, stop, again, codes)


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


@dataclass(frozen=True, slots=True)
class _Undone:
    """A question to which not a word was answered, and what is said of that."""

    filled: _Filled
    told: str


@dataclass(frozen=True, slots=True)
class _Asking:
    """A conversation that ends with a question, and what it was ``before``. ``filled``: the fields that the question
    stood in; None for one that was taken from the conversation."""

    before: tuple[Said, ...]
    turns: tuple[Said, ...]
    filled: _Filled | None = None

    @property
    def left(self) -> str:
        """The key of what is said of a question that was not taken up."""
        return "chat.failed_kept" if self.filled is None else "chat.failed"


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
        every, brought = shown.all(form), form.brought
        quiet: Any = {"show_progress": "hidden"}
        hidden: Any = {"api_visibility": "private", **quiet}
        asked = gr.on(triggers, self.ask, form.all, every, api_name="chat", trigger_mode="once", **quiet)
        repeated = shown.again.click(self.ask_again, form.all, every, trigger_mode="once", **hidden)
        fields = [brought.pictures, form.question, brought.sound, brought.start, brought.end]
        for one in (asked, repeated):
            settled = one.success(self.settle, [form.undone, form.turns, *fields], every, **hidden)
            settled.success(None, js=_SEEN)
        shown.stop.click(self.stop, None, [shown.stop], api_name="chat_stop", **quiet)
        clear.click(self.clear, None, every, **hidden)

    async def ask(self, request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        """values: as ``_Form.all`` has them."""
        pictures, question, *_, sound, has_sound, start, end, turns = values
        filled = _Filled(tuple(pictures or ()), question or "", sound, *(str(one or "") for one in (start, end)))
        if not filled.question.strip():
            yield self._nothing(self._page.words("chat.no_question"))
            return
        try:
            self._check(self._page.usable(request, values[2]), filled)
            said = filled.said(self._page.words, has_sound=bool(has_sound))
        except AnmokError as error:
            yield self._values(tuple(turns), self._failed(error, "chat.failed"), [])
            return
        async for step in self._answered(request, values, _Asking(tuple(turns), (*turns, said), filled)):
            yield step

    async def ask_again(self, request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        """The last question, which had no answer, once more. The fields are left to the next one."""
        turns = tuple(values[-1])
        if turns and turns[-1].is_failed:
            async for step in self._answered(request, values, _Asking(turns, retried(turns))):
                yield step
        else:
            yield self._nothing(self._page.words("chat.no_question"))

    async def _answered(self, request: gr.Request, values: Sequence[Any], asking: _Asking) -> AsyncIterator[list[Any]]:
        model, system, most, temperature, seed = values[2:7]
        page, turns = self._page, told(asking.turns)
        ask = Chat(int(most), float(temperature), seed=int(seed or 0) if temperature else None)
        try:
            name = page.usable(request, model)
            pieces = page.host.engine.stream(name, conversation_of(page.host, turns, system), ask)
            codes = commands.texts(commands.Act.of(page, name, ask, turns, system))
        except AnmokError as error:  # gradio's own way of telling it covers the fields with what was typed
            yield self._values(asking.before, self._failed(error, asking.left), [])
            return
        with self._stops.until(request.session_hash or "") as stopped:
            async for step in self._written(grown(pieces, stopped, self._writing), asking, codes):
                # What is still written would bring back a conversation that was cleared away.
                yield [gr.skip() for _ in range(_VALUES)] if stopped.is_dropped else step

    def _check(self, name: str, filled: _Filled) -> None:
        """Raises:
        Spoken: a file that is nothing to the model.
        """
        senses, words = Senses.of(self._page.host, name), self._page.words
        if refused := senses.refused(filled.pictures, filled.sound):
            raise Spoken(words("chat.not_taken", ", ".join(refused), senses.line(words, name)))

    async def _written(
        self, pieces: AsyncIterator[Piece], asking: _Asking, codes: list[str]
    ) -> AsyncIterator[list[Any]]:
        """The conversation as the answer grows, and at the end what it took. The fields are emptied once: the next
        question may be typed meanwhile."""
        words, asked, text, reply = self._page.words, asking.turns, "", None
        emptied = None if asking.filled is None else _Filled()
        yield self._values((*asked, Said("assistant", "")), words("chat.writing"), codes, emptied, is_running=True)
        try:
            async for piece in pieces:
                text, reply = text + piece.text, piece.reply
                if not piece.text and reply is None:
                    yield [gr.skip() for _ in range(_VALUES)]  # where the visitor has left, gradio ends this here
                elif reply is None:
                    yield self._values((*asked, Said("assistant", text)), words("chat.writing"), [], is_running=True)
        except AnmokError as error:
            yield await self._broken_off(error, asking, text)
            return
        ended = words("chat.stopped") if reply is None else showing.totals(words, reply)
        yield self._values((*asked, Said("assistant", text)), ended, codes)  # the last one is all that programs see

    async def _broken_off(self, error: AnmokError, asking: _Asking, text: str) -> list[Any]:
        """What was written stays, with the offer to ask again. Without a word of answer the question may go back to
        its fields, which ``settle`` decides: only the browser knows what was typed meanwhile."""
        if isinstance(error, BadMedia):
            error = await to_thread.run_sync(named, asking.turns[-1], error)
        turns = failed(asking.turns, text)
        if text or asking.filled is None:
            return self._values(turns, self._failed(error, "chat.failed_kept"), [])
        why = _ended(self._page.told(error))
        return self._values(turns, why, [], undone=_Undone(asking.filled, why))

    def settle(self, undone: _Undone | None, turns: tuple[Said, ...], *fields: Any) -> list[Any]:
        """A question without an answer goes back where nothing was put in its place; otherwise it stays."""
        if undone is None:
            return [gr.skip() for _ in range(_VALUES)]
        if any(fields):
            return self._values(turns, f"{undone.told} {self._page.words('chat.failed_kept')}", [])
        return self._values(turns[:-2], f"{undone.told} {self._page.words('chat.failed')}", [], undone.filled)

    def _failed(self, error: AnmokError, left: str) -> str:
        return f"{_ended(self._page.told(error))} {self._page.words(left)}"

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
        skipped[4] = paragraph(text)
        return skipped

    def _values(
        self,
        turns: tuple[Said, ...],
        text: str,
        codes: list[str],
        filled: _Filled | None = None,
        *,
        is_running: bool = False,
        undone: _Undone | None = None,
    ) -> list[Any]:
        """``filled`` stands in the form from now on; None, and no ``codes``, leave what stands there."""
        shown = codes or [gr.skip()] * 3
        if filled is None:
            pictures, question, *heard = [gr.skip()] * 5
        else:
            pictures, question = list(filled.pictures) or None, filled.question
            heard = [filled.sound, filled.start, filled.end]
        state = [turns, showing.talk(self._page.words, turns), pictures, question, paragraph(text)]
        is_failed = bool(turns) and turns[-1].is_failed
        return [*state, gr.update(visible=is_running), *heard, *shown, gr.update(visible=is_failed), undone]
