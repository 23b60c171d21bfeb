"""Parts of the page that need no browser: folder, marks, places for files, languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from anmok.errors import BadRequest
from anmok.inputs import Cue
from anmok.ui.folder import Folder
from anmok.ui.mounting import language_of
from anmok.ui.sessions import Sessions
from anmok.ui.trying.fields import labels_of
from anmok.ui.trying.pointing import Marks
from anmok.ui.trying.tracking import cues_of
from serving import RED_BOX


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    (root / "a.png").write_bytes(RED_BOX)
    (root / "deep" / "b.png").write_bytes(RED_BOX)
    (root / "notes.txt").write_text("secret")
    (tmp_path / "outside.png").write_bytes(RED_BOX)
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "way").symlink_to(tmp_path)
    (root / "inner.png").symlink_to(root / "a.png")
    return root


def test_a_folder_shows_its_pictures_and_none_from_elsewhere(folder: Path) -> None:
    assert Folder(folder).names() == ["a.png", "deep/b.png", "inner.png"]
    assert Folder(folder).read("deep/b.png") == RED_BOX


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "deep/../../outside.png", "link.png", "way/outside.png", "notes.txt", "", "a.png\0", "none.png"],
)
def test_nothing_outside_the_folder_has_a_name(folder: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="no such picture in the folder"):
        Folder(folder).read(name)


def test_an_absolute_path_is_no_name(folder: Path) -> None:
    with pytest.raises(BadRequest):
        Folder(folder).read(str(folder / "a.png"))


def test_marks_of_a_browser() -> None:
    value = {"picture": "p", "source": "s", "width": 80, "height": 60, "stamp": 3}
    marks = Marks.of({**value, "points": [[1, 2, 1], [3, 4.5, 0]], "boxes": [[1, 2, 30, 40]]})
    assert marks.points == ((1.0, 2.0, 1), (3.0, 4.5, 0))
    assert marks.prompts() == [(marks.points, marks.boxes)]
    assert Marks.of(marks.value()) == marks
    assert Marks.of(None).value() is None


def test_points_and_several_boxes_are_two_questions() -> None:
    marks = Marks.of({"points": [[1, 2, 1]], "boxes": [[0, 0, 9, 9], [10, 10, 20, 20]]})
    assert marks.prompts() == [(marks.points, ()), ((), marks.boxes)]
    assert cues_of(marks) == (
        Cue(0, 1, marks.points),
        Cue(0, 2, (), (0.0, 0.0, 9.0, 9.0)),
        Cue(0, 3, (), (10.0, 10.0, 20.0, 20.0)),
    )


@pytest.mark.parametrize(
    "value",
    [
        "text",
        {"points": "many"},
        {"points": [[1, 2]]},
        {"boxes": [[9, 9, 1, 1]]},
        {"points": [[1, 2, 1]] * 65},
        {"points": [[float("nan"), 2, 1]]},
    ],
)
def test_marks_that_are_none(value: object) -> None:
    with pytest.raises(BadRequest):
        Marks.of(value)


def test_old_answers_go_and_names_are_not_guessed(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, answers=2, visitors=2)
    first = [sessions.place("ann") for _ in range(3)]
    assert [one.exists() for one in first] == [False, True, True]
    bob, cid = sessions.place("bob"), sessions.place("cid")
    assert [one.exists() for one in (*first, bob, cid)] == [False, False, False, True, True]
    assert len({one.name for one in (*first, bob, cid)}) == 5
    assert all(len(one.name) == 32 for one in (bob, cid))


def test_labels_are_parted_by_commas() -> None:
    assert labels_of(" red, blue ,red,, ") == ("red", "blue")
    assert labels_of(" , ") is None


@pytest.mark.parametrize(
    ("query", "headers", "language"),
    [
        ("lang=ko", {}, "ko"),
        ("lang=xx", {}, "en"),
        ("", {"accept-language": "ko-KR,ko;q=0.9,en-US;q=0.8"}, "ko"),
        ("", {"accept-language": "de, en;q=0.5, ko;q=0.4"}, "en"),
        ("", {"accept-language": "nonsense;q=x"}, "en"),
        ("", {"cookie": "anmok-language=ko", "accept-language": "en"}, "ko"),
        ("lang=en", {"cookie": "anmok-language=ko"}, "en"),
        ("", {}, "en"),
    ],
)
def test_the_language_is_asked_for_remembered_or_the_browsers(
    query: str, headers: dict[str, str], language: str
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "query_string": query.encode(), "headers": raw, "path": "/ui/", "method": "GET"}
    assert language_of(Request(scope)) == language
