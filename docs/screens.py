"""The pictures of the page in its documents: each tab with something in it, as a real browser shows it.

python docs/screens.py       # writes docs/img/page-*.webp; needs Chromium and the weights of `mini`, `mini-chat`

Whatever they show is drawn here or CC0: the photos that are searched and talked about are the clothes of the test data
(CC0 1.0), the parts and scenes are drawn. In Try the stand-in answers that knows colours, not a trained model.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as pillow
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs")]

from places import scene  # noqa: E402
from record import part  # noqa: E402

from anmok.server.settings import Served, Settings  # noqa: E402
from anmok.ui.texts import Words  # noqa: E402
from browser import served as pages  # noqa: E402
from browser.chromium import choose_tab, chromium, opened  # noqa: E402

IMAGES = ROOT / "docs" / "img"
DATA = Path(os.environ.get("ANMOK_TEST_DATA", ROOT.parent / "shared" / "data"))
CLOTHES = DATA / "clothing_small" / "train"  # CC0 1.0
WIDE, NARROW = (1440, 1000), (390, 900)  # of the window
MOST = 150_000  # bytes of a picture
SLOW = 240_000  # milliseconds
EACH = 60  # drawn parts of a kind
WRONG = {"good": (6, 36), "defect": (15, 21, 51)}  # what the audited model got wrong: no copy is among them


@dataclass(frozen=True)
class Shot:
    """One picture: ``docs/img/page-<tab>-<rest>.webp``."""

    tab: str
    language: str = "en"
    size: tuple[int, int] = WIDE
    scheme: str = "light"

    @property
    def file(self) -> Path:
        parts = [self.tab, self.language, str(self.size[0]), *(["dark"] if self.scheme == "dark" else [])]
        return IMAGES / f"page-{'-'.join(parts)}.webp"


SHOTS = (
    *(Shot(tab) for tab in ("try", "chat", "label", "audit", "climb")),
    *(Shot(tab, "ko") for tab in ("search", "climb")),
    Shot("search", "ko", NARROW),
    Shot("label", "ko", NARROW),
    Shot("climb", "en", scheme="dark"),
)


def folder(root: Path) -> None:
    """``parts`` with a folder per class, ``clothes``, ``table.png``, and ``told.csv`` of somebody's model."""
    rng = np.random.default_rng(5)
    rows = [("image", "label", "pred", "split")]
    for kind in ("good", "defect"):
        (root / "parts" / kind).mkdir(parents=True)
        for number in range(EACH):
            name = f"{kind}/{kind}_{number:03d}.jpg"
            if number % 10 == 9:  # the same part, photographed again
                before = pillow.open(root / "parts" / f"{kind}/{kind}_{number - 1:03d}.jpg")
                before.resize((312, 312)).save(root / "parts" / name, quality=80)
            else:
                part(rng, is_defect=kind == "defect").save(root / "parts" / name, quality=88)
            is_tested = number % 3 == 0
            answer = kind if number not in WRONG[kind] else ("good" if kind == "defect" else "defect")
            rows.append((name, kind, answer if is_tested else "", "test" if is_tested else "train"))
    with (root / "told.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    scene().save(root / "scene.png")
    shutil.copytree(CLOTHES, root / "clothes")


def choose(visitor: Page, field: str, option: str) -> None:
    visitor.locator(f"#{field} input").click()
    visitor.get_by_role("option", name=option, exact=True).click()


def write(visitor: Page, field: str, text: str) -> None:
    visitor.locator(f"#{field}").locator("input, textarea").fill(text)
    visitor.wait_for_timeout(400)  # gradio takes a text over a little later


def trying(visitor: Page, words: Words, root: Path) -> None:
    """A box around each of two things."""
    choose_tab(visitor, "#try-tasks", "segment", words("try.tasks.segment"))
    visitor.locator("#task-segment input[type=file]").first.set_input_files(str(root / "scene.png"))
    said = visitor.locator("#said-segment")
    expect(said).to_contain_text(words("try.point.begin"))
    stage = visitor.locator("#point-segment .stage")
    stage.scroll_into_view_if_needed()
    expect(stage.locator("img")).to_have_js_property("complete", True)
    area = stage.bounding_box()
    assert area is not None
    for left, top, right, bottom in ((0.15, 0.22, 0.38, 0.92), (0.44, 0.55, 0.69, 0.9)):
        visitor.mouse.move(area["x"] + left * area["width"], area["y"] + top * area["height"])
        visitor.mouse.down()
        visitor.mouse.move(area["x"] + right * area["width"], area["y"] + bottom * area["height"], steps=6)
        visitor.mouse.up()
        visitor.wait_for_timeout(1500)
    expect(said).to_contain_text(words("try.said.found", 2, f"{words('try.said.object')} 2"))
    visitor.wait_for_timeout(2500)
    visitor.evaluate("window.scrollTo(0, 0)")


def searching(visitor: Page, words: Words, root: Path) -> None:
    choose(visitor, "search-folder", "clothes")
    expect(visitor.locator("#search-said")).to_contain_text(words("search.ready", "320"))
    write(visitor, "search-words", "청바지" if words.language == "ko" else "blue jeans")
    visitor.keyboard.press("Enter")
    expect(visitor.locator("#search-gallery img")).to_have_count(24)
    visitor.wait_for_timeout(1500)
    if visitor.viewport_size == {"width": NARROW[0], "height": NARROW[1]}:
        visitor.evaluate("document.querySelector('#search-model').scrollIntoView({block: 'start'})")


def chatting(visitor: Page, words: Words, root: Path) -> None:
    """Two questions about a photo."""
    photo = sorted((root / "clothes" / "dress").iterdir())[0]
    visitor.locator("#chat-pictures input[type=file]").set_input_files(str(photo))
    expect(visitor.locator("#chat-seen img")).to_have_js_property("complete", True)
    for question in ("What is in this picture?", "What could I wear with it?"):
        write(visitor, "chat-question", question)
        visitor.locator("#chat-go").click()
        expect(visitor.locator("#chat-talk")).to_contain_text(question)
        expect(visitor.locator("#chat-said")).to_contain_text("tokens")
        expect(visitor.locator("#chat-stop")).to_be_hidden()
    visitor.wait_for_timeout(1500)
    visitor.evaluate("window.scrollTo(0, 0)")


def labelling(visitor: Page, words: Words, root: Path) -> None:
    """As far as the verdict has an interval."""
    choose(visitor, "label-folder", "parts")
    write(visitor, "label-classes", "양품, 불량" if words.language == "ko" else "good, defect")
    visitor.locator("#label-go").click()
    visitor.locator(".desk .who input").fill("Mina")
    visitor.keyboard.press("Enter")
    visitor.wait_for_selector(".desk[data-shown]:not([data-shown=''])")
    from anmok.labelling.photos import Photos

    photos = Photos(root / "parts")
    kinds = {one: name.split("/")[0] for one, name in zip(photos.ids, photos.names, strict=True)}
    for _ in range(48):
        shown = str(visitor.locator(".desk").get_attribute("data-shown"))
        visitor.keyboard.press("f" if kinds[shown] == "good" else "j")
        visitor.wait_for_function("(last) => document.querySelector('.desk').dataset.shown !== last", arg=shown)
        visitor.wait_for_timeout(150)
    # Somebody else's question to the model may have gone first.
    visitor.wait_for_function("/\\d\\s?%/.test(document.querySelector('#label-tab').innerText)")
    visitor.wait_for_timeout(6000)
    visitor.evaluate("document.querySelector('.desk').scrollIntoView({block: 'start'})")


def auditing(visitor: Page, words: Words, root: Path) -> None:
    visitor.locator("#audit-predictions input[type=file]").set_input_files(str(root / "told.csv"))
    choose(visitor, "audit-folder", "parts")
    visitor.wait_for_timeout(1000)
    visitor.locator("#audit-go").click()
    expect(visitor.locator("#audit-said .verdict")).to_be_visible()
    visitor.wait_for_timeout(1000)
    visitor.evaluate("window.scrollTo(0, 0)")


def climbing(visitor: Page, words: Words, root: Path) -> None:
    choose(visitor, "climb-folder", "parts")
    visitor.locator("#climb-go").click()
    expect(visitor.locator("#climb-report iframe")).to_be_attached()
    visitor.wait_for_timeout(2000)
    visitor.evaluate("window.scrollTo(0, 0)")


STORIES: dict[str, Callable[[Page, Words, Path], None]] = {
    "try": trying,
    "search": searching,
    "chat": chatting,
    "label": labelling,
    "audit": auditing,
    "climb": climbing,
}


@contextlib.contextmanager
def served() -> Iterator[tuple[str, Path]]:
    """The page over such a folder."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "photos"
        root.mkdir()
        folder(root)
        models = tuple(Served.of(name) for name in ("mini", "mini-chat", "fake-places"))
        with pages.shown(root, settings=Settings(models=models), seconds=600.0) as found:
            yield f"{found.address}/ui/", root


def take(browser: Browser, address: str, root: Path, shot: Shot) -> None:
    words, (width, height) = Words(shot.language), shot.size
    place = f"{address}{shot.language}/"
    locale = {"en": "en-US", "ko": "ko-KR"}[shot.language]
    scheme = "dark" if shot.scheme == "dark" else "light"
    with opened(browser, place, width=width, height=height, locale=locale, scheme=scheme) as (visitor, _):
        visitor.set_default_timeout(SLOW)
        expect.set_options(timeout=SLOW)
        choose_tab(visitor, "#anmok-tabs", shot.tab, words(f"{shot.tab}.title"))
        STORIES[shot.tab](visitor, words, root)
        picture = pillow.open(io.BytesIO(visitor.screenshot())).convert("RGB")
    for quality in (90, 80, 70, 60, 50):
        picture.save(shot.file, "WEBP", quality=quality, method=6)
        if shot.file.stat().st_size < MOST:
            break
    print(f"{shot.file.name}: {shot.file.stat().st_size:,} bytes", flush=True)


def main() -> None:
    """All of them, or those whose names hold one of the words that are given."""
    wanted = sys.argv[1:]
    shots = [shot for shot in SHOTS if not wanted or any(word in shot.file.stem for word in wanted)]
    with served() as (address, root), chromium() as browser:
        for shot in shots:
            take(browser, address, root, shot)


if __name__ == "__main__":
    main()
