"""A real Chromium (the distribution's own package), and everything that it says while a test uses it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

WIDTHS = {"phone": 390, "desk": 1440}
PATIENCE = 60_000  # milliseconds to wait for what has to come: a busy machine is slow, not wrong
expect.set_options(timeout=PATIENCE)
_SERIOUS = ("serious", "critical")
_OWN = ("data", "blob", "about")
# Gradio's view of points in space tries WebGPU first; a browser without a GPU has none, and WebGL takes over.
_HARMLESS = ("WebGPU",)
# What is said of requests that a page was waiting for when it was loaded again.
_BROKEN_OFF = ("AbortError: signal is aborted", "Connection errored out")


@dataclass
class Seen:
    """What a page asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def hear(self, text: str) -> None:
        if not any(word in text for word in _HARMLESS):
            self.complaints.append(text)

    @property
    def outside(self) -> list[str]:
        """Requests that went anywhere but to this machine."""
        parts = [(address, urlsplit(address)) for address in self.requests]
        return [address for address, part in parts if part.scheme not in _OWN and part.hostname != "127.0.0.1"]


def _spoken(said: ConsoleMessage) -> str:
    """The message, and the address that it is about."""
    return f"{said.text} {said.location.get('url', '')}".strip()


@contextlib.contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """The browser, with more arguments of its command line. Where it is missing the test fails, and says what to
    install."""
    program = shutil.which("chromium")
    assert program is not None, "the page is tested in Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        # A test machine may run as root in a container, where Chromium's own sandbox cannot be had.
        arguments = [
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            *more,
        ]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(
    browser: Browser,
    address: str,
    *,
    width: int = 1440,
    locale: str = "en-US",
    scheme: Literal["light", "dark"] = "light",
    height: int = 900,
) -> Iterator[tuple[Page, Seen]]:
    """A fresh visitor on that address, and what he sees of its traffic."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme, reduced_motion="reduce"
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    seen = Seen()
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda said: seen.hear(_spoken(said)) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#anmok-tabs")
    try:
        yield page, seen
    finally:
        context.close()


def faults(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds that is serious or worse, and finds again: the rule, and where.

    A text has its contrast when it has faded in, and what an event changes may fade in while axe-core looks.
    """
    found: list[tuple[str, list[str]]] = []
    for _ in range(_LOOKS):
        page.wait_for_function(_OPAQUE, polling=_OFTEN)
        found = _seen_by_axe(page)
        if not found:
            break
        page.wait_for_timeout(500)
    return found


def _seen_by_axe(page: Page) -> list[tuple[str, list[str]]]:
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response["violations"]
    return [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found if one["impact"] in _SERIOUS]


def reload(page: Page, seen: Seen) -> None:
    """Loads the page again; that it says so of what it was waiting for is no complaint."""
    page.reload()
    seen.complaints[:] = [text for text in seen.complaints if not any(words in text for words in _BROKEN_OFF)]


_LOOKS = 3
_OFTEN = 50  # milliseconds; by frames alone, a window behind another would wait for ever
# What gradio waits for is faint until it is there.
_OPAQUE = """() => !document.querySelector('main .pending')
  && [...document.querySelectorAll('.toast-wrap, .toast-wrap > *, .toast-body')]
    .every((one) => getComputedStyle(one).opacity === '1')
  && document.getAnimations().every((one) => !(one instanceof CSSTransition) || one.playState !== 'running')"""
_WIDEST = """() => Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll('main *')]
  .filter((one) => one.checkVisibility() && !one.closest('.visually-hidden, pre, .cm-editor, [class*=toast]'))
  .map((one) => one.getBoundingClientRect().right)) - document.documentElement.clientWidth"""


def overflow(page: Page) -> int:
    """Pixels by which anything visible reaches over the window's edge; what scrolls by itself does not count."""
    return max(0, round(page.evaluate(_WIDEST)))


def typed(field: Locator, text: str) -> None:
    """Types the text, and gives gradio the moment to take it over that a hand needs to reach a button."""
    field.fill(text)
    field.page.wait_for_timeout(200)


def number_typed(field: Locator, text: str) -> None:
    """A field of numbers that is shown for the first time puts what it began with in once more, a moment later: over
    what a machine has typed, and no hand is so fast."""
    for _ in range(20):
        field.fill(text)
        field.page.wait_for_timeout(300)
        if field.input_value() == text:
            return
    expect(field).to_have_value(text)


def choose_tab(page: Page, tabs: str, name: str, label: str) -> None:
    """Opens the tab of that id and label; on a narrow window some stand in a menu."""
    row = page.locator(f"{tabs} > .tab-wrapper")
    button = row.locator(f"button[role=tab][data-tab-id={name}]")
    if not button.count():
        row.locator(".overflow-menu > button").click()
        button = row.locator(".overflow-dropdown button").filter(has_text=label)
    button.first.click()
