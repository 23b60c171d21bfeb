"""Why an event failed, where its answer would stand, in both languages."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client, handle_file

from anmok.engine import Engine
from anmok.errors import BadData
from anmok.ui.failing import Reasons
from anmok.ui.page import Page
from anmok.ui.sessions import Sessions
from anmok.ui.texts import LANGUAGES, Words
from conftest import write_photos
from ui_page import GRADIO, Shown, happened, host_of, line, shown

pytestmark = GRADIO


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    line(folder)
    write_photos(folder / "parts", 6, ("red", "blue"))
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Shown]:
    with shown(root) as found:
        yield found


def by(visitor: str) -> gr.Request:
    return gr.Request(session_hash=visitor)


def said(reason: str) -> str:
    return f'<p class="anmok-said anmok-why">{html.escape(reason)}</p>'


# Whose it is, and for how long


def test_a_reason_is_told_once_and_to_whom_it_belongs() -> None:
    words, reasons = Words("en"), Reasons()
    for visitor, reason in (("ann", "a <b> & c"), ("bob", "no label")):
        reasons.keep(visitor, reason)
    assert reasons.taken(words, by("eve")) == said(words("try.failed"))
    assert reasons.taken(words, by("ann")) == '<p class="anmok-said anmok-why">a &lt;b&gt; &amp; c</p>'
    assert reasons.taken(words, by("ann")) == said(words("try.failed"))
    assert reasons.taken(words, by("bob")) == said("no label")


def test_an_event_that_fails_again_before_it_is_told_why_ends_with_its_last_reason() -> None:
    words, reasons = Words("en"), Reasons()
    reasons.keep("ann", "no image")
    reasons.keep("ann", "no label")
    assert [reasons.taken(words, by("ann")) for _ in range(3)] == [said("no label")] * 2 + [said(words("try.failed"))]


def test_who_never_fetches_his_reason_is_forgotten() -> None:
    words, reasons = Words("ko"), Reasons()
    for number in range(300):
        reasons.keep(str(number), "why")
    kept = [number for number in range(300) if reasons.taken(words, by(str(number))) == said("why")]
    assert kept == list(range(44, 300))


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_kept_is_what_the_toast_says(tmp_path: Path, language: str) -> None:
    words, reasons = Words(language), Reasons()
    with Engine(10**6) as engine:
        page = Page(host_of(engine, tmp_path), words, Sessions(tmp_path / "files"))

        def event(number: int, request: gr.Request) -> int:
            if number:
                raise BadData(f"{tmp_path}/told.csv: row {number} has no <label>")
            return number

        guarded = page.guarded(event, reasons)
        with pytest.raises(gr.Error) as failed:
            guarded(3, by("ann"))
        assert guarded(0, by("ann")) == 0
    told = {
        "en": f"{tmp_path.name}/told.csv: row 3 has no <label>",
        "ko": f"데이터를 읽을 수 없습니다. ({tmp_path.name}/told.csv: row 3 has no <label>)",
    }[language]
    assert failed.value.message == html.escape(told)
    assert reasons.taken(words, by("bob")) == said(words("try.failed"))
    assert reasons.taken(words, by("ann")) == said(told)


# Through the page: as a browser does it, which runs the second event when the first has failed


@pytest.fixture(params=LANGUAGES)
def visit(request: Any, page: Shown, tmp_path: Path) -> Any:
    client = Client(f"{page.address}{request.param}/", verbose=False, download_files=str(tmp_path))
    return SimpleNamespace(client=client, words=Words(request.param))


def after(client: Client, name: str) -> list[Any]:
    """What the event that follows the failure of ``name`` answers."""
    events = client.config["dependencies"]
    first = next(one["id"] for one in events if one["api_name"] == name)
    following = [one["id"] for one in events if one["trigger_only_on_failure"] and one["trigger_after"] == first]
    assert len(following) == 1
    return happened(client, following[0])


def test_an_audit_that_failed_says_why_in_place_of_its_verdict(visit: Any, root: Path) -> None:
    rest = (None, None, 1, 3, "", "", None, 0)
    told = handle_file(str(root / "told.csv"))
    assert "verdict" in visit.client.predict(told, "line", *rest, api_name="/audit_go")[0]
    with pytest.raises(Exception, match=r"\."):
        visit.client.predict(None, "line", *rest, api_name="/audit_go")
    why, verdict, shell, python = after(visit.client, "audit_go")
    assert why == said(visit.words("audit.no_predictions"))
    assert verdict == {"visible": False, "__type__": "update"}
    assert (shell, python) == ("", "")


def test_a_climb_that_does_not_begin_says_why_above_the_one_that_is_followed(visit: Any) -> None:
    wishes = (0, "", "", 0, "good", "")
    with pytest.raises(Exception, match=r"\."):
        visit.client.predict("parts/red", None, None, "fake", "all", 1, 0, *wishes, api_name="/climb_start")
    why, state = after(visit.client, "climb_start")
    assert "value" not in state
    assert "parts/red" in why
    assert why.startswith(said(visit.words("climb.flat", "\0")).partition("\0")[0])


def test_a_folder_without_classes_says_why_in_place_of_its_classes(visit: Any) -> None:
    assert "12" in visit.client.predict("parts", None, None, api_name="/climb_look")
    with pytest.raises(Exception, match="parts/red"):
        visit.client.predict("parts/red", None, None, api_name="/climb_look")
    [why] = after(visit.client, "climb_look")
    assert "parts/red" in why
    assert "<table" not in why


PHOTO = "photo"
ASKED: dict[str, tuple[tuple[Any, ...], str]] = {
    "try_classify": ((PHOTO, "fake", "", 0.0, ""), "try.no_labels"),
    "try_segment": ((PHOTO, {"points": "x"}, "fake-places", "", True, 0.3, ""), ""),
    "try_track": ((PHOTO, None, "fake-places", ""), "try.point.nothing"),
    "try_embed": ((PHOTO, None, "long" * 600, "fake"), ""),
    "search": (("parts", None, "fake", "", None), "search.nothing"),
    "label_open": ((None, None, "labels", "red, blue", "fake", "fake-places"), "label.no_source"),
    "label_export": (({"room": "none"}, "coco"), "label.end.no_session"),
}


def remains(update: Any) -> bool:
    """Whether that field still has something to look at."""
    return bool(update.get("visible") if isinstance(update, dict) else update)


@pytest.mark.parametrize("name", ASKED)
def test_what_cannot_be_answered_says_why_beside_no_older_answer(visit: Any, root: Path, name: str) -> None:
    values, key = ASKED[name]
    photo = sorted((root / "parts" / "red").iterdir())[0]
    sent = [handle_file(str(photo)) if one == PHOTO else one for one in values]
    with pytest.raises(Exception, match=r"\w") as failed:
        visit.client.predict(*sent, api_name=f"/{name}")
    toast = html.unescape(str(failed.value))
    why, *rest = after(visit.client, name)
    assert why == said(visit.words(key) if key else toast)
    assert toast in html.unescape(why)
    assert [one for one in rest if remains(one)] == []


def test_a_folder_that_cannot_be_searched_or_labelled_says_so_when_it_is_chosen(visit: Any) -> None:
    events = visit.client.config["dependencies"]
    for name, rest in (("search", (None, "fake")), ("label_open", ("labels",))):
        field = next(one["inputs"][0] for one in events if one["api_name"] == name)
        [looked] = [one["id"] for one in events if [field, "change"] in one["targets"]]
        with pytest.raises(AssertionError):
            happened(visit.client, looked, "gone", *rest)
        [following] = [one["id"] for one in events if one["trigger_after"] == looked]
        [why] = happened(visit.client, following)
        told = why["value"] if isinstance(why, dict) else why
        assert "there is no such folder here" in told
        assert 'class="anmok-said anmok-why"' in told
