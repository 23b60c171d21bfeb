"""What the Label tab keeps: strokes over a kill, folders, zips and pictures."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.errors import BadData, BadMedia, BadRequest, CannotWrite, Closing
from anmok.labelling import BoxSession, LabelSession
from anmok.labelling.box_book import Box
from anmok.load import tiny
from anmok.ui.labelling.pictures import SIDE, Pictures
from anmok.ui.labelling.places import Places
from anmok.ui.labelling.taking import Said, Taker
from anmok.ui.unpacking import Allowance
from conftest import write_photos
from labelled_page import root_fixture, zipped  # noqa: F401  # a fixture
from serving import png, scene

# Gradio asks pandas in ways that pandas has given up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
MIB = 2**20


# --- strokes that were sent to a server that is no more ---------------------------------------------------------


def answers(session: LabelSession, count: int) -> list[Said]:
    return [
        Said(i + 1, "answer", task.id, "red", round(1 + i / 8, 3)) for i, task in enumerate(session.next(count, by="a"))
    ]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LabelSession]:
    photos = write_photos(tmp_path / "photos", 12, ("red", "blue"))
    with LabelSession.open(photos, ("red", "blue"), store=tmp_path / "store", model=None) as found:
        yield found


def taker(session: LabelSession, tmp_path: Path) -> Taker:
    return Taker(session, tmp_path / "store" / "strokes.jsonl", tmp_path / "photos")


def stood(tmp_path: Path) -> list[str]:
    text = (tmp_path / "store" / "strokes.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["do"] for line in text.splitlines()[1:]]


def test_after_a_kill_only_what_is_missing_is_taken(session: LabelSession, tmp_path: Path) -> None:
    strokes = answers(session, 5)
    taker(session, tmp_path).write("a", "c", strokes[:3])
    # Two were answered for; the third was written, and the server killed before it could say so.
    written = taker(session, tmp_path).write("a", "c", strokes[2:], before=strokes[:2])
    assert (written.number, written.refused) == (5, [])
    assert stood(tmp_path) == ["answer"] * 5


def test_an_undo_is_not_repeated_by_a_kill(session: LabelSession, tmp_path: Path) -> None:
    strokes = [*answers(session, 3)]
    undo = Said(4, "undo", strokes[2].image)
    taker(session, tmp_path).write("a", "c", [*strokes, undo])
    taker(session, tmp_path).write("a", "c", [undo], before=strokes)
    assert stood(tmp_path) == ["answer"] * 3 + ["undo"]
    again = Said(5, "undo", strokes[1].image)  # another one, which never arrived
    taker(session, tmp_path).write("a", "c", [again], before=[*strokes, undo])
    assert stood(tmp_path) == ["answer"] * 3 + ["undo"] * 2
    assert session.next(1, by="a")[0].id == strokes[1].image


def test_strokes_that_never_arrived_are_all_taken(session: LabelSession, tmp_path: Path) -> None:
    strokes = answers(session, 4)
    written = taker(session, tmp_path).write("a", "c", strokes, before=[])
    assert (written.number, stood(tmp_path)) == (4, ["answer"] * 4)


def test_a_drawn_box_keeps_its_name_over_a_kill(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(scene({"red": (10, 10, 40, 40)})))
    with BoxSession.open(tmp_path / "photos", ("red",), store=tmp_path / "store", model=tiny("fake-places")) as session:
        assert session.settled(30)
        [task] = session.next(by="a")
        file = tmp_path / "store" / "boxes.jsonl"
        drawn = Said(1, "add", task.id, seconds=1.5, xyxy=(1, 1, 9, 9), label="red")
        Taker(session, file, tmp_path / "photos").write("a", "c", [drawn])
        moved = Said(2, "move", task.id, seconds=0.5, box="n1", xyxy=(2, 2, 9, 9), label="red")
        written = Taker(session, file, tmp_path / "photos").write("a", "c", [drawn, moved], before=[])
        assert (written.number, written.named, written.refused) == (2, {"n1": "a0"}, [])
        [back] = session.next(by="a")
    assert [box.id for box in back.boxes] == ["p0", "a0"]
    last: Box = back.boxes[-1]
    assert last.xyxy == (2, 2, 9, 9)


def test_a_full_disk_leaves_the_rest_with_the_page(
    session: LabelSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strokes, found = answers(session, 3), taker(session, tmp_path)
    found.write("a", "c", strokes[:1])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(CannotWrite):
            found.write("a", "c", strokes)
    assert found.write("a", "c", strokes).number == 3
    assert stood(tmp_path) == ["answer"] * 3


# --- folders and zips -------------------------------------------------------------------------------------------

LET = Allowance(1000, MIB, 4 * MIB)


def test_folders_below_the_root_and_no_others(root: Path, tmp_path: Path) -> None:
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "root" / "out").symlink_to(root)
    places = Places(tmp_path / "root", LET)
    assert (places.find("in").photos, places.find("in").called) == (tmp_path / "root" / "in", "root/in")
    assert places.find(".").called == "root"
    for odd in ("out", "out/photos", "..", "in/../..", str(root), "", "in\0", "nowhere"):
        with pytest.raises(BadRequest):
            places.find(odd)
    with pytest.raises(BadRequest, match="zip"):
        Places(None, LET).find("in")


def test_the_same_zip_is_the_same_place(tmp_path: Path) -> None:
    picture = png(scene({"red": (1, 1, 9, 9)}))
    file = zipped(tmp_path / "a.zip", {"photos/1.png": picture, "photos/2.png": picture, "notes.txt": b"x"})
    places = Places(None, LET)
    place = places.take(file)
    assert re.fullmatch(r"zip:[0-9a-f]{32}", place.name)
    assert sorted(path.name for path in place.photos.rglob("*.*")) == ["1.png", "2.png"]
    store = place.store(("labels", "a", "b"))
    with LabelSession.open(place.photos, ("a", "b"), store=store, model=None) as session:
        session.answer(session.next()[0], "a")
    assert places.take(file) == place
    assert places.find(place.name).begun("labels") == [("a", "b")]


@pytest.mark.parametrize("name", ["../1.png", "/1.png", "a/../../1.png"])
def test_a_zip_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData):
        Places(None, LET).take(zipped(tmp_path / "a.zip", {name: b"x"}))


# --- pictures ---------------------------------------------------------------------------------------------------


def test_pictures_are_as_large_as_a_screen_and_say_nothing_of_the_camera(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    exif = pillow.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    exif[0x0110] = "camera"
    pillow.fromarray(noise).resize((3000, 1500)).save(tmp_path / "large.jpg", exif=exif)
    pictures = Pictures()
    picture = pictures.get(tmp_path / "large.jpg")
    assert picture.size == (1500, 3000)
    smaller = pillow.open(io.BytesIO(picture.data))
    assert (smaller.size, picture.kind, dict(smaller.getexif())) == ((SIDE // 2, SIDE), "image/jpeg", {})
    (tmp_path / "no.png").write_bytes(b"no")
    with pytest.raises(BadMedia, match="no.png") as told:
        pictures.get(tmp_path / "no.png")
    assert str(tmp_path) not in str(told.value)
    pictures.close()


def test_whoever_asks_for_a_picture_while_they_end_is_told_so(tmp_path: Path) -> None:
    """And holds up nobody: a pool calls back whoever is cancelled, with its own lock held."""
    for i in range(100):
        pillow.new("RGB", (64, 64)).save(tmp_path / f"{i}.bmp")
    files = sorted(tmp_path.iterdir())

    def ask(pictures: Pictures, told: list[str]) -> None:
        try:
            pictures.ahead(files)
            told.append(pictures.get(files[-1]).kind)
        except Closing as error:
            told.append(str(error))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(10):
            pictures, told = Pictures(), list[str]()
            askers = [threading.Thread(target=ask, args=(pictures, told), daemon=True) for _ in range(3)]
            ending = threading.Thread(target=pictures.close, daemon=True)
            for one in (*askers, ending):
                one.start()
                time.sleep(0.001)
            for one in (*askers, ending):
                one.join(20)
                assert not one.is_alive()
            assert len(told) == 3
            assert set(told) <= {"the server is shutting down", "image/png"}
    finally:
        sys.setswitchinterval(interval)


def test_pictures_in_memory_have_a_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        pillow.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"{i}.png")
    pictures = Pictures(kept=40_000)  # noise takes 12,3 kB each
    for i in range(12):
        pictures.get(tmp_path / f"{i}.png")
    assert len(pictures._made) <= 3
    assert pictures._bytes <= 40_000
    pictures.close()
