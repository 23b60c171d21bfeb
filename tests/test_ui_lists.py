"""Lists of the page that are made anew: what is sent of them, and when nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from PIL import Image as pillow

from anmok.ui.listing import FreshList
from ui_page import GRADIO, Shown, happened, shown

pytestmark = GRADIO

FOLDERS = ("search-folder", "label-folder", "audit-folder", "climb-folder")
PHOTOS = "From the folder"  # of Try
LOOKS = ("load", "select", "focus")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "parts").mkdir()
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


def loaded(page: Shown) -> Client:
    """A visitor who has just loaded the page."""
    return Client(f"{page.address}en/", verbose=False)


def looks(visitor: Client, field: str) -> dict[str, int]:
    """The events that look again at the list of that id or label, by what the visitor does."""
    parts = visitor.config["components"]
    first = next(one["id"] for one in parts if field in (one["props"].get("elem_id"), one["props"].get("label")))
    return {
        does: event["id"]
        for event in visitor.config["dependencies"]
        for _, does in event["targets"]
        if does in LOOKS and first in event["outputs"]
    }


def offered(visitor: Client, event: int, chosen: str | None = None) -> list[str] | None:
    """What the field has from now on; None where it keeps the list that it has."""
    [update] = happened(visitor, event, chosen)
    return [value for _, value in update["choices"]] if "choices" in update else None


@pytest.mark.parametrize("field", FOLDERS)
def test_a_list_of_folders_is_sent_only_where_it_changed_since(page: Shown, root: Path, field: str) -> None:
    names = [field, f"{field}-2"]
    visitor = loaded(page)
    events = looks(visitor, field)
    assert tuple(sorted(events)) == tuple(sorted(LOOKS))
    for does in LOOKS:
        offered(visitor, events[does])  # whatever other tests have added
    assert [offered(visitor, events[does]) for does in LOOKS] == [None, None, None]
    (root / names[0]).mkdir()
    sent = offered(visitor, events["focus"])
    assert sent is not None
    assert names[0] in sent
    assert [offered(visitor, events[does]) for does in LOOKS] == [None, None, None]
    late = loaded(page)  # whose page has the list of when it was made
    sent = offered(late, events["load"])
    assert sent is not None
    assert names[0] in sent
    assert offered(late, events["focus"]) is None
    (root / names[0]).rename(root / names[1])
    for one in (visitor, late):
        sent = offered(one, events["select"])
        assert sent is not None
        assert (names[0] in sent, names[1] in sent) == (False, True)


def test_what_is_chosen_and_gone_stays_in_the_list_until_another_one_is_chosen(page: Shown, root: Path) -> None:
    (root / "aged").mkdir()
    visitor = loaded(page)
    focus = looks(visitor, "search-folder")["focus"]
    first = offered(visitor, focus)
    assert first is not None
    (root / "aged").rmdir()
    left = [name for name in first if name != "aged"]
    assert offered(visitor, focus, "aged") == [*left, "aged"]
    assert offered(visitor, focus, "aged") is None
    assert offered(visitor, focus, "parts") == left


def test_a_list_of_photos_is_sent_only_where_it_changed_since(page: Shown, root: Path) -> None:
    visitor = loaded(page)
    focus = looks(visitor, PHOTOS)["focus"]
    assert offered(visitor, focus) is None
    pillow.new("RGB", (8, 8), "red").save(root / "red.png")
    assert offered(visitor, focus) == ["red.png"]
    assert offered(visitor, focus, "red.png") is None
    assert offered(loaded(page), focus) == ["red.png"]


def test_who_chooses_for_the_visitor_sends_the_list_that_has_it() -> None:
    names = ["a", "b"]

    def choices(chosen: str | None) -> list[tuple[str, str]]:
        last = [("my zip", chosen)] if chosen and chosen not in names else []
        return [*((name, name) for name in names), *last]

    with gr.Blocks() as blocks:
        field = gr.Dropdown(choices(None))
        fresh = FreshList(field, choices)
        fresh.renew(field.focus)
    [event] = [one.fn for one in blocks.fns.values()]
    assert event is not None
    ann, bob = gr.Request(session_hash="ann"), gr.Request(session_hash="bob")
    told = choices("zip:1")
    update: Any = fresh.choose("zip:1", ann)
    assert (update["choices"], update["value"], update["visible"]) == (told, "zip:1", True)
    assert event("zip:1", ann) == event("a", bob) == gr.skip()
    assert event("a", ann)["choices"] == choices("a")
    assert event("a", ann) == gr.skip()
