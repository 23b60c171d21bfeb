"""What a tab is for is said above its form, on a phone as at a desk."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from anmok.engine import Engine
from anmok.ui.sessions import Sessions
from anmok.ui.tabs import build
from anmok.ui.texts import Words
from browser.chromium import WIDTHS, choose_tab, chromium, opened
from conftest import write_photos
from ui_page import GRADIO, host_of, shown

pytestmark = GRADIO

TABS = ("search", "audit", "climb")


def leaves(node: dict[str, Any]) -> Iterator[int]:
    """Numbers of what stands in a part of the page, from top to bottom."""
    children = node.get("children") or []
    if not children:
        yield node["id"]
    for child in children:
        yield from leaves(child)


def parts(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("children") or []:
        yield from parts(child)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_intro_is_the_first_that_a_tab_says(language: str, tmp_path: Path) -> None:
    with Engine(10**8) as engine:
        config: Any = build(host_of(engine, tmp_path), language, Sessions(tmp_path)).get_config_file()
    asyncio.set_event_loop(None)
    gc.collect()  # the loop that gradio leaves open, while its warning is told of as it should be
    by_id = {one["id"]: one for one in config["components"]}
    found = {}
    for part in parts(config["layout"]):
        one = by_id.get(part["id"], {})
        if one.get("type") == "tabitem" and one["props"].get("id") in TABS:
            found[one["props"]["id"]] = [by_id[number] for number in leaves(part)]
    assert set(found) == set(TABS)
    words = Words(language)
    for name, inside in found.items():
        assert inside[0]["type"] == "html"
        assert words(f"{name}.begin") in inside[0]["props"]["value"]
        assert not any(words(f"{name}.begin") in str(one["props"].get("value")) for one in inside[1:])


@pytest.mark.browser
@pytest.mark.parametrize("width", ["phone", "desk"])
def test_it_stands_above_the_form(width: str, tmp_path: Path) -> None:
    words = Words("en")
    write_photos(tmp_path / "parts", 4, ("red", "blue"))
    with (
        shown(tmp_path) as found,
        chromium() as browser,
        opened(browser, f"{found.address}en/", width=WIDTHS[width]) as (page, _),
    ):
        for name in TABS:
            choose_tab(page, "#anmok-tabs", name, words(f"{name}.title"))
            intro, form = page.locator(f"#{name}-begin"), page.locator(f"#{name}-folder")
            expect(intro).to_have_text(words(f"{name}.begin"), timeout=60_000)
            expect(form).to_be_visible(timeout=60_000)
            above, below = intro.bounding_box(), form.bounding_box()
            assert above is not None
            assert below is not None
            assert above["y"] + above["height"] <= below["y"]
