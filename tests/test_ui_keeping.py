"""Kept zips: bounded by their bytes and by the time since somebody used them; never taken from whoever uses them."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.engine import Engine
from anmok.errors import BadRequest, Closing
from anmok.ui.keeping import Bounds, Kept, keep, kept, tidy
from anmok.ui.labelling.rooms import LABELS, Rooms, Wanted, rooms_of
from anmok.ui.sources import folder_of
from anmok.ui.unpacking import Allowance
from ui_page import host_of, zip_of

ALLOWED = Allowance(1000, 2**20, 2**24)
DAY = 24 * 3600.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "labelling"


def packed(folder: Path, seed: int, count: int = 4) -> Path:
    """A zip of noise, which has the same bytes for each seed but for their order."""
    photos = folder / f"photos{seed}"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pillow.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(photos / f"{number}.bmp")
    return zip_of(photos, folder / f"{seed}.zip")


def weight(found: Kept) -> int:
    return sum(file.stat().st_size for file in found.photos.rglob("*") if file.is_file())


def aged(found: Kept, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(found.folder / "in-use", (moment, moment))


def is_here(name: str) -> bool:
    try:
        kept(name)
    except BadRequest:
        return False
    return True


def photos_in(cache: Path) -> int:
    return sum((folder / "photos").is_dir() for folder in cache.iterdir())


def test_the_longest_unused_gives_way_and_its_labels_stay(tmp_path: Path, cache: Path) -> None:
    first = keep(packed(tmp_path, 1), ALLOWED)
    size, bounds = weight(first), Bounds(all_bytes=weight(first) * 5 // 2)
    assert (first.folder / "in-use").read_text() == str(size)
    (first.folder / "labels").mkdir()
    (first.folder / "labels" / "strokes.jsonl").write_text("{}\n")
    aged(first, 2)
    name, folder = first.name, first.folder
    second = keep(packed(tmp_path, 2), ALLOWED, bounds)
    aged(second, 1)
    others = [second.name]
    del first, second
    assert photos_in(cache) == 2  # there is room for two
    others.append(keep(packed(tmp_path, 3), ALLOWED, bounds).name)
    with pytest.raises(BadRequest, match="send it again"):
        kept(name)
    assert all(is_here(one) for one in others)
    assert (folder / "labels" / "strokes.jsonl").read_text() == "{}\n"
    assert sorted(one.name for one in folder.iterdir()) == ["in-use", "labels"]
    again = keep(tmp_path / "1.zip", ALLOWED)
    assert (again.name, again.folder) == (name, folder)
    assert len(list(again.photos.rglob("*.bmp"))) == 4
    assert (folder / "labels" / "strokes.jsonl").is_file()


def test_what_nobody_asks_for_in_a_month_goes(tmp_path: Path, cache: Path) -> None:
    names = []
    for seed, days in ((1, 29), (2, 31)):
        found = keep(packed(tmp_path, seed), ALLOWED)
        aged(found, days)
        names.append(found.name)
        del found
    tidy()
    assert [is_here(name) for name in names] == [True, False]
    tidy(Bounds(seconds=0.0))  # asking for it was using it: a moment ago
    assert photos_in(cache) == 0


def test_to_ask_for_it_is_to_use_it(tmp_path: Path, cache: Path) -> None:
    found = keep(packed(tmp_path, 1), ALLOWED)
    aged(found, 40)
    name = found.name
    del found
    assert is_here(name)
    tidy()
    assert is_here(name)


def test_what_is_held_stays_whatever_the_bounds(tmp_path: Path, cache: Path) -> None:
    found = keep(packed(tmp_path, 1), ALLOWED)
    aged(found, 400)
    tidy(Bounds(0, 0.0))
    assert len(list(found.photos.rglob("*.bmp"))) == 4
    name = found.name
    with Engine(10**8) as engine:
        source = folder_of(host_of(engine, None), name)
        del found
        tidy(Bounds(0, 0.0))
        assert len(list(source.folder.rglob("*.bmp"))) == 4
        del source
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of what other tests have left open
            gc.collect()
        tidy(Bounds(0, 0.0))
        assert not is_here(name)


def test_a_labelling_session_holds_its_photos(tmp_path: Path, cache: Path) -> None:
    with Engine(10**8) as engine:
        rooms = Rooms(host_of(engine, None))
        name = rooms.places.take(packed(tmp_path, 1)).name
        room = rooms.open(Wanted(name, LABELS, ("a", "b"), ""))
        tidy(Bounds(0, 0.0))
        assert room.place.photos.is_dir()
        rooms.close()
        del room
        tidy(Bounds(0, 0.0))
        assert not is_here(name)


def test_labelling_ends_with_its_engine(tmp_path: Path, cache: Path) -> None:
    before = set(threading.enumerate())
    with Engine(10**8) as engine:
        host = host_of(engine, None)
        rooms = rooms_of(host)
        assert rooms_of(host) is rooms
        name = rooms.places.take(packed(tmp_path, 1)).name
        room = rooms.open(Wanted(name, LABELS, ("a", "b"), ""))
        next(rooms.pictures.get(one) for one in room.place.photos.rglob("*.bmp"))
        assert any(one.name.startswith("anmok-pictures") for one in set(threading.enumerate()) - before)
    assert rooms.find(room.id) is None
    with pytest.raises(Closing):
        rooms.open(Wanted(name, LABELS, ("a", "b"), ""))
    with pytest.raises(Closing):
        rooms.pictures.get(next(room.place.photos.rglob("*.bmp")))
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("anmok") and one.is_alive()]
    with pytest.raises(Closing):
        rooms_of(host)


def test_another_process_that_uses_it_keeps_it(tmp_path: Path, cache: Path) -> None:
    name = keep(packed(tmp_path, 1), ALLOWED).name
    code = (
        "import sys\nfrom anmok.ui.keeping import kept\nfound = kept(sys.argv[1])\nprint('held', flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        tidy(Bounds(0, 0.0))
        assert photos_in(cache) == 1
        other.communicate("\n")
    tidy(Bounds(0, 0.0))
    assert photos_in(cache) == 0


def test_what_a_killed_process_left_on_its_way_out_is_taken_away(tmp_path: Path, cache: Path) -> None:
    found = keep(packed(tmp_path, 1), ALLOWED)
    left = found.folder / "gone-12ab34cd"
    left.mkdir()
    (left / "0.bmp").write_bytes(b"x")
    tidy()
    assert not left.exists()
    assert found.photos.is_dir()


def test_what_a_killed_process_left_half_unpacked_is_taken_away_in_time(tmp_path: Path, cache: Path) -> None:
    found = keep(packed(tmp_path, 1), ALLOWED)
    old, young = (found.folder / f".photos.{name}.part" for name in ("00aa", "11bb"))
    for left, days in ((old, 4), (young, 2)):  # somebody may be writing the second one yet
        left.mkdir()
        (left / "0.bmp").write_bytes(b"x")
        os.utime(left, (time.time() - days * DAY,) * 2)
    tidy()
    assert [old.exists(), young.exists(), found.photos.is_dir()] == [False, True, True]


def test_those_who_keep_and_those_who_tidy_at_once_never_meet(tmp_path: Path, cache: Path) -> None:
    """Whoever holds a zip finds all of its photos, however often others make room."""
    archives = [packed(tmp_path, seed) for seed in range(3)]
    ends = time.monotonic() + 1.5
    missing: list[int] = []
    rounds: list[int] = []

    def use(archive: Path) -> None:
        while time.monotonic() < ends:
            found = keep(archive, ALLOWED, Bounds(0, 0.0))
            count = len(list(found.photos.rglob("*.bmp")))
            (missing if count != 4 else rounds).append(count)
            with contextlib.suppress(BadRequest):
                again = kept(found.name)
                assert again.photos.is_dir()

    users = [threading.Thread(target=use, args=(archive,)) for archive in archives for _ in range(2)]
    for one in users:
        one.start()
    for one in users:
        one.join()
    assert missing == []
    assert len(rounds) > 12
