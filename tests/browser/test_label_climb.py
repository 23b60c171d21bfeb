"""From photos without labels to the rungs of the ladder in a real Chromium, and folders that come meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from anmok.labelling.photos import Photos
from anmok.ui.texts import Words
from browser.chromium import WIDTHS, Seen, choose_tab, chromium, faults, opened, overflow, reload, typed
from browser.labelled import labelled
from browser.served import shown
from conftest import write_photos
from serving import Running
from ui_page import zip_of

pytestmark = pytest.mark.browser

STORIES = [("en", "desk"), ("ko", "phone"), ("ko", "desk"), ("en", "phone")]
STROKES = 30
PREFIX = "/tools/anmok"
SLOW = 60_000  # milliseconds; the machine may be busy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder")
    for language, width in STORIES:
        mixed(folder / f"parts-{language}-{width}")
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Running]:
    with labelled(root) as found:
        yield found


def mixed(folder: Path) -> Path:
    """Forty pictures side by side in one folder: the colour stands in their names, for the one who labels."""
    for file in sorted(write_photos(folder, 20, ("red", "blue")).rglob("*.png")):
        file.rename(folder / f"{file.stem}-{file.parent.name}.png")
    for colour in ("red", "blue"):
        (folder / colour).rmdir()
    return folder


def label(visitor: Page, folder: Path, strokes: int = STROKES, before: int = 0) -> None:
    """Answers by key up to so many, as whoever knows the truth does."""
    photos = Photos(folder)
    truth = {one: name.rpartition("-")[2].split(".")[0] for one, name in zip(photos.ids, photos.names, strict=True)}
    for _ in range(before, strokes):
        visitor.wait_for_selector(".desk[data-shown]:not([data-shown=''])")
        shown = str(visitor.locator(".desk").get_attribute("data-shown"))
        visitor.keyboard.press("f" if truth[shown] == "red" else "j")
        visitor.wait_for_function(
            "(last) => !['', last].includes(document.querySelector('.desk').dataset.shown)", arg=shown, polling=50
        )
    expect(visitor.locator(".desk")).to_have_attribute("data-saved", str(strokes), timeout=20_000)


def begin(visitor: Page) -> None:
    typed(visitor.locator("#label-classes").locator("textarea, input"), "red, blue")
    visitor.wait_for_timeout(300)  # gradio takes a text over a little later
    visitor.locator("#label-go").click()
    visitor.locator(".desk .who input").fill("Kim")
    visitor.keyboard.press("Enter")


def to_climb(visitor: Page) -> None:
    visitor.locator("#label-end button").first.click()
    visitor.locator("#label-climb").click()
    expect(visitor.locator("#climb-go")).to_be_visible()
    expect(visitor.locator("#climb-labels")).to_contain_text("labels", timeout=SLOW)


def rungs(visitor: Page) -> None:
    """One click, and they arrive."""
    expect(visitor.locator("#climb-classes")).to_contain_text(f"{STROKES}", timeout=SLOW)
    visitor.locator("#climb-go").click()
    expect(visitor.locator("#climb-report iframe")).to_be_attached(timeout=SLOW)
    assert visitor.locator("#climb-state svg.bar").count() >= 3


def sound(visitor: Page, seen: Seen) -> None:
    assert faults(visitor) == []
    assert overflow(visitor) == 0
    assert seen.outside == []
    assert seen.complaints == []


@pytest.mark.parametrize(("language", "width"), STORIES)
def test_labels_go_to_the_ladder_by_one_button(
    browser: Browser, page: Running, root: Path, language: str, width: str
) -> None:
    words, name = Words(language), f"parts-{language}-{width}"
    scheme: Any = "dark" if width == "phone" else "light"
    address = f"{page.address}/ui/{language}/"
    with opened(browser, address, width=WIDTHS[width], scheme=scheme) as (visitor, seen):
        choose_tab(visitor, "#anmok-tabs", "label", words("label.title"))
        visitor.locator("#label-folder input").click()
        visitor.get_by_role("option", name=name, exact=True).click()
        begin(visitor)
        label(visitor, root / name)
        to_climb(visitor)
        expect(visitor.locator("#climb-folder input")).to_have_value(name)
        sound(visitor, seen)
        rungs(visitor)
        expect(visitor.locator("#climb-state")).to_contain_text(f"{name} + labels.csv")
        measured = visitor.frame_locator("#climb-report iframe").locator("body")
        expect(measured).to_contain_text("10")  # of thirty answers, every third measures
        sound(visitor, seen)
        choose_tab(visitor, "#anmok-tabs", "label", words("label.title"))
        label(visitor, root / name, STROKES + 3, STROKES)
        visitor.locator("#label-climb").click()
        expect(visitor.locator("#climb-classes")).to_contain_text(f"{STROKES + 3}", timeout=SLOW)


def test_a_zip_that_was_labelled_is_climbed_on_by_one_button(browser: Browser, page: Running, tmp_path: Path) -> None:
    folder = mixed(tmp_path / "mine")
    packed = zip_of(folder, tmp_path / "mine.zip")
    with opened(browser, f"{page.address}/ui/en/") as (visitor, seen):
        choose_tab(visitor, "#anmok-tabs", "label", "Label")
        visitor.locator("#label-zip input[type=file]").set_input_files(str(packed))
        expect(visitor.locator("#label-zip")).to_contain_text("mine", timeout=SLOW)
        begin(visitor)
        label(visitor, tmp_path)  # the folder itself was packed
        to_climb(visitor)
        expect(visitor.locator("#climb-folder input")).to_have_value(Words("en")("climb.upload"))
        rungs(visitor)
        sound(visitor, seen)
    with opened(browser, f"{page.address}/ui/en/") as (other, _):
        choose_tab(other, "#anmok-tabs", "climb", "Climb")
        other.wait_for_timeout(1000)
        expect(other.get_by_text("photos + labels.csv")).to_have_count(0)  # another one's zip is in no list


@contextlib.contextmanager
def proxied(root: Path, is_kept: bool) -> Iterator[str]:
    """The page behind a proxy at ``/tools/anmok``, which takes that away or hands it on."""
    if is_kept:
        with labelled(root, path=f"{PREFIX}/ui") as found:
            yield f"{found.address}{PREFIX}/ui/"
    else:
        with shown(root, prefix=PREFIX) as found:
            yield f"{found.address}{PREFIX}/ui/"


@pytest.mark.parametrize("tab", ["label", "audit", "climb"])
def test_a_folder_that_came_after_the_server_is_in_the_list(
    browser: Browser, page: Running, root: Path, tab: str
) -> None:
    (root / f"early-{tab}").mkdir()
    with opened(browser, f"{page.address}/ui/en/") as (visitor, seen):
        choose_tab(visitor, "#anmok-tabs", tab, tab.title())
        field = visitor.locator(f"#{tab}-folder input")
        field.click()
        expect(visitor.get_by_role("option", name=f"early-{tab}", exact=True)).to_be_visible()
        visitor.keyboard.press("Escape")
        visitor.locator("h1").click()
        (root / f"late-{tab}").mkdir()
        field.click()
        visitor.get_by_role("option", name=f"late-{tab}", exact=True).click()
        expect(field).to_have_value(f"late-{tab}")
        assert seen.complaints == []
        reload(visitor, seen)
        seen.complaints.clear()  # of what the page was asking for when it was left
        visitor.wait_for_selector("#anmok-tabs button[role=tab]")
        choose_tab(visitor, "#anmok-tabs", tab, tab.title())
        field.click()
        expect(visitor.get_by_role("option", name=f"late-{tab}", exact=True)).to_be_visible()
        assert seen.complaints == []


# Last: when a second page of this process goes away, gradio clears the example pictures that both show.
@pytest.mark.parametrize("is_kept", [True, False])
def test_behind_a_prefix_strokes_pictures_and_labels_find_their_way(
    browser: Browser, tmp_path: Path, is_kept: bool
) -> None:
    folder = mixed(tmp_path / "parts")
    with proxied(tmp_path, is_kept) as address, opened(browser, f"{address}en/") as (visitor, seen):
        choose_tab(visitor, "#anmok-tabs", "label", "Label")
        visitor.locator("#label-folder input").click()
        visitor.get_by_role("option", name="parts", exact=True).click()
        begin(visitor)
        label(visitor, folder, 6)
        assert visitor.locator(".stage img").evaluate("one => one.naturalWidth") > 0
        expect(visitor.locator(".standing")).to_contain_text("6 of 40", timeout=SLOW)
        assert seen.complaints == []
        reload(visitor, seen)
        seen.complaints.clear()
        visitor.wait_for_selector("#anmok-tabs button[role=tab]")
        choose_tab(visitor, "#anmok-tabs", "label", "Label")
        label(visitor, folder, STROKES, 6)
        to_climb(visitor)
        rungs(visitor)
        assert seen.complaints == []
        path = urlsplit(address).path
        assert {urlsplit(one).path.startswith(path) for one in seen.requests if one.startswith("http")} == {True}
        assert any("/label/" in one for one in seen.requests)
