"""The tab Chat with videos: in a real Chromium, by gradio's own client, and the commands that it gives to copy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import expect

from anmok import Clip, wire
from anmok.catalogue import card
from anmok.engine import Engine
from anmok.errors import BadMedia, TooMuch
from anmok.inputs import Conversation
from anmok.results import Piece, Reply
from anmok.server.settings import Served, Settings
from anmok.tasks import Chat
from anmok.ui import Host
from anmok.ui.chatting import commands, showing
from anmok.ui.chatting.talking import Said, conversation_of, is_video
from anmok.ui.texts import LANGUAGES, Words
from asked_clips import BLUE, GREEN, RED, WATCHES, filmed
from browser.chromium import choose_tab, chromium, faults, opened, overflow, typed
from browser.served import shown
from serving import Running, png
from ui_page import GRADIO

pytestmark = [
    *GRADIO,
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

TALKING = (Served.of(WATCHES),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("page")
    filmed(found / "my clip.webm", RED, GREEN, BLUE)
    (found / "red.png").write_bytes(png(RED))
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with shown(settings=Settings(models=TALKING)) as found:
        yield found


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_about_a_video(server: Running, folder: Path, language: str) -> None:
    words = Words(language)
    with chromium() as browser, opened(browser, f"{server.address}/ui/{language}/", width=390) as (page, seen):
        page.set_default_timeout(60_000)
        choose_tab(page, "#anmok-tabs", "chat", words("chat.title"))
        files: Any = [folder / "my clip.webm", folder / "red.png"]
        page.locator("#chat-pictures input[type=file]").set_input_files(files)
        expect(page.locator("#chat-seen video")).to_have_count(1, timeout=60_000)
        expect(page.locator("#chat-seen img")).to_have_count(1)
        # It can be played: the browser has got as far as its size.
        page.wait_for_function("() => document.querySelector('#chat-seen video').videoWidth === 64", polling=50)
        typed(page.locator("#chat-question textarea"), "What happens?")
        page.locator("#chat-go").click()
        told = "I see 8 frames of red then green then blue, red. Question 1: What happens?"
        expect(page.locator("#chat-talk")).to_contain_text(told, timeout=60_000)
        expect(page.locator("#chat-said")).to_contain_text(words("chat.frames", 1, 8, 0.3, 5.6))
        expect(page.locator("#chat-talk video")).to_have_count(1)
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []
    assert seen.outside == []


def test_gradios_own_client_asks(server: Running, folder: Path) -> None:
    client = Client(f"{server.address}/ui/en/", verbose=False)
    files = [handle_file(str(folder / "my clip.webm"))]
    last = client.predict(files, "What?", WATCHES, "", 100, 0, 0, None, api_name="/chat")
    assert ">I see 8 frames of red then green then blue. Question 1: What?</p>" in last[0]
    assert "Of video 1 the model was shown 8 frames, from 0.3 s to 5.6 s." in last[3]
    assert "anmok.Conversation.about(anmok.Clip('my clip.webm'), question='What?')" in " ".join(map(str, last))
    client.close()


def test_the_commands_run_and_answer_alike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serving import running

    said = Said("user", "What?", ("up/my clip.webm", "up/red.png"))
    one = commands.Act(WATCHES, WATCHES, card(WATCHES), Chat(), (said,), "", "http://127.0.0.1:8000", False, "none")
    python, _, shell = commands.texts(one)
    with contextlib.chdir(folder):
        exec(compile(python, "copied", "exec"), {})
        answer = capsys.readouterr().out
        assert answer == "I see 8 frames of red then green then blue, red. Question 1: What?\n"
        many = commands.texts(replace(one, turns=(said, Said("assistant", "a"), Said("user", "Sure?"))))[0]
        exec(compile(many, "copied", "exec"), {})
        assert capsys.readouterr().out.endswith("blue, red. Question 2: Sure?\n")
    with running(Settings(models=TALKING)) as server:
        _, curl, _ = commands.texts(replace(one, address=server.address))
        told = subprocess.run(
            ["bash", "-c", curl], cwd=folder, capture_output=True, encoding="utf-8", check=True
        ).stdout
    pieces = [wire.result_from_json("chat", wire.fields.parsed(row.encode(), limit=10**6)) for row in told.splitlines()]
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) + "\n" == answer
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", shell], cwd=folder, capture_output=True, encoding="utf-8", env=environment)
    assert (ran.returncode, ran.stdout) == (0, answer), ran.stderr


def test_what_is_read_of_an_upload(folder: Path) -> None:
    assert [is_video(name) for name in ("a.MP4", "b/c.webm", "d.png", "e.gif", "mp4")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    with Engine(2**20) as engine:
        host = Host(engine, {WATCHES: card(WATCHES)})
        said = conversation_of(host, [Said("user", "?", (str(folder / "my clip.webm"), str(folder / "red.png")))], "")
        assert isinstance(said, Conversation)
        [clip] = said.clips
        assert isinstance(clip, Clip)
        assert (clip.source, said.pictures) == ((folder / "my clip.webm").read_bytes(), (png(RED),))
        with pytest.raises(BadMedia, match="gone.mp4: it is no longer here; clear the conversation"):
            conversation_of(host, [Said("user", "?", (str(folder / "gone.mp4"),))], "")
        small = replace(host, intake=replace(host.intake, clip_bytes=100))
        with pytest.raises(TooMuch, match="my clip.webm: 100 bytes are the limit"):
            conversation_of(small, [Said("user", "?", (str(folder / "my clip.webm"),))], "")


def test_a_video_and_what_was_shown_of_it() -> None:
    told = showing.talk(Words("en"), (Said("user", "?", ("/up/a 'b\".mp4",)),))
    assert 'src="gradio_api/file=/up/a%20%27b%22.mp4" aria-label="a &#x27;b&quot;.mp4" controls muted' in told
    assert "<img" not in told
    reply = Reply("x", "length", 40, 10, 32, 0.1, 2.0, ((0.5, 1.0), (3.0,)))
    assert showing.totals(Words("en"), reply) == (
        "40 tokens in (32 for photos and videos), 10 out, in 2.0 s (5.0 tokens a second). "
        "Of video 1 the model was shown 2 frames, from 0.5 s to 1.0 s. "
        "Of video 2 the model was shown 1 frame, at 3.0 s. It was cut off at the longest answer."
    )
    assert "2번째 동영상에서 3.0초의 프레임 1장을" in showing.totals(Words("ko"), reply)
