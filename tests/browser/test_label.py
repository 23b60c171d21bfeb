"""The Label tab in a real Chromium: by key alone, boxes, two people, a server that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from anmok.labelling.photos import Photos
from anmok.ui.texts import Words
from browser.chromium import WIDTHS, Seen, choose_tab, chromium, faults, opened, overflow, typed
from browser.labelled import labelled
from conftest import write_photos
from serving import Running, png, scene

pytestmark = pytest.mark.browser

TESTS = Path(__file__).parent.parent
EVERYWHERE = pytest.mark.parametrize(("language", "width"), [(one, two) for one in ("en", "ko") for two in WIDTHS])
_IME = """() => document.dispatchEvent(
  new KeyboardEvent('keydown', { key: 'ㄹ', code: 'KeyF', bubbles: true, cancelable: true }))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label")
    for name in ("alone-en-phone", "alone-en-desk", "alone-ko-phone", "alone-ko-desk", "together", "again"):
        write_photos(folder / name, 36, ("red", "blue"))
    for name in ("boxes-en", "boxes-ko"):
        (folder / name).mkdir()
        for i in range(9):
            things = {"red": (4 + i, 6, 24 + i, 26), "blue": (45, 30 + i, 70, 48 + i)}
            (folder / name / f"{i}.png").write_bytes(png(scene(things)))
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Running]:
    with labelled(root) as found:
        yield found


def begin(visitor: Page, words: Words, folder: str, name: str, kind: str = "labels") -> None:
    """Chooses a folder, and says who labels."""
    choose_tab(visitor, "#anmok-tabs", "label", words("label.title"))
    visitor.locator("#label-folder input").click()
    visitor.get_by_role("option", name=folder, exact=True).click()
    if kind == "boxes":
        visitor.locator("#label-kind input[value=boxes]").check()
        expect(visitor.locator("#label-model-boxes")).to_be_visible()
    typed(visitor.locator("#label-classes").locator("textarea, input"), "red, blue")
    visitor.wait_for_timeout(300)  # gradio takes a text over a little later
    visitor.locator("#label-go").click()
    visitor.locator(".desk .who input").fill(name)
    visitor.keyboard.press("Enter")
    shown(visitor)


def shown(visitor: Page) -> str:
    """The id of the picture that is on the screen."""
    visitor.wait_for_selector(".desk[data-shown]:not([data-shown=''])")
    return str(visitor.locator(".desk").get_attribute("data-shown"))


def saved(visitor: Page, count: int) -> None:
    expect(visitor.locator(".desk")).to_have_attribute("data-saved", str(count), timeout=20_000)
    expect(visitor.locator(".desk")).to_have_attribute("data-waiting", "0")


def press(visitor: Page, key: str) -> str:
    """A stroke, and the picture after it."""
    before = shown(visitor)
    visitor.keyboard.press(key)
    visitor.wait_for_function(
        "(last) => !['', last].includes(document.querySelector('.desk').dataset.shown)", arg=before, polling=50
    )
    return shown(visitor)


def lines(folder: Path, kind: str = "labels") -> list[dict[str, Any]]:
    [file] = folder.glob(f".anmok/{kind}-*/*.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def truths(folder: Path) -> dict[str, str]:
    """The class of each picture, by its id: its folder's name, which the browser never learns."""
    photos = Photos(folder)
    return {one: name.split("/")[0] for one, name in zip(photos.ids, photos.names, strict=True)}


def sound(visitor: Page, seen: Seen) -> None:
    assert faults(visitor) == []
    assert overflow(visitor) == 0
    assert seen.outside == []
    assert seen.complaints == []


@EVERYWHERE
def test_somebody_labels_by_key_alone(browser: Browser, page: Running, root: Path, language: str, width: str) -> None:
    words, folder = Words(language), f"alone-{language}-{width}"
    scheme: Any = "dark" if width == "phone" else "light"
    address = f"{page.address}/ui/{language}/"
    with opened(browser, address, width=WIDTHS[width], scheme=scheme) as (visitor, seen):
        begin(visitor, words, folder, "Kim")
        truth = truths(root / folder)
        for _ in range(14):
            press(visitor, "f" if truth[shown(visitor)] == "red" else "2")
        last = shown(visitor)
        press(visitor, "u")
        expect(visitor.locator(".desk")).to_have_attribute("data-waiting", "0")
        assert press(visitor, "Backspace") == last
        press(visitor, "Space")
        assert press(visitor, "Control+z") == last
        visitor.evaluate(_IME)  # the F key of a Korean keyboard
        expect(visitor.locator(".desk")).to_have_attribute("data-waiting", "0")
        marks = [line["stream"] for line in lines(root / folder) if line["do"] == "answer"]
        assert marks[:6] == ["teach", "teach", "measure"] * 2
        answers = [line["answer"] for line in lines(root / folder) if line["do"] == "answer"]
        assert (answers[14], answers[-1]) == ("unsure", "red")
        expect(visitor.locator(".standing .main").first).to_contain_text("%", timeout=20_000)
        expect(visitor.locator(".standing")).to_contain_text(words("label.outlook.title", 50))
        sound(visitor, seen)
        visitor.locator("#label-end button").first.click()
        visitor.locator("#label-export").click()
        expect(visitor.locator("#label-exported")).to_contain_text(words("label.end.command_hint", root.name))
        expect(visitor.locator("#label-end textarea")).to_have_value(re.compile("^anmok ladder "))
        sound(visitor, seen)
        visitor.get_by_role("button", name=words("label.end.climb", words("climb.title"))).click()
        expect(visitor.locator("#climb-go")).to_be_visible()


@pytest.mark.parametrize(("language", "width"), [("en", "desk"), ("ko", "phone")])
def test_boxes_by_key_and_by_mouse(browser: Browser, page: Running, root: Path, language: str, width: str) -> None:
    words, folder = Words(language), f"boxes-{language}"
    with opened(browser, f"{page.address}/ui/{language}/", width=WIDTHS[width]) as (visitor, seen):
        begin(visitor, words, folder, "Lee", "boxes")
        desk = visitor.locator(".desk")
        expect(desk).to_have_attribute("data-boxes", "proposed proposed")
        visitor.keyboard.press("Enter")
        expect(desk).to_have_attribute("data-boxes", "accepted proposed")
        visitor.keyboard.press("x")
        expect(desk).to_have_attribute("data-boxes", "accepted rejected")
        drag(visitor, (0.3, 0.7), (0.5, 0.9))
        visitor.keyboard.press("2")  # it is blue
        visitor.keyboard.press("ArrowRight")
        visitor.keyboard.press("Shift+ArrowDown")
        expect(desk).to_have_attribute("data-boxes", "accepted rejected added")
        expect(desk).to_have_attribute("data-waiting", "0")
        visitor.wait_for_timeout(700)  # arrows are sent when they have rested
        saved(visitor, 5)
        done = [line for line in lines(root / folder, "boxes") if line.get("by") == "Lee"]
        assert [line["do"] for line in done] == ["accept", "reject", "add", "move", "move"]
        assert [line.get("label") for line in done[2:]] == ["red", "blue", "blue"]
        drawn, _, moved = (line["xyxy"] for line in done[2:])
        assert drawn == pytest.approx([24, 42, 40, 54], abs=1.5)  # of 80 x 60 pixels
        assert [one - other for one, other in zip(moved, drawn, strict=True)] == pytest.approx([1, 0, 1, 1], abs=0.1)
        visitor.keyboard.press("Backspace")
        visitor.keyboard.press("Backspace")
        expect(visitor.locator(".boxlist li").last).to_contain_text("red")
        sound(visitor, seen)
        press(visitor, "Space")
        press(visitor, "Space")
        press(visitor, "Space")
        expect(desk).to_have_attribute("data-waiting", "0")
        expect(visitor.locator(".standing .main").first).to_contain_text("%", timeout=20_000)
        sound(visitor, seen)


def drag(visitor: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the picture to another, in shares of its width and height (4 to 3)."""
    area = visitor.locator(".stage").bounding_box()
    assert area is not None
    width = min(area["width"], area["height"] * 4 / 3)
    left, top = area["x"] + (area["width"] - width) / 2, area["y"] + (area["height"] - width * 3 / 4) / 2
    points = [(left + x * width, top + y * width * 3 / 4) for x, y in (start, end)]
    visitor.mouse.move(*points[0])
    visitor.mouse.down()
    visitor.mouse.move(*points[1], steps=5)
    visitor.mouse.up()


def test_two_people_on_one_folder_and_their_agreement(browser: Browser, page: Running, root: Path) -> None:
    words, truth = Words("en"), truths(root / "together")
    address = f"{page.address}/ui/en/"
    with opened(browser, address) as (one, first), opened(browser, address) as (other, second):
        begin(one, words, "together", "Ann")
        begin(other, words, "together", "Bob")
        seen_by: dict[Page, list[str]] = {one: [], other: []}
        for _ in range(11):
            for visitor in (one, other):
                seen_by[visitor].append(shown(visitor))
                right = truth[shown(visitor)] == "red"
                press(visitor, "f" if right or visitor is other else "j")
        saved(one, 11)
        saved(other, 11)
        both = set(seen_by[one]) & set(seen_by[other])
        assert both
        streams = {line["image"]: line["stream"] for line in lines(root / "together") if line["do"] == "answer"}
        names = dict(zip(Photos(root / "together").ids, Photos(root / "together").names, strict=True))
        assert {streams[names[shared]] for shared in both} == {"measure"}
        expect(one.locator(".standing")).to_contain_text("Ann and Bob agree on", timeout=20_000)
        sound(one, first)
        sound(other, second)


def test_a_server_that_is_killed_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 12, ("red", "blue"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = started(port, tmp_path)
    try:
        with opened(browser, f"http://127.0.0.1:{port}/ui/en/") as (visitor, seen):
            begin(visitor, Words("en"), "photos", "Kim")
            said = [shown(visitor)]
            said += [press(visitor, "f") for _ in range(5)]
            saved(visitor, 5)
            killed(process)
            said += [press(visitor, "j") for _ in range(3)]  # these wait in the page
            expect(visitor.locator(".lost")).to_be_visible(timeout=20_000)
            expect(visitor.locator(".desk")).to_have_attribute("data-waiting", "3")
            assert len(answered(folder)) == 5
            process = started(port, tmp_path)
            saved(visitor, 8)
            expect(visitor.locator(".lost")).to_be_hidden()
            names = dict(zip(Photos(folder).ids, Photos(folder).names, strict=True))
            assert answered(folder) == [names[one] for one in said[:8]]
            visitor.reload()  # goes on by itself
            visitor.wait_for_selector("button[role=tab][data-tab-id=label]")
            choose_tab(visitor, "#anmok-tabs", "label", "Label")
            assert shown(visitor) not in said[:8]
            assert press(visitor, "Backspace") == said[7]  # an answer of before
            press(visitor, "f")
            saved(visitor, 10)
            assert answered(folder)[-1] == names[said[7]]
            assert seen.outside == []
    finally:
        killed(process)


def test_strokes_wait_in_a_page_that_is_loaded_again(browser: Browser, page: Running, root: Path) -> None:
    with opened(browser, f"{page.address}/ui/en/") as (visitor, _):
        visitor.on("dialog", lambda dialog: dialog.accept())  # strokes wait: shall the page really be left?
        begin(visitor, Words("en"), "again", "Kim")
        visitor.route("**/strokes*", lambda route: route.abort())
        said = [shown(visitor), press(visitor, "f"), press(visitor, "j")]
        press(visitor, "u")
        expect(visitor.locator(".lost")).to_contain_text("No connection")
        assert (visitor.locator(".lost").bounding_box() or {})["height"] < 100  # a line, and not a wall
        visitor.reload()
        visitor.wait_for_selector("button[role=tab][data-tab-id=label]")
        choose_tab(visitor, "#anmok-tabs", "label", "Label")
        assert shown(visitor) not in said
        expect(visitor.locator(".desk")).to_have_attribute("data-waiting", "3")
        assert answered(root / "again") == []
        visitor.unroute("**/strokes*")
        expect(visitor.locator(".desk")).to_have_attribute("data-waiting", "0", timeout=20_000)
        names = dict(zip(Photos(root / "again").ids, Photos(root / "again").names, strict=True))
        assert answered(root / "again") == [names[one] for one in said]


def started(port: int, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "browser.labelled", str(port), str(root)]
    process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def answered(folder: Path) -> list[str]:
    return [line["image"] for line in lines(folder) if line["do"] == "answer"]
