"""The tab Search in a real Chromium, and models that come while the page is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from anmok.ui.texts import Words
from browser.chromium import WIDTHS, choose_tab, chromium, faults, opened, overflow, typed
from conftest import write_photos
from ui_page import GRADIO, Shown, shown

pytestmark = [pytest.mark.browser, *GRADIO]

SLOW = 60_000  # milliseconds; the machine may be busy
LOCALES = {"en": "en-US", "ko": "ko-KR"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_photos(folder / "parts", 52, ("red", "blue"))
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def choose(visitor: Page, field: str, option: str) -> None:
    visitor.locator(f"#{field} input").click()
    visitor.get_by_role("option", name=option, exact=True).click()


@pytest.mark.parametrize(
    ("language", "width", "scheme"),
    [
        ("en", "desk", "light"),
        ("ko", "phone", "dark"),
        pytest.param("ko", "desk", "dark", marks=pytest.mark.slow),
        pytest.param("en", "phone", "light", marks=pytest.mark.slow),
    ],
)
def test_somebody_searches_by_words_and_by_a_photo(
    browser: Browser, page: Shown, root: Path, language: str, width: str, scheme: str
) -> None:
    words = Words(language)
    address = f"{page.address}{language}/"
    with opened(browser, address, width=WIDTHS[width], locale=LOCALES[language], scheme=scheme) as (visitor, seen):  # type: ignore[arg-type]
        visitor.set_default_timeout(SLOW)
        choose_tab(visitor, "#anmok-tabs", "search", words("search.title"))
        choose(visitor, "search-folder", "parts")
        said = visitor.locator("#search-said")
        expect(said).to_contain_text(words("search.ready", "104"), timeout=SLOW)
        typed(visitor.locator("#search-words").locator("input, textarea"), "blue")
        visitor.wait_for_timeout(300)  # gradio takes a text over a little later
        visitor.keyboard.press("Enter")
        pictures = visitor.locator("#search-gallery img")
        expect(pictures).to_have_count(24, timeout=SLOW)
        captions = visitor.locator("#search-gallery .caption-label").all_inner_texts()
        assert len(captions) == 24
        assert all("blue/" in one for one in captions)
        pictures.first.scroll_into_view_if_needed()  # those below are fetched when they are scrolled to
        expect(pictures.first).to_have_js_property("naturalWidth", 28)
        assert faults(visitor) == []
        assert overflow(visitor) <= 0
        with visitor.expect_download() as taken:
            visitor.locator("#search-table").click()
        assert '"asked": "blue"' in Path(taken.value.path()).read_text(encoding="utf-8")
        typed(visitor.locator("#search-words").locator("input, textarea"), "")
        photo = sorted((root / "parts" / "red").iterdir())[0]
        visitor.locator("#search-tab input[type=file]").last.set_input_files(str(photo))
        visitor.wait_for_timeout(1000)
        visitor.locator("#search-go").click()
        expect(visitor.locator("#search-gallery .caption-label").first).to_contain_text(photo.name, timeout=SLOW)
        assert seen.complaints == []
        assert seen.outside == []


def test_a_winner_that_is_served_is_in_the_pickers_after_a_reload(
    browser: Browser, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *given, **named: str(tmp_path))
    words = Words("en")
    with shown(root, lambda host: host) as found, opened(browser, f"{found.address}en/") as (visitor, seen):
        visitor.set_default_timeout(SLOW)

        def offers(tab: str, title: str, field: str, names: list[str]) -> None:
            """Waited for: a page that was loaded again asks for its lists when it stands already."""
            choose_tab(visitor, "#anmok-tabs", tab, words(title))
            visitor.locator(field).locator("input[role=listbox], input").first.click()
            expect(visitor.get_by_role("option")).to_contain_text(names)
            visitor.keyboard.press("Escape")

        offers("search", "search.title", "#search-model", ["fake"])
        choose_tab(visitor, "#anmok-tabs", "climb", words("climb.title"))
        choose(visitor, "climb-folder", "parts")
        visitor.locator("#climb-go").click()
        typed(visitor.locator("#climb-name").locator("input, textarea"), "winner")
        visitor.wait_for_timeout(300)
        visitor.locator("#climb-serve").click()
        expect(visitor.locator(".toast-body")).to_contain_text("winner")
        visitor.reload()
        visitor.wait_for_selector("#anmok-tabs")
        offers("search", "search.title", "#search-model", ["fake", "winner"])
        offers("label", "label.title", "#label-model-labels", ["fake", "winner"])
        panel = visitor.locator("#task-classify")
        choose_tab(visitor, "#anmok-tabs", "try", words("try.title"))
        expect(visitor.locator("#said-classify")).to_have_text(words("try.begin"))
        panel.get_by_label(words("try.other")).click()  # it was hidden while there was one model alone
        visitor.get_by_role("option", name="winner").click()
        typed(panel.get_by_label(words("try.labels")), "red, blue")
        panel.locator(".anmok-examples button").first.click()
        expect(visitor.locator("#said-classify h3")).to_have_count(2)
        assert [one for one in seen.complaints if "AbortError" not in one] == []
