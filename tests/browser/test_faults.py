"""What goes wrong on the page, and what is said of it: in its language, with the reason, beside no older answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as pillow
from playwright.sync_api import Browser, expect

from anmok.ui.texts import Words
from browser.chromium import choose_tab, chromium, opened, typed
from conftest import write_photos
from ui_page import GRADIO, Shown, shown

pytestmark = [pytest.mark.browser, *GRADIO]

SLOW = 60_000  # milliseconds; the machine may be busy
LOCALES = {"en": "en-US", "ko": "ko-KR"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_photos(folder / "parts", 6, ("red", "blue"))
    pillow.new("RGB", (40, 30), "red").save(folder / unicodedata.normalize("NFD", "강아지 사진.png"))
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("language", ["en", "ko"])
def test_no_answer_stays_beside_a_picture_that_has_none(browser: Browser, page: Shown, language: str) -> None:
    words = Words(language)
    with opened(browser, f"{page.address}{language}/", locale=LOCALES[language]) as (visitor, _):
        visitor.set_default_timeout(SLOW)
        panel, said = visitor.locator("#task-classify"), visitor.locator("#said-classify")
        folder = panel.get_by_label(words("try.folder"))
        folder.click()
        folder.press_sequentially("강아지")  # as people type it, whatever the disk has
        visitor.keyboard.press("End")  # playwright types Korean without keys, which gradio waits for
        expect(visitor.get_by_role("option")).to_have_count(1, timeout=SLOW)
        visitor.get_by_role("option", name="강아지 사진.png").click()  # by name: a list made anew forgets its filter
        typed(panel.get_by_label(words("try.labels")), "red, blue")
        visitor.keyboard.press("Enter")
        expect(said).to_contain_text("red (")
        answer = panel.locator("[data-testid=label-output-value]")
        expect(answer.first).to_be_visible()
        folder.click()
        visitor.get_by_role("option", name="broken.png").click()
        expect(said).to_contain_text("not an image that anmok reads")  # and stays when the toast has gone
        expect(visitor.locator(".toast-title").first).to_have_text(re.compile(f"^{words('page.gradio.Error')}"))
        expect(visitor.locator(".toast-body").first).to_contain_text(said.inner_text().strip())
        expect(answer).to_have_count(0)


def test_korean_readers_hear_no_english_buttons(browser: Browser, page: Shown) -> None:
    words = Words("ko")
    with opened(browser, f"{page.address}ko/", locale="ko-KR") as (visitor, _):
        panel = visitor.locator("#task-classify")
        panel.locator(".anmok-examples button").first.click()
        expect(panel.get_by_role("button", name=words("page.gradio.Remove Image"))).to_be_visible(timeout=SLOW)
        names = panel.locator("button[aria-label]").evaluate_all("all => all.map(one => one.ariaLabel)")
        assert [name for name in names if re.fullmatch(r"[ -~]+", name)] == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_folder_that_cannot_be_used_says_why(browser: Browser, page: Shown, root: Path, language: str) -> None:
    words = Words(language)
    with opened(browser, f"{page.address}{language}/", locale=LOCALES[language]) as (visitor, _):
        visitor.set_default_timeout(SLOW)
        toasts = visitor.locator(".toast-body")
        choose_tab(visitor, "#anmok-tabs", "label", words("label.title"))
        visitor.locator("#label-folder input").click()
        visitor.get_by_role("option", name="empty", exact=True).click()
        visitor.locator("#label-go").click()
        expect(toasts.first).to_contain_text(f"{root.name}/empty: no images")
        expect(visitor.locator("#label-why")).to_contain_text(f"{root.name}/empty: no images")
        choose_tab(visitor, "#anmok-tabs", "climb", words("climb.title"))
        visitor.locator("#climb-folder input").click()
        visitor.get_by_role("option", name="parts/red", exact=True).click()
        expect(toasts.filter(has_text=words("climb.flat", f"{root.name}/parts/red")).first).to_be_visible()
        assert str(root) not in visitor.locator("body").inner_text()
