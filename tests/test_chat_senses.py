"""What a model takes, in the tab Chat and in Try: said in a line, and nothing else let in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page, expect

from anmok import cards
from anmok.catalogue import card
from anmok.engine import Engine
from anmok.errors import BadMedia
from anmok.inputs import Clip, Sound
from anmok.load import tiny
from anmok.nets.families import family_of
from anmok.server.settings import Served, Settings
from anmok.tasks import Chat, Watches
from anmok.ui import Host
from anmok.ui.chatting import bringing, commands, showing
from anmok.ui.chatting.bringing import seconds
from anmok.ui.chatting.talking import Said, conversation_of, named
from anmok.ui.page import Page as Tab
from anmok.ui.senses import Senses, kind_of, taken_in
from anmok.ui.sessions import Sessions
from anmok.ui.texts import LANGUAGES, Spoken, Words
from browser.chromium import choose_tab, chromium, faults, opened, overflow, typed
from browser.served import shown
from serving import Running, png
from sound_files import filmed, tone, wav
from ui_page import GRADIO

pytestmark = [
    *GRADIO,
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

LOOKS, HEARS, WATCHES, READS = "fake-talk", "fake-talk-sound", "fake-talk-video", "fake-talk-text"
ALL = (LOOKS, HEARS, WATCHES, READS)
TRIED = ("fake", "fake-places")
RED = np.full((48, 64, 3), (255, 0, 0), np.uint8)
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # it beeps
LOCALES = {"en": "en-US", "ko": "ko-KR"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``hum.wav``: two seconds of 300 Hz, then two of 1000; ``clip.mp4``: red for two seconds; ``red.png``;
    ``broken.png``, which is none."""
    found = tmp_path_factory.mktemp("senses")
    (found / "hum.wav").write_bytes(wav(np.concatenate([tone(300, 2), tone(1000, 2)])))
    filmed(found / "clip.mp4", [RED] * 20, tone(700, 2, 48_000))
    (found / "red.png").write_bytes(png(RED))
    (found / "broken.png").write_bytes(b"no picture")
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with shown(settings=Settings(models=tuple(map(Served.of, (*ALL, *TRIED))))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(*MICROPHONE) as found:
        yield found


def pick(page: Page, words: Words, name: str) -> None:
    page.get_by_label(words("try.model"), exact=True).last.click()
    page.get_by_role("option", name=name, exact=True).click()
    expect(page.locator("#chat-takes")).to_contain_text(name)


# --- what cards say ------------------------------------------------------------------------------------------


def test_a_card_says_what_its_model_takes() -> None:
    talking = [one for one in cards("chat", is_hidden=True) if one.code == "talking:Talks"]
    assert len(talking) > 80
    for one in talking:
        family = family_of(one.kind, one.name)
        found = (family.most_pictures > 0, family.watching is not None, family.hearing is not None)
        assert (one.has_eyes, one.has_clips, one.has_ears) == found, one.name
    for name in ALL:
        kind: Any = tiny(name).kind
        watches = isinstance(kind, Watches) and kind.most_clips > 0
        assert (card(name).has_eyes, card(name).has_clips) == (kind.most_pictures > 0, watches), name
    rest = {one.family for one in cards("chat") if one.code != "talking:Talks"}
    assert rest == {"florence2", "mini", "moondream", "remote"}  # they look, and take no clips
    assert {(one.has_eyes, one.has_clips) for one in cards("chat") if one.code != "talking:Talks"} == {(True, False)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_model_has_its_line(language: str) -> None:
    words = Words(language)
    for one in cards("chat", is_hidden=True):
        line = Senses(one.has_eyes, one.has_clips, one.has_ears).line(words, one.name)
        assert line.startswith(one.name), one.name
        assert "{" not in line
    tried = {task: taken_in(words, card("fake"), task) for task in ("classify", "embed", "track")}
    assert len(set(tried.values())) == 3
    assert taken_in(words, replace(card("fake"), languages=()), "embed") == tried["classify"]


def test_nothing_is_said_of_a_model_that_there_is_not(tmp_path: Path) -> None:
    with Engine(2**20) as engine:
        page = Tab(Host(engine, {READS: card(READS)}), Words("en"), Sessions(tmp_path))
        assert READS in bringing._line(page, READS)
        assert [bringing._line(page, name) for name in ("", "gone")] == ["", ""]


def test_seconds_are_read_as_people_write_them() -> None:
    words = Words("en")
    times = ("", " ", "0", "2.5", ".5", "1:30", "1:00:02.5", " 7 ")
    assert [seconds(words, text) for text in times] == [None, None, 0.0, 2.5, 0.5, 90.0, 3602.5, 7.0]
    for wrong in ("-1", "x", "1:x", "1:", ":", ".", "nan", "inf", "1" * 400, "1,5", "-1:90", "1:-5", "1_0", "1:1e2"):
        with pytest.raises(Spoken, match="is no time"):
            seconds(words, wrong)


def test_files_are_told_apart_by_their_names() -> None:
    names = ("a.JPG", "b.mp4", "c/d.WAV", "e.txt", "f")
    assert [kind_of(name) for name in names] == ["photo", "video", "sound", "photo", "photo"]
    looks, reads = Senses(True, False, False), Senses(False, False, False)
    assert looks.refused(["x/a.jpg", "x/b.mp4"], "x/c.mp4") == ["b.mp4", "c.mp4"]
    assert reads.refused(["x/a.jpg"], None) == ["a.jpg"]
    assert Senses(True, True, True).refused(["a.jpg", "b.mp4"], "recorded.webm") == []


# --- in the browser ------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize(("language", "width"), [("ko", 390), ("en", 1440)])
def test_a_model_is_offered_what_it_takes(
    browser: Browser, server: Running, folder: Path, language: str, width: int
) -> None:
    words = Words(language)
    place = f"{server.address}/ui/{language}/"
    with opened(browser, place, width=width, locale=LOCALES[language]) as (page, seen):
        choose_tab(page, "#anmok-tabs", "chat", words("chat.title"))
        takes, pictures, sounds = (page.locator(f"#chat-{name}") for name in ("takes", "pictures", "sounds"))
        expect(takes).to_have_text(words("chat.takes.photos", LOOKS))
        expect(sounds).to_be_hidden()
        expect(page.locator("#chat-start")).to_be_hidden()
        expect(page.locator("#chat-seen")).to_be_hidden()  # no gap where nothing is
        pictures.locator("input[type=file]").set_input_files(folder / "clip.mp4")
        told = page.locator(".toast-body")
        expect(told).to_contain_text(words("page.gradio.Invalid file type").format("clip.mp4"))
        expect(pictures.get_by_text("clip.mp4")).to_have_count(0)

        pick(page, words, HEARS)
        expect(takes).to_have_text(words("chat.takes.photos_videos_sounds", HEARS))
        expect(page.locator("#chat-end input")).to_have_value("")
        pictures.locator("input[type=file]").set_input_files([folder / "red.png", folder / "clip.mp4"])
        expect(page.locator("#chat-seen video")).to_have_count(1)
        sounds.locator("input[type=file]").set_input_files(folder / "hum.wav")
        expect(page.locator("#chat-seen [data-sound]")).to_have_count(1)

        pick(page, words, LOOKS)
        left = words("chat.left_out", "clip.mp4, hum.wav")
        expect(takes).to_have_text(f"{words('chat.takes.photos', LOOKS)} {left}")
        expect(page.locator("#chat-seen video")).to_have_count(0)
        expect(page.locator("#chat-seen img")).to_have_count(1)  # what it takes has stayed
        pick(page, words, READS)
        expect(takes).to_have_text(f"{words('chat.takes.words', READS)} {words('chat.left_out', 'red.png')}")
        expect(pictures).to_be_hidden()
        typed(page.locator("#chat-question textarea"), "And?")
        page.locator("#chat-go").click()
        expect(page.locator("#chat-talk")).to_contain_text("Question 1: And?")
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []
    assert seen.outside == []


@pytest.mark.browser
@pytest.mark.parametrize(("language", "width"), [("ko", 390), ("en", 1440)])
def test_a_part_of_a_sound_and_then_the_microphone(
    browser: Browser, server: Running, folder: Path, language: str, width: int
) -> None:
    words = Words(language)
    place = f"{server.address}/ui/{language}/"
    with opened(browser, place, width=width, locale=LOCALES[language]) as (page, seen):
        page.context.grant_permissions(["microphone"])
        choose_tab(page, "#anmok-tabs", "chat", words("chat.title"))
        pick(page, words, HEARS)
        sounds, talk = page.locator("#chat-sounds"), page.locator("#chat-talk")
        sounds.locator("input[type=file]").set_input_files(folder / "hum.wav")
        expect(page.locator("#chat-seen [data-sound]")).to_have_count(1)
        typed(page.locator("#chat-start input"), "2.1")
        typed(page.locator("#chat-end input"), "0:03.5")
        typed(page.locator("#chat-question textarea"), "What?")
        page.locator("#chat-go").click()
        expect(talk).to_contain_text("I see a tone of 1000 Hz. Question 1: What?")
        expect(talk.locator("figcaption")).to_have_text(f"hum.wav ({words('chat.span', 2.1, 3.5)})")
        for field in ("start", "end"):
            expect(page.locator(f"#chat-{field} input")).to_have_value("")  # of that sound, and no other

        sounds.get_by_role("button", name=words("page.gradio.Record audio")).click()
        sounds.locator(".record-button").click()
        expect(sounds.locator(".stop-button")).to_be_visible()
        page.wait_for_timeout(1500)
        sounds.locator(".stop-button").click()
        expect(page.locator("#chat-seen [data-sound]")).to_have_count(1)
        names = sounds.locator("button[aria-label]").evaluate_all("all => all.map(one => one.ariaLabel)")
        assert language == "en" or [name for name in names if re.fullmatch(r"[ -~]+", name)] == []
        typed(page.locator("#chat-end input"), "1")
        typed(page.locator("#chat-question textarea"), "And this?")
        page.locator("#chat-go").click()
        expect(talk).to_contain_text(re.compile(r"a tone of 1000 Hz, a tone of \d+ Hz\. Question 2: And this\?"))
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []
    assert seen.outside == []


@pytest.mark.browser
def test_try_says_what_a_model_takes_and_lets_nothing_else_in(browser: Browser, server: Running, folder: Path) -> None:
    words = Words("ko")
    with opened(browser, f"{server.address}/ui/ko/", locale="ko-KR") as (page, seen):
        panel = page.locator("#task-classify")
        expect(panel.locator(".anmok-facts")).to_contain_text(words("try.takes.photo"))
        panel.locator("input[type=file]").first.set_input_files(folder / "clip.mp4")
        told = page.locator(".toast-body").first
        expect(told).to_contain_text(words("page.gradio.Invalid file type").format("clip.mp4"))
        choose_tab(page, "#try-tasks", "track", words("try.tasks.track"))
        expect(page.locator("#task-track .anmok-facts")).to_contain_text(words("try.takes.video"))
    assert seen.outside == []


# --- by gradio's own client, and without a page --------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_sent_all_the_same_is_refused_in_a_sentence(server: Running, folder: Path, language: str) -> None:
    words = Words(language)
    client = Client(f"{server.address}/ui/{language}/", verbose=False)
    files = {name: handle_file(str(folder / name)) for name in ("clip.mp4", "red.png", "broken.png")}
    for name, model, takes in (("clip.mp4", LOOKS, "photos"), ("red.png", READS, "words")):
        last = client.predict([files[name]], "What?", model, "", 100, 0, 0, None, api_name="/chat")
        assert words("chat.not_taken", name, words(f"chat.takes.{takes}", model)) in last[3]
        assert words("chat.failed") in last[3]
    last = client.predict([files["red.png"], files["broken.png"]], "What?", LOOKS, "", 9, 0, 0, None, api_name="/chat")
    assert "broken.png: not an image that anmok reads" in last[3]
    assert str(folder.parent) not in last[3]
    hum = handle_file(str(folder / "hum.wav"))
    last = client.predict([], "What?", HEARS, "", 9, 0, 0, hum, False, "soon", "", api_name="/chat")
    assert words("chat.no_seconds", "soon") in last[3]
    last = client.predict([], "What?", "gone", "", 9, 0, 0, None, api_name="/chat")
    assert "this server has no model called" in last[3]
    client.close()


def test_seconds_reach_the_model_and_the_commands(folder: Path) -> None:
    film, hum = str(folder / "clip.mp4"), str(folder / "hum.wav")
    said = Said("user", "?", (film,), (hum,), True, 0.5, 2.0)
    with Engine(2**20) as engine:
        host = Host(engine, {HEARS: card(HEARS)})
        found = conversation_of(host, [said], "")
    [clip], [sound] = found.clips, found.sounds
    assert isinstance(clip, Clip)
    assert isinstance(sound, Sound)
    assert (clip.start, clip.end, sound.start, sound.end) == (0.5, 2.0, 0.5, 2.0)
    act = commands.Act(HEARS, HEARS, card(HEARS), Chat(), (said,), "", "http://127.0.0.1:8000", False, "none")
    python, curl, shell = commands.texts(act)
    assert (
        "anmok.Clip('clip.mp4', start=0.5, end=2, has_sound=True), anmok.Sound('hum.wav', start=0.5, end=2)" in python
    )
    assert '{"sound": {"part": "file1"}, "start": 0.5, "end": 2.0}' in curl
    assert shell.startswith("anmok chat --sound=hum.wav --with-sound --start=0.5 --end=2 ")
    told = showing.talk(Words("en"), (replace(said, end=None),))
    assert 'hum.wav#t=0.5" aria-label="hum.wav" controls' in told
    assert "hum.wav (from 0.5 s)" in told


def test_an_error_about_bytes_gets_the_name_of_its_file(folder: Path) -> None:
    other = BadMedia("elsewhere")
    good, bad = str(folder / "red.png"), str(folder / "broken.png")
    assert "broken.png" in str(named(Said("user", "?", (good, bad)), other))
    assert named(Said("user", "?", (good, str(folder / "clip.mp4"))), other) is other
