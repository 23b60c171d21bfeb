"""An answer that breaks off: what was typed meanwhile stays, and the question is not lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

import anmok.server.engines
from anmok.load import Model, load
from anmok.results import Piece
from anmok.server.settings import Served, Settings
from anmok.tasks import Chat
from anmok.ui.texts import Words
from browser.chromium import choose_tab, chromium, faults, opened, overflow, typed
from browser.served import shown
from serving import RED_BOX, Running
from ui_page import GRADIO

pytestmark = [pytest.mark.browser, *GRADIO]

TWO = "Questi"  # two pieces of three letters
LANGUAGES = [("en", 1440), ("ko", 390)]


class Fragile:
    """Loads a model that breaks after ``pieces`` of an answer, when it is let go; None: not at all."""

    def __init__(self) -> None:
        self.pieces: int | None = None
        self.goes = threading.Event()

    def load(self, name: str, **settings: Any) -> Model:
        model = load(name, **settings)
        talk = model.kind.talk

        def fragile(state: Any, ask: Chat) -> Iterator[Piece]:
            for number, piece in enumerate(talk(state, ask)):
                if number == self.pieces:
                    assert self.goes.wait(60)
                    raise RuntimeError("the wires are cut")
                yield piece

        model.kind.talk = fragile
        return model

    def breaks_after(self, pieces: int | None) -> None:
        self.pieces = pieces
        self.goes.clear()


@pytest.fixture(scope="module")
def model() -> Fragile:
    return Fragile()


@pytest.fixture(scope="module")
def server(model: Fragile) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", model.load)
        with shown(settings=Settings(models=(Served.of("fake-talk"),))) as found:
            yield found
        model.goes.set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@contextlib.contextmanager
def visit(browser: Browser, server: Running, language: str, width: int) -> Iterator[tuple[Page, Words]]:
    with opened(browser, f"{server.address}/ui/{language}/", width=width) as (page, seen):
        words = Words(language)
        choose_tab(page, "#anmok-tabs", "chat", words("chat.title"))
        yield page, words
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []


def ask(page: Page, question: str) -> None:
    typed(page.locator("#chat-question textarea"), question)
    page.locator("#chat-go").click()
    expect(page.locator("#chat-stop")).to_be_visible()


@pytest.mark.parametrize(("language", "width"), LANGUAGES)
def test_what_was_typed_while_an_answer_broke_off_stays(
    browser: Browser, server: Running, model: Fragile, language: str, width: int
) -> None:
    """The old question stood over it, once."""
    model.breaks_after(2)
    with visit(browser, server, language, width) as (page, words):
        field, talk = page.locator("#chat-question textarea"), page.locator("#chat-talk")
        said, again = page.locator("#chat-said"), page.locator("#chat-again")
        ask(page, "what is red?")
        expect(talk.locator(".assistant .words")).to_have_text(TWO)
        typed(field, "typed meanwhile")
        model.goes.set()
        expect(said).to_contain_text(words("chat.failed_kept"))
        expect(field).to_have_value("typed meanwhile")
        expect(talk.locator(".user .words")).to_have_text("what is red?")
        expect(talk.locator(".assistant .words")).to_have_text(TWO)
        expect(talk.locator(".ended")).to_have_text(words("chat.broken_off"))
        assert faults(page) == []
        model.breaks_after(None)
        again.click()
        expect(talk.locator(".assistant .words")).to_have_text("Question 1: what is red?")
        expect(again).to_be_hidden()
        expect(field).to_have_value("typed meanwhile")
        expect(talk.locator(".turn")).to_have_count(2)


@pytest.mark.parametrize(("language", "width"), LANGUAGES)
def test_a_question_without_a_word_of_answer_goes_back_to_its_empty_field(
    browser: Browser, server: Running, model: Fragile, language: str, width: int
) -> None:
    model.breaks_after(0)
    with visit(browser, server, language, width) as (page, words):
        photo: Any = {"name": "box.png", "mimeType": "image/png", "buffer": RED_BOX}
        page.locator("#chat-pictures input[type=file]").set_input_files(photo)
        expect(page.locator("#chat-seen img")).to_have_count(1)
        ask(page, "what is red?")
        expect(page.locator("#chat-seen img")).to_have_count(0)
        model.goes.set()
        expect(page.locator("#chat-said")).to_contain_text(words("chat.failed"))
        expect(page.locator("#chat-question textarea")).to_have_value("what is red?")
        expect(page.locator("#chat-seen img")).to_have_count(1)
        expect(page.locator("#chat-talk .turn")).to_have_count(0)
        expect(page.locator("#chat-again")).to_be_hidden()


def test_a_question_without_an_answer_makes_room_for_the_next_and_is_told_to_no_model(
    browser: Browser, server: Running, model: Fragile
) -> None:
    model.breaks_after(0)
    with visit(browser, server, "en", 1440) as (page, words):
        talk = page.locator("#chat-talk")
        ask(page, "what is red?")
        typed(page.locator("#chat-question textarea"), "what is blue?")
        model.goes.set()
        expect(page.locator("#chat-said")).to_contain_text(words("chat.failed_kept"))
        expect(page.locator("#chat-question textarea")).to_have_value("what is blue?")
        expect(talk.locator(".ended")).to_have_text(words("chat.unanswered"))
        model.breaks_after(0)
        page.locator("#chat-again").click()  # it breaks again, and is still there
        expect(page.locator("#chat-stop")).to_be_visible()
        model.goes.set()
        expect(page.locator("#chat-stop")).to_be_hidden()
        expect(page.locator("#chat-again")).to_be_visible()
        expect(talk.locator(".turn")).to_have_count(2)
        model.breaks_after(None)
        page.locator("#chat-go").click()
        expect(talk.locator(".assistant .words").last).to_have_text("Question 1: what is blue?")
        expect(talk.locator(".turn")).to_have_count(4)
        expect(page.locator("#chat-again")).to_be_hidden()


def test_what_was_cleared_away_does_not_come_back_when_the_model_breaks(
    browser: Browser, server: Running, model: Fragile
) -> None:
    model.breaks_after(2)
    with visit(browser, server, "en", 1440) as (page, words):
        ask(page, "what is red?")
        expect(page.locator("#chat-talk .assistant .words")).to_have_text(TWO)
        page.locator("#chat-clear").click()
        expect(page.locator("#chat-talk .turn")).to_have_count(0)
        model.goes.set()
        page.wait_for_timeout(1500)
        expect(page.locator("#chat-talk .turn")).to_have_count(0)
        expect(page.locator("#chat-said")).to_have_text(words("chat.begin"))
        expect(page.locator("#chat-question textarea")).to_have_value("")
