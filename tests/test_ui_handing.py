"""Labels on their way from one tab to another, zips that are kept, and the list of folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anmok.engine import Engine
from anmok.errors import BadRequest
from anmok.ui.choosing import FolderList
from anmok.ui.climbing.ascending import counted
from anmok.ui.climbing.jobs import key_of_folder
from anmok.ui.handing import Hands, Labelled, hands_of
from anmok.ui.keeping import is_kept, keep
from anmok.ui.page import Page
from anmok.ui.sessions import Sessions
from anmok.ui.sources import allowance_of, folder_of
from anmok.ui.texts import Words
from conftest import write_photos
from ui_page import host_of, zip_of


def test_what_is_handed_over_is_taken_once_by_whom_it_is_for(tmp_path: Path) -> None:
    hands = Hands()
    first, second = (Labelled(name, tmp_path / f"{name}.csv") for name in ("one", "two"))
    hands.give("ann", first)
    hands.give("bob", first)
    hands.give("ann", second)
    assert hands.take("eve") is None
    assert (hands.take("ann"), hands.take("ann"), hands.take("bob")) == (second, None, first)


def test_who_never_comes_is_forgotten(tmp_path: Path) -> None:
    hands = Hands()
    for number in range(200):
        hands.give(str(number), Labelled(str(number), tmp_path))
    assert [number for number in range(200) if hands.take(str(number)) is not None] == list(range(136, 200))


def test_both_languages_of_a_page_have_the_same_hands(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    assert hands_of(sessions) is hands_of(sessions)
    assert hands_of(Sessions(tmp_path)) is not hands_of(sessions)


def test_other_labels_are_another_climb(tmp_path: Path) -> None:
    for name, text in (("a", "image,label\n1.png,red\n"), ("b", "image,label\n1.png,blue\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    keys = [key_of_folder("parts"), *(key_of_folder("parts", tmp_path / name) for name in ("a", "b", "a"))]
    assert keys[0] == "folder:parts"
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]


def test_a_kept_zip_is_a_source_with_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    packed = zip_of(write_photos(tmp_path / "mine", 3, ("red", "blue")), tmp_path / "mine.zip")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "mine").rglob("*.png"))
    table = tmp_path / "labels.csv"
    rows = [
        f"{name},{'good' if '/red/' in name else 'bad'},{'measure' if i % 3 == 0 else 'teach'}"
        for i, name in enumerate(names)
    ]
    table.write_text("\n".join(["image,label,stream", *rows]) + "\n", encoding="utf-8")
    with Engine(10**8) as engine:
        host = host_of(engine, None)
        name = keep(packed, allowance_of(host)).name
        assert is_kept(name)
        found = counted(folder_of(host, name), table)
        assert (found.title, found.classes, found.counts) == ("photos", ("bad", "good"), (3, 3))
        for odd in ("zip:", "zip:" + "0" * 32, "zip:../../etc", "zip:" + name.removeprefix("zip:").upper()):
            with pytest.raises(BadRequest, match="zip is not here"):
                folder_of(host, odd)


def test_the_list_is_what_the_disk_has_now(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    with Engine(10**8) as engine:
        page = Page(host_of(engine, root), Words("en"), Sessions(tmp_path))
        folders = FolderList(page, "all of it", nothing="none", upload="my zip")
        assert folders.choices() == [("none", ""), ("all of it", "."), ("a", "a")]
        (root / "b").mkdir()
        assert folders.choices("zip:1") == [
            ("none", ""),
            ("all of it", "."),
            ("a", "a"),
            ("b", "b"),
            ("my zip", "zip:1"),
        ]
        assert folders.choices("a")[-1] == ("b", "b")
        assert FolderList(replace(page, host=host_of(engine, None)), "all of it").choices("a") == []
