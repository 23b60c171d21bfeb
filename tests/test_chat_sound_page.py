"""The tab Chat with sounds: in a real Chromium, by gradio's own client, and the commands that it gives to copy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import expect

from anmok import Sound, wire
from anmok.catalogue import card
from anmok.engine import Engine
from anmok.errors import BadMedia, TooMuch
from anmok.inputs import Clip
from anmok.results import Piece, Reply
from anmok.server.settings import Served, Settings
from anmok.tasks import Chat
from anmok.ui import Host
from anmok.ui.chatting import commands, showing
from anmok.ui.chatting.talking import Said, conversation_of
from anmok.ui.senses import Senses
from anmok.ui.texts import LANGUAGES, Words
from browser.chromium import choose_tab, chromium, faults, opened, overflow, typed
from browser.served import shown
from serving import Running, png, running
from sound_files import filmed, tone, wav
from test_ui_browser_model import having, visit
from ui_page import GRADIO

pytestmark = [
    *GRADIO,
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

HEARS, DEAF = "fake-talk-sound", "fake-talk"
TALKING = (Served.of(HEARS), Served.of(DEAF))
RED = np.full((48, 64, 3), (255, 0, 0), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a hum.wav``: a second of 300 Hz; ``long.wav``: six, one more than the model hears; ``clip.mp4``: red for two
    seconds, with a tone of 700 Hz."""
    found = tmp_path_factory.mktemp("page")
    (found / "a hum.wav").write_bytes(wav(tone(300)))
    (found / "-high.wav").write_bytes(wav(tone(1000)))
    (found / "long.wav").write_bytes(wav(tone(300, 6)))
    (found / "red.png").write_bytes(png(RED))
    filmed(found / "clip.mp4", [RED] * 20, tone(700, 2, 48_000))
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with shown(settings=Settings(models=TALKING)) as found:
        yield found


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_about_a_sound_and_a_video_with_its_own(server: Running, folder: Path, language: str) -> None:
    words = Words(language)
    with chromium() as browser, opened(browser, f"{server.address}/ui/{language}/", width=390) as (page, seen):
        page.set_default_timeout(60_000)
        choose_tab(page, "#anmok-tabs", "chat", words("chat.title"))
        talk, said, go = page.locator("#chat-talk"), page.locator("#chat-said"), page.locator("#chat-go")
        heard = page.locator("#chat-seen [data-sound]")
        page.locator("#chat-sounds input[type=file]").set_input_files(folder / "a hum.wav")
        expect(heard).to_have_count(1)
        # It can be played: the browser knows how long it is.
        expect(page.locator("#chat-sounds #duration")).to_have_text("0:01")
        typed(page.locator("#chat-question textarea"), "What hums?")
        go.click()
        expect(talk).to_contain_text("I see a tone of 300 Hz. Question 1: What hums?")
        expect(talk.locator("audio")).to_have_count(1)
        expect(talk.locator("figcaption")).to_have_text("a hum.wav")
        told = words("chat.totals_sounds", 14, 0, 16, 0.0, 0.0, 8)
        expect(said).to_contain_text(told[: told.index("16")])
        expect(heard).to_have_count(0)

        page.locator("#chat-pictures input[type=file]").set_input_files(folder / "clip.mp4")
        expect(page.locator("#chat-seen video")).to_have_count(1)
        page.get_by_label(words("chat.has_sound")).check()
        typed(page.locator("#chat-question textarea"), "And now?")
        go.click()
        expect(talk).to_contain_text("a tone of 300 Hz, 8 frames of red with a tone of 700 Hz. Question 2: And now?")
        expect(talk.locator("video")).to_have_js_property("muted", False)
        assert overflow(page) == 0
        assert faults(page) == []

        page.locator("#chat-clear").click()
        expect(talk.locator("audio")).to_have_count(0)
        page.locator("#chat-sounds input[type=file]").set_input_files(folder / "long.wav")
        expect(heard).to_have_count(1)
        typed(page.locator("#chat-question textarea"), "And this?")
        go.click()
        expect(said).to_contain_text("over 5 s of sound, which are the most at once")
        expect(said).to_contain_text(words("chat.failed"))
        if language == "ko":
            expect(said).to_contain_text(words("page.errors.bad_request"))
        expect(heard).to_have_count(1)  # it stays in its field, as the question does

        page.get_by_label(words("try.model"), exact=True).last.click()
        page.get_by_role("option", name=DEAF, exact=True).click()
        expect(page.locator("#chat-sounds")).to_be_hidden()
        expect(page.locator("#chat-has-sound")).to_be_hidden()
        expect(heard).to_have_count(0)
        typed(page.locator("#chat-question textarea"), "Hello?")
        go.click()
        expect(talk).to_contain_text("Question 1: Hello?")  # the sound did not go along
    assert seen.complaints == []
    assert seen.outside == []


@pytest.mark.browser
def test_the_browsers_own_model_says_that_it_hears_none(server: Running, folder: Path) -> None:
    words = Words("ko")
    with chromium() as browser, visit(browser, server, having(), "ko") as (page, _):
        page.locator("#chat-sounds input[type=file]").set_input_files(folder / "a hum.wav")
        expect(page.locator("#chat-seen [data-sound]")).to_have_count(1)
        typed(page.locator("#chat-question textarea"), "뭐예요?")
        page.locator("#chat-nano [data-act=ask]").click()
        expect(page.locator("#chat-nano .told")).to_have_text(words("nano.no_sounds"))
        assert page.evaluate("window.told.prompts") == []


def test_gradios_own_client_asks(server: Running, folder: Path) -> None:
    client = Client(f"{server.address}/ui/ko/", verbose=False)
    film, hum = [handle_file(str(folder / "clip.mp4"))], handle_file(str(folder / "a hum.wav"))
    last = client.predict(film, "What?", HEARS, "", 100, 0, 0, hum, True, "", "", api_name="/chat")
    assert ">I see 8 frames of red with a tone of 700 Hz, a tone of 300 Hz. Question 1: What?</p>" in last[0]
    assert "(사진과 동영상 32개, 소리 16개)" in last[3]
    told = "about(anmok.Clip('clip.mp4', has_sound=True), anmok.Sound('a hum.wav'), question='What?')"
    assert told in " ".join(map(str, last))
    client.close()
    other = Client(f"{server.address}/ui/ko/", verbose=False)
    last = other.predict([], "What?", DEAF, "", 100, 0, 0, hum, False, "", "", api_name="/chat")
    words = Words("ko")
    assert words("chat.not_taken", "a hum.wav", words("chat.takes.photos", DEAF)) in last[3]
    assert words("chat.failed") in last[3]
    other.close()


CASES = {
    "sounds": (
        Said("user", "What?", ("up/red.png",), ("up/a hum.wav", "up/-high.wav")),
        "I see red, a tone of 300 Hz, a tone of 1000 Hz. ",
    ),
    "clip": (
        Said("user", "What?", ("up/clip.mp4",), ("up/a hum.wav",), True),
        "I see 8 frames of red with a tone of 700 Hz, a tone of 300 Hz. ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_commands_run_and_answer_alike(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, told = CASES[name]
    one = commands.Act(HEARS, HEARS, card(HEARS), Chat(), (said,), "", "http://127.0.0.1:8000", False, "none")
    python, _, shell = commands.texts(one)
    answer = f"{told}Question 1: What?\n"
    with contextlib.chdir(folder):
        exec(compile(python, "copied", "exec"), {})
        assert capsys.readouterr().out == answer
        many = commands.texts(replace(one, turns=(said, Said("assistant", "a"), Said("user", "Sure?"))))[0]
        exec(compile(many, "copied", "exec"), {})
        assert capsys.readouterr().out == f"{told}Question 2: Sure?\n"
    with running(Settings(models=TALKING[:1])) as server:
        _, curl, _ = commands.texts(replace(one, address=server.address))
        rows = subprocess.run(
            ["bash", "-c", curl], cwd=folder, capture_output=True, encoding="utf-8", check=True
        ).stdout
    pieces = [wire.result_from_json("chat", wire.fields.parsed(row.encode(), limit=10**6)) for row in rows.splitlines()]
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) + "\n" == answer
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", shell], cwd=folder, capture_output=True, encoding="utf-8", env=environment)
    assert (ran.returncode, ran.stdout) == (0, answer), ran.stderr


def test_what_is_read_of_an_upload(folder: Path) -> None:
    hum, film = str(folder / "a hum.wav"), str(folder / "clip.mp4")
    with Engine(2**20) as engine:
        host = Host(engine, {name: card(name) for name in (HEARS, DEAF)})
        assert [Senses.of(host, name).has_ears for name in (HEARS, DEAF, "gone")] == [True, False, False]
        said = conversation_of(host, [Said("user", "?", (film,), (hum,), True)], "")
        [clip], [sound] = said.clips, said.sounds
        assert isinstance(clip, Clip)
        assert isinstance(sound, Sound)
        assert (clip.source, clip.has_sound) == (Path(film).read_bytes(), True)
        assert sound.source == wav(tone(300))
        with pytest.raises(BadMedia, match="gone.wav: it is no longer here; clear the conversation"):
            conversation_of(host, [Said("user", "?", (), (str(folder / "gone.wav"),))], "")
        size = len(wav(tone(300)))
        exact = replace(host, intake=replace(host.intake, sound_bytes=size, clip_bytes=1))
        assert len(conversation_of(exact, [Said("user", "?", (), (hum,))], "").sounds) == 1
        small = replace(host, intake=replace(host.intake, sound_bytes=size - 1))
        with pytest.raises(TooMuch, match=f"a hum.wav: {size - 1:,} bytes are the limit"):
            conversation_of(small, [Said("user", "?", (), (hum,))], "")


def test_a_sound_and_what_it_took() -> None:
    told = showing.talk(Words("en"), (Said("user", "?", ("/up/a.mp4",), ("/up/a 'b\".wav",), True),))
    named = "a &#x27;b&quot;.wav"
    assert f'<audio src="gradio_api/file=/up/a%20%27b%22.wav" aria-label="{named}" controls' in told
    assert f"<figcaption>{named}</figcaption>" in told
    assert 'aria-label="a.mp4" controls playsinline' in told  # to be heard, so not muted
    assert showing.brought(None, None) == ""
    assert showing.brought(["a.mp4"], "b.wav").count("muted playsinline") == 1
    assert showing.brought(["a.mp4"], "b.wav").endswith("</div><span data-sound hidden></span>")
    reply = Reply("x", "stop", 40, 10, 0, 0.1, 2.0, sound_tokens=8)
    en, ko = Words("en"), Words("ko")
    assert showing.totals(en, reply) == "40 tokens in (8 for sounds), 10 out, in 2.0 s (5.0 tokens a second)."
    both = replace(reply, image_tokens=16)
    assert "40 tokens in (16 for photos and videos, 8 for sounds), 10 out" in showing.totals(en, both)
    assert showing.totals(ko, both).startswith("읽은 토큰 40개(사진과 동영상 16개, 소리 8개), 쓴 토큰 10개")
