"""The tab Try in a real Chromium: each task's story, in both languages, on a phone and at a desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from anmok.ui.texts import Words
from browser.chromium import WIDTHS, Seen, choose_tab, chromium, faults, opened, overflow, reload, typed
from browser.served import shown
from serving import Running, png, scene

pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

# What the fakes say of the examples, as the page puts it.
SAID: dict[str, tuple[str, tuple[object, ...]]] = {
    "classify": ("try.said.best", ("red", 0.99)),
    "detect": ("try.said.found", (4, "red 2, blue 1, green 1")),
    "point": ("try.said.found", (4, "red 2, blue 1, green 1")),
    "depth": ("try.said.metres", (1.59, 9.66)),
    "pose": ("try.said.people", (1,)),
    "gaze": ("try.said.gazes", (2, 2)),
    "parse": ("", ()),
    "normals": ("try.said.done", ()),
    "matte": ("try.said.front", (0.14,)),
}
_SECONDS = 60_000  # milliseconds, at the most: two cores that others use too


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "two.png").write_bytes(png(scene({"red": (20, 10, 50, 30), "blue": (60, 40, 75, 55)})))
    return folder


@pytest.fixture(scope="module")
def server(photos: Path) -> Iterator[Running]:
    with shown(photos) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def visit(
    browser: Browser, server: Running, story: Callable[[Page, Words], None], language: str = "en", width: int = 1440
) -> Seen:
    """A visitor who does what the story says; afterwards nothing is wrong with the page."""
    with opened(browser, f"{server.address}/ui/{language}/", width=width) as (page, seen):
        page.set_default_timeout(_SECONDS)
        story(page, Words(language))
        assert overflow(page) == 0
        assert faults(page) == []
    assert seen.complaints == []
    assert seen.outside == []
    return seen


def still(task: str) -> Callable[[Page, Words], None]:
    """An example, and what is said of it; the files and the commands are there."""

    def story(page: Page, words: Words) -> None:
        choose_tab(page, "#try-tasks", task, words(f"try.tasks.{task}"))
        panel = page.locator(f"#task-{task}")
        if task in ("classify", "detect", "point"):
            typed(panel.get_by_label(words("try.labels")), "red, blue, green")
        panel.locator(".anmok-examples button").first.click()
        key, values = SAID[task]
        parts = ", ".join(words("try.said.part", *one) for one in (("white", 0.86), ("red", 0.14)))
        said = words(key, *values) if key else parts
        expect(page.locator(f"#said-{task}")).to_contain_text(said, timeout=_SECONDS)
        expect(panel.get_by_text(words("try.download", "JSON"))).to_be_visible()
        panel.get_by_text(words("try.copy")).click()
        expect(panel.get_by_text("import anmok").first).to_be_visible()

    return story


def pointing(page: Page, words: Words) -> None:
    """A click, a box, taking back, and the same by keyboard."""
    choose_tab(page, "#try-tasks", "segment", words("try.tasks.segment"))
    page.locator("#task-segment .anmok-examples button").first.click()
    said = page.locator("#said-segment")
    expect(said).to_contain_text(words("try.point.begin"), timeout=_SECONDS)
    stage = page.locator("#point-segment .stage")
    stage.scroll_into_view_if_needed()
    expect(stage.locator("img")).to_have_js_property("complete", True)
    area = stage.bounding_box()
    assert area is not None
    page.mouse.click(area["x"] + 0.2 * area["width"], area["y"] + 0.3 * area["height"])
    one = words("try.said.found", 1, f"{words('try.said.object')} 1")
    expect(said).to_contain_text(one, timeout=_SECONDS)
    expect(page.locator("#point-segment .count")).to_have_text(words("try.point.counted", 1, 0))
    page.keyboard.press("Backspace")
    expect(page.locator("#point-segment .count")).to_have_text("")
    _drag(page, (0.05, 0.1), (0.4, 0.6))
    _drag(page, (0.42, 0.38), (0.78, 0.85))
    two = words("try.said.found", 2, f"{words('try.said.object')} 2")
    expect(said).to_contain_text(two, timeout=_SECONDS)
    page.locator("#point-segment [data-act=clear]").click()
    stage.focus()
    for key in ("Shift+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#point-segment .count")).to_have_text(words("try.point.counted", 1, 0))
    expect(said).to_contain_text(one, timeout=_SECONDS)


def _drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    area = page.locator("#point-segment .stage").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + start[0] * area["width"], area["y"] + start[1] * area["height"])
    page.mouse.down()
    page.mouse.move(area["x"] + end[0] * area["width"], area["y"] + end[1] * area["height"], steps=4)
    page.mouse.up()


def tracking(page: Page, words: Words) -> None:
    choose_tab(page, "#try-tasks", "track", words("try.tasks.track"))
    page.locator("#task-track .anmok-examples button").first.click()
    said = page.locator("#said-track")
    expect(said).to_contain_text(words("try.point.begin_clip"), timeout=_SECONDS)
    stage = page.locator("#point-track .stage")
    stage.scroll_into_view_if_needed()
    expect(stage.locator("img")).to_have_js_property("complete", True)
    area = stage.bounding_box()
    assert area is not None
    page.mouse.click(area["x"] + 0.15 * area["width"], area["y"] + 0.28 * area["height"])
    page.locator("#go-track").click()
    expect(said).to_contain_text(words("try.said.followed", 1, 24), timeout=_SECONDS)
    expect(page.locator("#task-track").get_by_text(words("try.download", "WebM"))).to_be_visible()


def comparing(page: Page, words: Words) -> None:
    choose_tab(page, "#try-tasks", "embed", words("try.tasks.embed"))
    page.locator("#task-embed .anmok-examples button").first.click()
    expect(page.locator("#said-embed")).to_contain_text(words("try.said.alike", -0.603), timeout=_SECONDS)


STORIES = {task: still(task) for task in SAID} | {"segment": pointing, "track": tracking, "embed": comparing}


@pytest.mark.parametrize(("task", "language", "width"), [("segment", "en", 1440), ("detect", "ko", 390)])
def test_a_story(browser: Browser, server: Running, task: str, language: str, width: int) -> None:
    visit(browser, server, STORIES[task], language, width)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("task", STORIES)
def test_every_story(browser: Browser, server: Running, task: str, language: str, width: int) -> None:
    visit(browser, server, STORIES[task], language, width)


def test_a_picture_of_the_folder_two_models_and_the_other_language(browser: Browser, server: Running) -> None:
    def story(page: Page, words: Words) -> None:
        choose_tab(page, "#try-tasks", "detect", words("try.tasks.detect"))
        panel = page.locator("#task-detect")
        panel.get_by_label(words("try.folder")).click()
        page.get_by_role("option", name="two.png").click()
        both = words("try.said.found", 2, "red 1, blue 1")
        expect(page.locator("#said-detect")).to_contain_text(both, timeout=_SECONDS)
        typed(panel.get_by_label(words("try.labels")), "red")
        panel.get_by_label(words("try.labels")).press("Enter")
        expect(page.locator("#said-detect")).to_contain_text(words("try.said.found", 1, "red 1"), timeout=_SECONDS)
        panel.get_by_label(words("try.other")).click()
        page.get_by_role("option", name="fake-grounded").click()
        expect(page.locator("#said-detect h3")).to_have_count(2, timeout=_SECONDS)
        page.get_by_role("link", name="한국어").click()
        page.wait_for_url("**/ui/ko/")
        page.goto(f"{server.address}/ui/")
        page.wait_for_url("**/ui/ko/")  # remembered
        page.wait_for_selector("#anmok-tabs")

    visit(browser, server, story)


def test_an_error_is_said_in_the_language_of_the_page(browser: Browser, server: Running) -> None:
    def story(page: Page, words: Words) -> None:
        panel = page.locator("#task-classify")
        typed(panel.get_by_label(words("try.labels")), "")
        panel.locator(".anmok-examples button").first.click()
        expect(page.locator(".toast-body")).to_contain_text(words("try.no_labels"), timeout=_SECONDS)
        expect(page.locator("#said-classify")).to_have_text(words("try.no_labels"))

    visit(browser, server, story, "ko", 390)


def test_dark_and_light_are_remembered(browser: Browser, server: Running) -> None:
    with opened(browser, f"{server.address}/ui/en/", scheme="light") as (page, seen):
        page.locator("#anmok-dark").click()
        assert page.evaluate("document.body.classList.contains('dark')")
        assert faults(page) == []
        reload(page, seen)
        page.wait_for_function("document.body.classList.contains('dark')")
    assert seen.complaints == []


@pytest.mark.slow
def test_behind_a_prefix(browser: Browser) -> None:
    with shown(prefix="/tools/anmok") as server:
        with opened(browser, f"{server.address}/tools/anmok/ui/", locale="ko-KR") as (page, seen):
            page.wait_for_url("**/tools/anmok/ui/ko/")
            page.set_default_timeout(_SECONDS)
            still("depth")(page, Words("ko"))
        assert seen.complaints == []
        assert {address.split("/ui/")[0] for address in seen.requests if address.startswith("http")} == {
            f"{server.address}/tools/anmok"
        }
