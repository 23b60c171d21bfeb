"""Gemini Nano in the tab Chat, in a real Chromium with a stand-in for what Chrome has: ``LanguageModel``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from anmok.server.settings import Served, Settings
from anmok.ui.texts import Words
from browser.chromium import WIDTHS, choose_tab, chromium, faults, overflow, typed
from browser.served import shown
from serving import Running, png, scene
from ui_page import GRADIO

pytestmark = [
    *GRADIO,
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

RED = png(scene({"red": (0, 0, 80, 60)}))
_SECONDS = 60_000  # milliseconds, at the most

# It answers in three words, waits after the first one where the question says so, and keeps what it was told.
STAND_IN = """
window.told = { availability: [], create: [], prompts: [], destroyed: 0 };
window.LanguageModel = class LanguageModel extends EventTarget {
  static async availability(options) {
    window.told.availability.push(options);
    const images = options.expectedInputs.some((one) => one.type === 'image');
    return images ? STATE.images : STATE.words;
  }
  static async create(options) {
    const { monitor, signal, ...rest } = options;
    window.told.create.push(rest);
    const target = new EventTarget();
    monitor(target);
    target.dispatchEvent(Object.assign(new Event('downloadprogress'), { loaded: 0.42 }));
    if (STATE.slow) {
      await new Promise((done, failed) => {
        window.goOn = done;
        signal.addEventListener('abort', () => failed(signal.reason));
      });
    }
    const model = new LanguageModel();
    signal.addEventListener('abort', () => model.destroy());
    return model;
  }
  promptStreaming(input, { signal }) {
    const { content } = input[0];
    window.told.prompts.push({ role: input[0].role, parts: content.map((one) => one.type) });
    const question = content.find((one) => one.type === 'text').value;
    if (question.includes('long')) throw Object.assign(new Error('too long'), { name: 'QuotaExceededError' });
    const sizes = Promise.all(content.filter((one) => one.type === 'image').map((one) => createImageBitmap(one.value)));
    return new ReadableStream({
      async start(controller) {
        signal.addEventListener('abort', () => controller.error(signal.reason));
        const [first] = await sizes;
        controller.enqueue(first ? `I see ${first.width} x ${first.height}. ` : 'I see nothing. ');
        if (question.includes('slowly')) await new Promise((done) => { window.goOn = done; });
        if (question.includes('broken')) return controller.error(new Error('out of $& luck'));
        controller.enqueue('<img src=x onerror="window.hacked = 1">');
        controller.enqueue(' 끝.');
        controller.close();
      },
    });
  }
  destroy() { window.told.destroyed += 1; }
};
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with shown(settings=Settings(models=(Served.of("fake-talk"),))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@contextlib.contextmanager
def visit(
    browser: Browser, server: Running, script: str, language: str = "en", width: int = 1440
) -> Iterator[tuple[Page, list[str]]]:
    """The tab in a browser that the script was run in before the page; and the bodies of all that it sends."""
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    context.add_init_script(script)
    page = context.new_page()
    page.set_default_timeout(_SECONDS)
    bodies: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: bodies.append(f"{request.url} {request.post_data_buffer or b''!r}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto(f"{server.address}/ui/{language}/")
        page.wait_for_selector("#anmok-tabs", timeout=30_000)
        choose_tab(page, "#anmok-tabs", "chat", Words(language)("chat.title"))
        expect(page.locator("#chat-question")).to_be_visible()
        yield page, bodies
        assert overflow(page) == 0
        assert faults(page) == []
    finally:
        context.close()
    assert complaints == []


def having(images: str = "available", words: str = "available", *, slow: bool = False) -> str:
    return f"const STATE = {{ images: '{images}', words: '{words}', slow: {str(slow).lower()} }};{STAND_IN}"


def show(page: Page, *pictures: bytes) -> None:
    files: Any = [{"name": f"p{i}.png", "mimeType": "image/png", "buffer": data} for i, data in enumerate(pictures)]
    page.locator("#chat-pictures input[type=file]").set_input_files(files)
    expect(page.locator("#chat-seen img")).to_have_count(len(pictures), timeout=_SECONDS)


def ask(page: Page, question: str) -> None:
    typed(page.locator("#chat-question textarea"), question)
    page.locator("#chat-nano [data-act=ask]").click()


@pytest.mark.parametrize(
    "script",
    ["delete window.LanguageModel;", "window.LanguageModel = {};", having("unavailable", "unavailable")],
    ids=["none", "another", "unavailable"],
)
def test_where_the_browser_has_no_model_there_is_nothing_to_see(script: str, browser: Browser, server: Running) -> None:
    with visit(browser, server, script) as (page, _):
        expect(page.locator("#chat-nano .nano")).to_be_attached()
        page.wait_for_timeout(300)
        expect(page.locator("#chat-nano .nano")).to_be_hidden()
        expect(page.locator("#chat-nano")).to_be_hidden()  # no gap either


@pytest.mark.parametrize(("language", "width"), [("en", WIDTHS["desk"]), ("ko", WIDTHS["phone"])])
def test_it_answers_in_the_browser_and_no_server_hears_the_question(
    language: str, width: int, browser: Browser, server: Running
) -> None:
    words = Words(language)
    with visit(browser, server, having(), language, width) as (page, bodies):
        nano = page.locator("#chat-nano .nano")
        expect(nano.locator(".name")).to_have_text(words("nano.name"))
        expect(nano.locator("[data-for=download]")).to_be_hidden()
        ask(page, "")
        expect(nano.locator(".told")).to_have_text(words("nano.no_question"))
        show(page, RED)
        ask(page, "a secret 비밀 question")
        turns = nano.locator(".turn .words")
        expect(turns).to_have_text(
            ["a secret 비밀 question", 'I see 80 x 60. <img src=x onerror="window.hacked = 1"> 끝.']
        )
        expect(nano.locator(".turn.user img")).to_have_count(1)
        expect(nano.locator(".turn .who")).to_have_text([words("nano.who.user"), words("nano.who.assistant")])
        expect(page.locator("#chat-question textarea")).to_have_value("")
        expect(nano.locator(".told")).to_contain_text(words("nano.done", "0.1")[:8])
        ask(page, "And now?")  # it has seen the photo
        expect(turns).to_have_count(4)
        expect(nano.locator("[data-act=clear]")).to_be_visible()
        told = page.evaluate("window.told")
        assert told["prompts"] == [
            {"role": "user", "parts": ["image", "text"]},
            {"role": "user", "parts": ["text"]},
        ]
        assert len(told["create"]) == 1  # one session for the whole conversation
        assert told["create"][0] == told["availability"][0]
        assert {"type": "image"} in told["create"][0]["expectedInputs"]
        assert page.evaluate("window.hacked") is None
        assert not any("secret" in body or "And now" in body for body in bodies)
        nano.locator("[data-act=clear]").click()
        expect(nano.locator("[role=log]")).to_be_hidden()
        assert page.evaluate("window.told.destroyed") == 1


def test_it_is_downloaded_first_and_can_be_stopped(browser: Browser, server: Running) -> None:
    words = Words("en")
    with visit(browser, server, having("downloadable", slow=True)) as (page, _):
        nano = page.locator("#chat-nano .nano")
        told, stop = nano.locator(".told"), nano.locator("[data-act=stop]")
        expect(nano.locator("[data-for=download]")).to_have_text(words("nano.download"))
        ask(page, "Tell it slowly")
        expect(told).to_have_text(words("nano.loading", 42))
        page.evaluate("window.goOn()")
        expect(nano.locator(".turn.assistant .words")).to_have_text("I see nothing. ")
        expect(nano.locator("[data-act=ask]")).to_be_disabled()
        stop.click()
        expect(told).to_have_text(words("nano.stopped"))
        expect(nano.locator(".turn.assistant .words")).to_have_text("I see nothing. ")
        expect(stop).to_be_hidden()
        assert page.evaluate("window.told.destroyed") == 0  # an answer was stopped, not the conversation
        ask(page, "Go on")
        expect(nano.locator(".turn")).to_have_count(4)
        assert page.evaluate("window.told.create.length") == 1


@pytest.mark.parametrize(("state", "language"), [("downloadable", "ko"), ("downloading", "en")])
def test_a_download_can_be_stopped_and_asked_for_again(
    state: str, language: str, browser: Browser, server: Running
) -> None:
    words = Words(language)
    with visit(browser, server, having(state, slow=True), language, WIDTHS["phone"]) as (page, _):
        nano = page.locator("#chat-nano .nano")
        told, question = nano.locator(".told"), page.locator("#chat-question textarea")
        expect(nano.locator("[data-for=download]")).to_have_text(words("nano.download"))
        ask(page, "Hello?")
        expect(told).to_have_text(words("nano.loading", 42))
        nano.locator("[data-act=stop]").click()
        expect(told).to_have_text(words("nano.stopped_before"))
        expect(question).to_have_value("Hello?")
        expect(nano.locator("[role=log]")).to_be_hidden()
        expect(nano.locator("[data-for=download]")).to_be_visible()
        nano.locator("[data-act=ask]").click()
        expect(told).to_have_text(words("nano.loading", 42))
        page.evaluate("window.goOn()")
        expect(nano.locator(".turn.assistant .words")).to_contain_text("I see nothing.")
        expect(nano.locator("[data-for=download]")).to_be_hidden()
        assert page.evaluate("window.told.create.length") == 2


def test_what_goes_wrong_is_told_and_the_question_stays(browser: Browser, server: Running) -> None:
    words = Words("en")
    with visit(browser, server, having("unavailable")) as (page, _):
        nano = page.locator("#chat-nano .nano")
        told = nano.locator(".told")
        show(page, RED)
        ask(page, "What is it?")
        expect(told).to_have_text(words("nano.blind"))  # a model that reads words alone
        page.locator("#chat-clear").click()
        expect(page.locator("#chat-seen img")).to_have_count(0)
        ask(page, "too long")
        expect(told).to_have_text(words("nano.full"))
        expect(page.locator("#chat-question textarea")).to_have_value("too long")
        expect(nano.locator("[role=log]")).to_be_hidden()
        ask(page, "broken")
        expect(told).to_have_text(words("nano.failed", "Error: out of $& luck"))
        expect(nano.locator(".turn.assistant .words")).to_have_text("I see nothing. ")
        expect(page.locator("#chat-question textarea")).to_have_value("broken")
        assert page.evaluate("window.told.create[0].expectedInputs") == [{"type": "text", "languages": ["en"]}]
