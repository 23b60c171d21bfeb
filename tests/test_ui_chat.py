"""The tab Chat: in a real Chromium, by gradio's own client, and the commands that it gives to copy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page, expect

import anmok.server.engines
from anmok import wire
from anmok.catalogue import card
from anmok.load import Model, load
from anmok.results import Piece
from anmok.server.settings import Served, Settings
from anmok.tasks import Chat
from anmok.ui.chatting import commands, showing
from anmok.ui.chatting.talking import Said, Stops
from anmok.ui.tabs import shown as shown_tabs
from anmok.ui.texts import Words
from browser.chromium import WIDTHS, choose_tab, chromium, faults, opened, overflow, typed
from browser.served import shown
from serving import RED_BOX, Running, png, scene
from ui_page import GRADIO

pytestmark = [
    *GRADIO,
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

TALKING = tuple(Served.of(name) for name in ("fake-talk", "fake-talk-text", "fake"))
RED = png(scene({"red": (0, 0, 80, 60)}))
_SECONDS = 60_000  # milliseconds, at the most


class Gate:
    """Lets a model say so many pieces, and the next ones when it is opened."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.opens = threading.Event()

    def load(self, name: str, **settings: Any) -> Model:
        model = load(name, **settings)
        if "chat" not in model.card.tasks:
            return model
        talk = model.kind.talk

        def held(state: Any, ask: Chat) -> Iterator[Piece]:
            for number, piece in enumerate(talk(state, ask)):
                if number >= self.free and "slowly" in state.turns[-1].text:
                    assert self.opens.wait(30)
                yield piece

        model.kind.talk = held
        return model


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate(4)


@pytest.fixture(scope="module")
def server(gate: Gate) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anmok.server.engines, "load", gate.load)
        with shown(settings=Settings(models=TALKING)) as found:
            yield found
        gate.opens.set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@contextlib.contextmanager
def visit(browser: Browser, server: Running, language: str = "en", width: int = 1440) -> Iterator[tuple[Page, Words]]:
    """The tab, opened; afterwards nothing is wrong with the page."""
    with opened(browser, f"{server.address}/ui/{language}/", width=width) as (page, seen):
        page.set_default_timeout(_SECONDS)
        words = Words(language)
        choose_tab(page, "#anmok-tabs", "chat", words("chat.title"))
        expect(page.locator("#chat-question")).to_be_visible()
        yield page, words
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []
    assert seen.outside == []


def ask(page: Page, question: str, *pictures: bytes) -> None:
    if pictures:
        files: Any = [
            {"name": f"photo{i}.png", "mimeType": "image/png", "buffer": data} for i, data in enumerate(pictures)
        ]
        page.locator("#chat-pictures input[type=file]").set_input_files(files)
        expect(page.locator("#chat-seen img")).to_have_count(len(pictures), timeout=_SECONDS)
    typed(page.locator("#chat-question textarea"), question)
    page.locator("#chat-go").click()


STORIES = [("en", 1440), ("ko", 390)]
ALL = [(language, width) for language in ("en", "ko") for width in WIDTHS.values()]


@pytest.mark.parametrize(
    ("language", "width"),
    [pytest.param(*one, marks=[] if one in STORIES else [pytest.mark.slow]) for one in ALL],
)
def test_a_question_about_two_pictures_and_another_after_it(
    browser: Browser, server: Running, language: str, width: int
) -> None:
    with visit(browser, server, language, width) as (page, words):
        ask(page, "뭐예요? 🌈 <b>ok</b>", RED, RED_BOX)
        said = page.locator("#chat-said")
        # 25 bytes, which are nine tokens of the fake; 16 for each picture, 2 for the turn.
        told = words("chat.totals_pictures", 43, 32, 20, 0.0, 0)
        expect(said).to_contain_text(told[: told.index("20") + 2])
        talk = page.locator("#chat-talk")
        expect(talk).to_contain_text("I see red, black. Question 1: 뭐예요? 🌈 <b>ok</b>")
        expect(talk.locator("img[src*='photo']")).to_have_count(2)
        expect(page.locator("#chat-question textarea")).to_have_value("")
        expect(page.locator("#chat-seen img")).to_have_count(0)
        ask(page, "And now?")
        expect(talk).to_contain_text("I see red, black. Question 2: And now?")
        expect(page.locator("#chat-stop")).to_be_hidden()
        page.get_by_text(words("try.copy")).last.click()
        expect(page.locator("#chat-tab").get_by_text("import anmok").first).to_be_visible()
        page.locator("#chat-clear").click()
        expect(talk).not_to_contain_text("Question 1")
        expect(said).to_have_text(words("chat.begin"))


def test_an_answer_is_stopped_while_the_model_is_still_at_it(browser: Browser, server: Running, gate: Gate) -> None:
    """What there is of it stays, the model is free, and the conversation goes on."""
    assert server.server is not None
    with visit(browser, server) as (page, words):
        ask(page, "say it slowly")
        talk, stop = page.locator("#chat-talk"), page.locator("#chat-stop")
        expect(talk).to_contain_text("Question 1", timeout=30_000)  # four pieces of three letters
        expect(talk).not_to_contain_text("slowly!")
        expect(page.locator("#chat-said")).to_have_text(words("chat.writing"))
        assert server.server.desk.engine.status().items == 1
        stop.click()
        expect(page.locator("#chat-said")).to_have_text(words("chat.stopped"))
        expect(stop).to_be_hidden()
        gate.opens.set()
        until(lambda: server.server.desk.engine.status().items == 0)  # type: ignore[union-attr]
        ask(page, "go on")
        expect(talk).to_contain_text("Question 2: go on")
        gate.opens.clear()


def test_the_next_question_can_be_typed_while_an_answer_is_written(
    browser: Browser, server: Running, gate: Gate
) -> None:
    """Each step of the answer wiped it away, once."""
    gate.opens.clear()
    with visit(browser, server) as (page, _):
        ask(page, "say it slowly")
        expect(page.locator("#chat-talk")).to_contain_text("Question 1")
        typed(page.locator("#chat-question textarea"), "typed meanwhile")
        gate.opens.set()
        expect(page.locator("#chat-said")).to_contain_text("tokens in")
        expect(page.locator("#chat-question textarea")).to_have_value("typed meanwhile")


def test_starting_over_in_the_middle_of_an_answer_ends_it(browser: Browser, server: Running, gate: Gate) -> None:
    """What was still written brought the old conversation back, once."""
    assert server.server is not None
    engine = server.server.desk.engine
    gate.opens.clear()
    with visit(browser, server) as (page, words):
        ask(page, "say it slowly")
        talk = page.locator("#chat-talk")
        expect(talk).to_contain_text("Question 1")
        page.locator("#chat-clear").click()
        expect(talk.locator(".turn")).to_have_count(0)
        page.wait_for_timeout(1500)
        gate.opens.set()
        until(lambda: engine.status().items == 0)
        expect(talk.locator(".turn")).to_have_count(0)
        expect(page.locator("#chat-said")).to_have_text(words("chat.begin"))
        expect(page.locator("#chat-stop")).to_be_hidden()
        ask(page, "afresh")
        expect(talk).to_contain_text("Question 1: afresh")


def test_who_leaves_takes_his_question_along(browser: Browser, server: Running, gate: Gate) -> None:
    assert server.server is not None
    engine = server.server.desk.engine
    gate.opens.clear()
    with opened(browser, f"{server.address}/ui/en/") as (page, _):
        choose_tab(page, "#anmok-tabs", "chat", Words("en")("chat.title"))
        ask(page, "say it slowly")
        expect(page.locator("#chat-talk")).to_contain_text("Question 1", timeout=_SECONDS)
        assert engine.status().items == 1
    until(lambda: engine.status().items == 0)
    gate.opens.set()


def test_what_cannot_be_asked_is_said_and_the_question_stays(browser: Browser, server: Running) -> None:
    with visit(browser, server, "ko") as (page, words):
        page.locator("#chat-go").click()
        expect(page.locator("#chat-said")).to_have_text(words("chat.no_question"))
        ask(page, "what is it?", *[RED] * 5)
        said = page.locator("#chat-said")
        expect(said).to_contain_text("5 pictures for fake-talk, which takes 4 in a conversation")
        expect(said).to_contain_text(words("page.errors.bad_request"))
        expect(said).to_contain_text(words("chat.failed"))
        expect(page.locator("#chat-question textarea")).to_have_value("what is it?")
        expect(page.locator("#chat-seen img")).to_have_count(5)


def until(met: Callable[[], bool], seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.05)


def test_gradios_own_client_asks(server: Running, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    client = Client(f"{server.address}/ui/en/", verbose=False)
    shown = [handle_file(str(tmp_path / "red.png"))]
    job = client.submit(shown, "What is it?", "fake-talk", "Be short.", 100, 0, 0, None, api_name="/chat")
    last = job.result(timeout=30)
    assert ">Be short. I see red. Question 1: What is it?<" in last[0]
    again = client.predict([], "And?", "fake-talk", "", 3, 0, 0, None, api_name="/chat")
    assert ">I see red</p>" in again[0]  # three tokens of three bytes, and the picture of before is still known
    client.close()


def test_the_tab_stands_where_a_model_talks() -> None:
    from anmok.engine import Engine
    from anmok.ui import Host

    with Engine(2**30) as engine:
        hosts = [Host(engine, {name: card(name)}) for name in ("fake-talk-text", "fake")]
        has_tab = ["anmok.ui.chatting" in {tab.make.__module__ for tab in shown_tabs(host)} for host in hosts]
    assert has_tab == [True, False]


def act(*turns: Said, model: str = "fake-talk", system: str = "", asked: Chat | None = None) -> commands.Act:
    address = "http://127.0.0.1:8000"
    return commands.Act(model, model, card(model), asked or Chat(), turns, system, address, False, "cannot be said")


CASES = {
    "one": act(Said("user", 'It\'s -1 "or" $HOME?\n`ls`', ("up/red.png",)), asked=Chat(50, seed=3)),
    "dash": act(Said("user", "-x"), system="--be short"),
    "many": act(
        Said("user", "뭐예요?", ("up/red.png", "up/box.png")),
        Said("assistant", "빨강"),
        Said("user", "확실해요?"),
        system="Be short.",
        asked=Chat(100, 0.5, seed=7),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_commands_run_and_answer_alike(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serving import running

    one = CASES[name]
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "box.png").write_bytes(RED_BOX)
    python, _, shell = commands.texts(one)
    with contextlib.chdir(tmp_path):
        exec(compile(python, "copied", "exec"), {})
    answer = capsys.readouterr().out
    question = one.turns[-1].text
    assert answer.endswith(f"Question {sum(turn.role == 'user' for turn in one.turns)}: {question}\n")
    with running(Settings(models=TALKING[:1])) as server:
        _, curl, _ = commands.texts(replace(one, address=server.address))
        lines = subprocess.run(
            ["bash", "-c", curl], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True
        )
    pieces = [
        wire.result_from_json("chat", wire.fields.parsed(row.encode(), limit=10**6))
        for row in lines.stdout.splitlines()
    ]
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) + "\n" == answer
    if len(one.turns) > 1:
        assert shell == "# cannot be said\n"
        return
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", env=environment
    )
    assert (ran.returncode, ran.stdout) == (0, answer), ran.stderr


def test_words_are_words_and_totals_are_told() -> None:
    from anmok.results import Reply

    turns = (Said("user", "<img src=//evil> & ![](http://evil)", ("/up/a 'b\".png",)), Said("assistant", "ok"))
    told = showing.talk(Words("en"), turns)
    assert "&lt;img src=//evil&gt; &amp; ![](http://evil)</p>" in told
    assert """<img src="gradio_api/file=/up/a%20%27b%22.png" alt="a &#x27;b&quot;.png">""" in told
    assert told.count("<img") == 1
    told = showing.totals(Words("en"), Reply("x", "length", 20, 10, 16, 0.1, 2.0))
    assert told == (
        "20 tokens in (16 for photos and videos), 10 out, in 2.0 s (5.0 tokens a second). "
        "It was cut off at the longest answer."
    )
    assert showing.totals(Words("ko"), Reply("x", "stop", 4, 10, 0, 0.1, 2.0)).startswith(
        "읽은 토큰 4개, 쓴 토큰 10개, 2.0초"
    )


def test_a_new_question_stops_the_one_before() -> None:
    stops = Stops()
    with stops.until("a") as first, stops.until("b") as other:
        stops.stop("nobody")
        with stops.until("a") as second:
            assert (first.is_set(), second.is_set(), other.is_set()) == (True, False, False)
            stops.stop("a")
            assert second.is_set()
        assert not other.is_set()


def test_a_conversation_that_was_cleared_away_stays_away_whatever_is_asked_next() -> None:
    stops = Stops()
    with stops.until("a") as first:
        stops.stop("a")
        assert not first.is_dropped
        stops.stop("a", is_dropped=True)
        with stops.until("a") as second:
            assert (first.is_dropped, second.is_dropped) == (True, False)
