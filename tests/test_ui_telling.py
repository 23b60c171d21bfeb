"""What the page says of errors, which models it offers, and names as people type them."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from anmok.catalogue import card
from anmok.engine import Engine
from anmok.errors import BadData, BadRequest, CannotWrite
from anmok.labelling import LabelSession, Served
from anmok.load import tiny
from anmok.ui import Host
from anmok.ui.choosing import FolderList
from anmok.ui.labelling.saying import standing_html
from anmok.ui.page import Page
from anmok.ui.sessions import Sessions, uploads
from anmok.ui.sources import Folders
from anmok.ui.telling import told
from anmok.ui.texts import Spoken, Words
from conftest import write_photos
from ui_page import host_of


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(10**8) as found:
        yield found


HIDDEN = "the server could not answer; its log says why"


def test_data_that_cannot_be_used_is_named_without_the_place_where_it_lies(tmp_path: Path) -> None:
    root = tmp_path / "내 사진"
    english, korean = Words("en"), Words("ko")
    flat = BadData(f"{root}/coco: no folders of classes in it; put each class into a folder")
    assert told(english, flat, root) == "내 사진/coco: no folders of classes in it; put each class into a folder"
    assert told(korean, flat, root).startswith("데이터를 읽을 수 없습니다. (내 사진/coco: ")
    inside = uploads() / "opened" / "tmpab12" / "mine"
    assert told(english, BadData(f"{inside}: no images"), root) == "mine: no images"
    sent = uploads() / ("0123456789abcdef" * 4) / "told.csv"
    assert told(english, BadData(f"{sent}: no column pred"), root) == "told.csv: no column pred"
    assert told(english, BadData("x.zip: cannot be unpacked"), None) == "x.zip: cannot be unpacked"


@pytest.mark.parametrize("place", ["/srv/models/secret", "C:\\models\\secret"])
def test_another_place_of_this_machine_goes_to_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    with caplog.at_level(logging.WARNING, logger="anmok.ui"):
        assert told(Words("en"), BadData(f"cannot read {place}"), tmp_path) == HIDDEN
    assert "secret" in caplog.text
    assert "secret" not in told(Words("ko"), CannotWrite(f"{place}: full"), tmp_path)


def test_what_a_visitor_has_to_do_first_is_said_in_his_language_alone() -> None:
    korean = Words("ko")
    text = korean("label.no_source")
    assert told(korean, Spoken(text), None) == text
    assert told(korean, BadRequest("seed: want a number"), None).endswith("(seed: want a number)")


def test_a_model_that_reads_texts_alone_is_not_offered_for_pictures(engine: Engine) -> None:
    host = Host(engine, {name: card(name) for name in ("mini", "minilm-l6", "efficientnet-lite2")})
    assert host.doing("embed") == ("mini", "efficientnet-lite2")


def test_names_are_shown_as_people_type_them_and_used_as_the_disk_has_them(engine: Engine, tmp_path: Path) -> None:
    on_disk = unicodedata.normalize("NFD", "한글 사진")
    write_photos(tmp_path / on_disk, 1, ("red",))
    folders = FolderList(Page(host_of(engine, tmp_path), Words("ko"), Sessions(tmp_path / "files")), "(whole)")
    choices = folders.choices()
    assert ("한글 사진", on_disk) in choices
    assert Folders(tmp_path).source(on_disk).folder.is_dir()
    assert folders.choices("gone")[-1] == ("gone", "gone")  # whoever uses it is told by us that it is gone
    assert folders.choices(".") == choices


def test_a_picture_says_that_a_model_chose_it_only_where_one_did(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 8, ("red", "blue"))
    with LabelSession.open(tmp_path / "photos", ("red", "blue"), store=tmp_path / "store") as session:
        assert {task.is_chosen for task in session.next(12)} == {False}
    with (
        Engine(10**9, loader=lambda name, **given: tiny(name)) as engine,
        LabelSession.open(
            tmp_path / "photos", ("red", "blue"), store=tmp_path / "other", model=Served(engine, "fake")
        ) as session,
    ):
        session.verdict(wait=30)
        tasks = session.next(12)
    assert {task.is_chosen for task in tasks if task.stream == "measure"} == {False}
    assert {task.is_chosen for task in tasks if task.stream == "teach"} == {True}


def test_nothing_is_said_of_more_labels_where_no_picture_is_left(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3, ("red", "blue"))
    words = Words("en")
    with LabelSession.open(tmp_path / "photos", ("red", "blue"), store=tmp_path / "store") as session:
        assert words("label.outlook.title", 6) in standing_html(words, session.verdict())
        for task in session.next(6):
            session.answer(task, "red")
        assert "would buy" not in standing_html(words, session.verdict())
