"""Audit and Climb in a real Chromium: both languages, a phone and a desk, nothing broken and nobody else asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from anmok.ui.texts import Words
from browser.chromium import WIDTHS, Seen, choose_tab, chromium, faults, number_typed, opened, overflow, reload
from conftest import write_photos
from ui_page import GRADIO, Shown, line, shown, zip_of

pytestmark = [pytest.mark.browser, *GRADIO]

TABS = {"en": ("Audit", "Climb"), "ko": ("정확도 감사", "방법 비교")}
LOCALES = {"en": "en-US", "ko": "ko-KR"}
STORIES = [("en", "desk", "light"), ("ko", "phone", "dark"), ("ko", "desk", "light"), ("en", "phone", "light")]
SLOW = 60_000  # milliseconds; the machine may be busy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    line(folder)
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


def sound(visitor: Page, seen: Seen) -> None:
    """Nothing to complain of, for eyes, ears, keys or the network."""
    assert faults(visitor) == []
    assert overflow(visitor) <= 0
    assert seen.complaints == []
    assert seen.outside == []


@pytest.mark.parametrize(("language", "width", "scheme"), STORIES)
def test_somebody_audits_a_file_and_sees_the_copies(
    browser: Browser, page: Shown, root: Path, language: str, width: str, scheme: str
) -> None:
    address = f"{page.address}{language}/"
    with opened(browser, address, width=WIDTHS[width], locale=LOCALES[language], scheme=scheme) as (visitor, seen):  # type: ignore[arg-type]
        choose_tab(visitor, "#anmok-tabs", "audit", TABS[language][0])
        visitor.locator("#audit-predictions input[type=file]").set_input_files(str(root / "told.csv"))
        choose(visitor, "audit-folder", "line")
        expect(visitor.get_by_role("cell", name="told.csv")).to_be_visible()
        visitor.locator("#audit-go").click()
        said = visitor.locator("#audit-said")
        expect(said.locator(".verdict")).to_be_visible(timeout=SLOW)
        expect(said.locator("figure.pair")).to_have_count(4)
        expect(said.locator("mark").first).to_be_visible()
        shown_widths = said.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert min(shown_widths) > 0
        sound(visitor, seen)
        with visitor.expect_download() as taken:
            visitor.locator("#audit-verdict").click()
        assert "anmok.audit/1" in Path(taken.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize(("language", "width", "scheme"), STORIES)
def test_somebody_climbs_leaves_and_comes_back(
    browser: Browser, page: Shown, language: str, width: str, scheme: str
) -> None:
    address = f"{page.address}{language}/"
    with opened(browser, address, width=WIDTHS[width], locale=LOCALES[language], scheme=scheme) as (visitor, seen):  # type: ignore[arg-type]
        choose_tab(visitor, "#anmok-tabs", "climb", TABS[language][1])
        choose(visitor, "climb-folder", "parts")
        expect(visitor.locator("table").first).to_contain_text("52")
        visitor.locator("#climb-go").click()
        expect(visitor.locator("#climb-state")).to_contain_text("/parts")
        reload(visitor, seen)
        visitor.wait_for_selector("#anmok-tabs button[role=tab]")
        choose_tab(visitor, "#anmok-tabs", "climb", TABS[language][1])
        frame = visitor.locator("#climb-report iframe")
        expect(frame).to_be_attached(timeout=SLOW)
        expect(visitor.locator("#climb-state svg.bar")).to_have_count(5)  # 0a, 0b, 1, 2, 3
        inside = visitor.frame_locator("#climb-report iframe")
        expect(inside.locator("html")).to_have_attribute("lang", language)
        expect(inside.locator("h1")).to_be_attached()
        sound(visitor, seen)


def test_another_browser_finds_the_climb_on_the_servers_folder(browser: Browser, page: Shown) -> None:
    with opened(browser, f"{page.address}en/") as (first, _):
        choose_tab(first, "#anmok-tabs", "climb", TABS["en"][1])
        choose(first, "climb-folder", "parts")
        first.locator("#climb-go").click()
        expect(first.locator("#climb-state")).to_contain_text("/parts")
    with opened(browser, f"{page.address}ko/", locale="ko-KR") as (second, _):
        choose_tab(second, "#anmok-tabs", "climb", TABS["ko"][1])
        second.locator("#climb-following input").click()
        second.get_by_role("option", name="/parts · fake").first.click()
        expect(second.locator("#climb-report iframe")).to_be_attached(timeout=SLOW)


def test_a_zip_is_climbed_on_by_whoever_sent_it_alone(
    browser: Browser, page: Shown, root: Path, tmp_path: Path
) -> None:
    packed = zip_of(write_photos(tmp_path / "mine", 6, ("red", "green")), tmp_path / "mine.zip")
    with opened(browser, f"{page.address}en/") as (visitor, seen):
        choose_tab(visitor, "#anmok-tabs", "climb", TABS["en"][1])
        visitor.locator("#climb-zip input[type=file]").set_input_files(str(packed))
        expect(visitor.get_by_text("12 images in 2 classes")).to_be_visible(timeout=SLOW)
        visitor.locator("#climb-go").click()
        expect(visitor.locator("#climb-report iframe")).to_be_attached(timeout=SLOW)
        with visitor.expect_download() as taken:
            visitor.get_by_role("button", name="The winner (zip)").click()
        assert taken.value.suggested_filename == "best.zip"
        sound(visitor, seen)
    with opened(browser, f"{page.address}en/") as (other, _):
        choose_tab(other, "#anmok-tabs", "climb", TABS["en"][1])
        other.wait_for_timeout(1500)
        assert "mine" not in other.locator("body").inner_text()
        if other.locator("#climb-following input").is_visible():  # climbs on the server's folders, of other tests
            other.locator("#climb-following input").click()
            assert not any("mine" in option for option in other.get_by_role("option").all_inner_texts())


def test_what_cannot_be_used_is_said_in_one_line(browser: Browser, page: Shown, tmp_path: Path) -> None:
    (tmp_path / "told.csv").write_text("what,ever\n1,2\n")
    with opened(browser, f"{page.address}ko/", locale="ko-KR") as (visitor, _):
        choose_tab(visitor, "#anmok-tabs", "audit", TABS["ko"][0])
        visitor.locator("#audit-go").click()
        toast = visitor.locator(".toast-body").first
        expect(toast).to_contain_text(Words("ko")("audit.no_predictions"))
        expect(visitor.locator(".toast-title").first).to_have_text(re.compile("^오류"))
        why = visitor.locator("#audit-said .anmok-why")
        expect(why).to_have_text(Words("ko")("audit.no_predictions"))
        visitor.locator("#audit-predictions input[type=file]").set_input_files(str(tmp_path / "told.csv"))
        expect(visitor.get_by_role("cell", name="told.csv")).to_be_visible()
        visitor.locator("#audit-go").click()
        expect(visitor.locator(".toast-body").filter(has_text="데이터를 읽을 수 없습니다").first).to_contain_text(
            "told.csv"
        )
        expect(why).to_contain_text("told.csv")  # and stays when the toast has gone
        assert str(tmp_path) not in visitor.locator("body").inner_text()


def test_by_keys_on_a_phone_a_tab_of_the_menu_is_reached_and_what_it_refuses_stays(
    browser: Browser, page: Shown
) -> None:
    words = Words("ko")
    with opened(browser, f"{page.address}ko/", width=WIDTHS["phone"], locale="ko-KR") as (visitor, seen):
        menu = visitor.locator("#anmok-tabs > .tab-wrapper .overflow-menu > button")
        for name, title in (("audit", TABS["ko"][0]), ("climb", TABS["ko"][1])):
            menu.focus()
            visitor.keyboard.press("Enter")
            option = visitor.locator("#anmok-tabs > .tab-wrapper .overflow-dropdown button").filter(has_text=title)
            option.focus()
            visitor.keyboard.press("Enter")
            tab = visitor.locator(f"#anmok-tabs > .tab-wrapper button[role=tab][data-tab-id={name}]")
            expect(tab).to_be_focused()
            visitor.wait_for_timeout(500)  # the row is made anew whenever something is measured
            expect(tab).to_be_focused()
            expect(tab).to_have_attribute("aria-selected", "true")
        go, why = visitor.locator("#climb-go"), visitor.locator("#climb-why")
        expect(why).to_be_hidden()
        go.click()
        expect(why).to_have_text(words("label.no_source"))
        expect(why).to_be_in_viewport()
        expect(visitor.locator("#climb-state")).not_to_contain_text(words("page.gradio.Error"))
        visitor.locator(".toast-close").click()
        expect(visitor.locator(".toast-body")).to_have_count(0)
        expect(why).to_have_text(words("label.no_source"))
        sound(visitor, seen)
        choose(visitor, "climb-folder", "parts")
        go.click()
        expect(visitor.locator("#climb-state")).to_contain_text("/parts")
        expect(why).to_be_hidden()


@pytest.mark.parametrize(("language", "width", "scheme"), STORIES[:2])
def test_somebody_says_what_errors_cost_and_is_told_what_does_not_go_together(
    browser: Browser, page: Shown, language: str, width: str, scheme: str
) -> None:
    words = Words(language)
    address = f"{page.address}{language}/"
    with opened(browser, address, width=WIDTHS[width], locale=LOCALES[language], scheme=scheme) as (visitor, seen):  # type: ignore[arg-type]
        choose_tab(visitor, "#anmok-tabs", "climb", TABS[language][1])
        choose(visitor, "climb-folder", "parts")
        expect(visitor.locator("table").first).to_contain_text("52")
        visitor.get_by_role("button", name=words("climb.further")).click()
        overkill, shares = (
            visitor.locator("#climb-overkill input"),
            visitor.locator("#climb-prevalence textarea, #climb-prevalence input"),
        )
        expect(overkill).to_be_visible()
        number_typed(overkill, "5")
        visitor.locator("#climb-go").click()
        said = visitor.locator(".toast-body").filter(has_text=words("climb.no_class", "good", "blue, red"))
        expect(said.first).to_be_visible()
        number_typed(overkill, "0")
        shares.fill("red=10%, blue=90%")
        visitor.locator("#climb-go").click()
        frame = visitor.frame_locator("#climb-report iframe")
        expect(visitor.locator("#climb-report iframe")).to_be_attached(timeout=SLOW)
        expect(frame.get_by_text(re.compile(r"red 10(\.0)?\s?%")).first).to_be_attached()
        visitor.get_by_role("button", name=words("climb.copy")).click()
        expect(visitor.locator("body")).to_contain_text("--prevalence")
        assert overflow(visitor) <= 0
        assert seen.outside == []
