"""Image search: exact ranks, one look per photo, and the command."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import anmok
from anmok import features, index
from anmok.engine import Engine
from anmok.errors import BadData, BadMedia, BadRequest, Busy, TooMuch, Unsupported, Untranslatable
from anmok.index import Index, Served, building, by_photo, by_words
from anmok.ladder.features import look
from anmok.load import Model, tiny
from anmok.tasks import Embed
from command_line import anmok as command
from command_line import answered, stand

DATA = Path(os.environ.get("ANMOK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="module")
def model() -> Model:
    return anmok.load("fake")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand(tmp_path, monkeypatch)


def plain(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("RGB", (20, 16), colour).save(path)
    return path


def folder(root: Path) -> Path:
    """From red to blue in five steps, and a green one below."""
    for step in range(5):
        share = step / 4
        plain(root / f"{step}.png", (round(255 * (1 - share)), 0, round(255 * share)))
    plain(root / "deep" / "green.png", (0, 255, 0))
    return root


# Searching


def test_ranks_and_cosines_are_those_of_a_whole_sort() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[700] = rows[41]  # an equal: the first of the two goes first
    found = Index(tuple(Path(f"{i:04d}.jpg") for i in range(3000)), rows, "m")
    query = rows[41] + 0.1 * rng.normal(size=16).astype(np.float32)
    exact = rows.astype(np.float64) @ query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    hits = found.search(query, 50)
    assert [hit.path.name for hit in hits[:2]] == ["0041.jpg", "0700.jpg"]
    assert [int(hit.path.stem) for hit in hits] == np.argsort(-exact.astype(np.float32), kind="stable")[:50].tolist()
    assert [hit.cosine for hit in hits] == pytest.approx(np.sort(exact)[::-1][:50].tolist(), abs=1e-6)


def test_equals_at_the_border_keep_their_order_and_all_are_given_where_more_are_asked_for() -> None:
    rows = np.tile(np.asarray([[1.0, 0.0]], np.float32), (6, 1))
    rows[4] = [0.0, 1.0]
    found = Index(tuple(Path(str(i)) for i in range(6)), rows, "m")
    assert [hit.path.name for hit in found.search(np.asarray([1.0, 0.0], np.float32), 3)] == ["0", "1", "2"]
    everything = found.search(np.asarray([3.0, 0.0], np.float32), 99)
    assert [hit.path.name for hit in everything] == ["0", "1", "2", "3", "5", "4"]
    assert [hit.cosine for hit in everything] == [1.0] * 5 + [0.0]


@pytest.mark.parametrize(("vector", "count"), [(np.zeros(3), 1), (np.zeros((2, 1)), 1), (np.zeros(2), 0)])
def test_a_question_that_does_not_fit_is_refused(vector: Any, count: int) -> None:
    found = Index((Path("a"),), np.asarray([[1.0, 0.0]], np.float32), "m")
    with pytest.raises(BadRequest, match="vector|count"):
        found.search(vector, count)


# Building


def test_words_and_photos_find_what_they_name(here: Path, model: Model) -> None:
    photos = index.build(folder(here / "photos"), model)
    assert len(photos) == photos.computed == 6
    assert photos.maker == model.maker
    by_red = photos.search(by_words(model, "something red"), 6)
    # Mean colours in [-1, 1]: pure red is (1, -1, -1), the next ones turn to (-1, -1, 1).
    assert [hit.path.name for hit in by_red] == ["0.png", "1.png", "2.png", "3.png", "4.png", "green.png"]
    cosines = [hit.cosine for hit in by_red]
    assert cosines[0] == pytest.approx(1.0, abs=1e-6)
    assert cosines[-1] == pytest.approx(-1 / 3, abs=1e-6)
    like_blue = photos.search(by_photo(model, plain(here / "query.png", (10, 10, 240))), 1)
    assert [hit.path.name for hit in like_blue] == ["4.png"]


def test_each_photo_is_looked_at_once_whatever_it_is_called(here: Path, model: Model) -> None:
    root = folder(here / "photos")
    assert index.build(root, model).computed == 6
    told: list[tuple[int, int]] = []
    again = index.build(root, model, progress=lambda done, total: told.append((done, total)))
    assert (again.computed, told) == (0, [(6, 6)])
    (root / "0.png").rename(root / "renamed.png")
    (root / "copy.png").write_bytes((root / "1.png").read_bytes())
    moved = index.build(root, model)
    assert (len(moved), moved.computed) == (7, 0)
    plain(root / "1.png", (0, 200, 0))  # the same name with another content
    changed = index.build(root, model)
    assert changed.computed == 1
    [best] = changed.search(by_photo(model, root / "1.png"), 1)
    assert best.path.name == "1.png"


def test_what_is_known_is_not_read_again(here: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(here / "photos")
    before = index.build(root, model).rows
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (read.append(self), original(self))[1])
    after = index.build(root, model).rows
    assert read == []
    assert np.array_equal(before, after)


def test_rows_are_what_the_model_says_of_each(here: Path, model: Model) -> None:
    photos = index.build(folder(here / "photos"), model)
    alone = np.stack([one.vector for one in model.run(list(photos.paths), Embed())])
    assert np.abs(photos.rows - alone).max() < 1e-6
    assert np.linalg.norm(photos.rows, axis=1) == pytest.approx(np.ones(6), abs=1e-6)


def test_one_cache_for_the_ladder_and_the_index(here: Path, model: Model) -> None:
    root = folder(here / "photos")
    looked = look(sorted(root.rglob("*.png")), model)
    index.build(root, model)
    assert sorted(path.name for path in (here.parent / "cache").glob("*.sqlite")) == [features.NAME]
    assert look(sorted(root.rglob("*.png")), model).computed == 0
    assert looked.features.shape == (6, 48)


def test_a_cache_of_an_earlier_version_is_read(here: Path, model: Model) -> None:
    """Before there was an index the file had two tables; what stands in them is taken as it is."""
    [red] = [plain(here / "photos" / "red.png", (255, 0, 0))]
    path = here.parent / "cache" / features.NAME
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE features (image TEXT, maker TEXT, view TEXT, vector BLOB, PRIMARY KEY (image, maker, view)) "
            "WITHOUT ROWID"
        )
        old.execute("CREATE TABLE facts (image TEXT PRIMARY KEY, facts TEXT, dhash TEXT) WITHOUT ROWID")
    old.close()
    fresh = look([red], model)
    with sqlite3.connect(path) as again:
        assert again.execute("SELECT count(*) FROM features").fetchone() == (1,)
    again.close()
    assert fresh.computed == 1
    kept = look([red], model)
    assert kept.computed == 0
    assert np.array_equal(kept.features, fresh.features)
    assert kept.facts == fresh.facts


def test_what_cannot_be_read_is_told_and_the_rest_is_found(here: Path, model: Model) -> None:
    root = folder(here / "photos")
    (root / "broken.jpg").write_bytes(b"no picture")
    photos = index.build(root, model)
    assert len(photos) == 6
    [failure] = photos.failures
    assert failure.source == str(root / "broken.jpg")
    assert str(failure.error).startswith("broken.jpg: ")
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(BadMedia, match=r"^broken\.jpg: "):
        index.build(root, model)


def test_what_is_no_folder_of_photos_is_refused(here: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadData, match="no such folder"):
        index.build(here / "nowhere", model)
    (here / "empty").mkdir()
    with pytest.raises(BadData, match="no photos"):
        index.build(here / "empty", model)
    monkeypatch.setattr(building, "MOST", 5)
    with pytest.raises(TooMuch, match="6 photos; search compares up to 5"):
        index.build(folder(here / "photos"), model)


def test_a_stop_keeps_what_was_seen(here: Path, model: Model) -> None:
    root = here / "many"
    for number in range(130):
        plain(root / f"{number:03d}.png", (number, 255 - number, 7))

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 64:
            raise Enough

    with pytest.raises(Enough):
        index.build(root, model, progress=stop)
    assert index.build(root, model).computed == 130 - 64


def test_fifty_thousand_rows_are_compared_exactly() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(building.MOST, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = Index(tuple(Path(str(i)) for i in range(len(rows))), rows, "m")
    for place in (0, 12_345, building.MOST - 1):
        [best] = found.search(rows[place], 1)
        assert (best.path.name, best.cosine) == (str(place), pytest.approx(1.0, abs=1e-6))


# Asking


def test_korean_is_read_through_the_tables_where_the_model_reads_english() -> None:
    english = tiny("mini")
    same = by_words(english, "빨간 자동차"), by_words(english, "red car")
    assert np.array_equal(*same)
    assert np.abs(same[0] - by_words(english, "blue car")).max() > 1e-3
    with pytest.raises(Untranslatable, match="꽹과리"):
        by_words(english, "꽹과리")


def test_who_reads_no_words_says_so(model: Model) -> None:
    with pytest.raises(Unsupported, match="dinov2-s14 reads no words"):
        by_words(tiny("dinov2-s14"), "a red car")
    for text in (" ", "a" * 2001):
        with pytest.raises(BadRequest, match="want 1 to 2,000 letters"):
            by_words(model, text)


def test_through_an_engine_the_rows_are_the_same(here: Path, model: Model) -> None:
    root = folder(here / "photos")
    with Engine(2**30) as engine:
        served = Served(engine, "fake", model.card, priority=-5)
        assert served.maker == model.maker
        through = index.build(root, served)
        assert by_words(served, "blue") == pytest.approx(by_words(model, "blue"))
    assert through.computed == 6
    assert index.build(root, model).computed == 0
    assert np.array_equal(through.rows, index.build(root, model).rows)


def test_a_full_queue_is_waited_for(here: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(here / "photos")
    with Engine(2**30) as engine:
        run: Callable[..., Any] = engine.run
        tries: list[int] = []

        def busy(*given: Any, **named: Any) -> Any:
            tries.append(len(given[1]))
            if len(tries) < 3:
                raise Busy("the queue is full; come back in 0.01 s", 0.01)
            return run(*given, **named)

        monkeypatch.setattr(engine, "run", busy)
        assert len(index.build(root, Served(engine, "fake", model.card))) == 6
    assert tries == [6, 6, 6]


# The command


def test_the_command_says_what_fits_best(here: Path) -> None:
    folder(here / "photos")
    (here / "photos" / "broken.png").write_bytes(b"none")
    ran = command("search", "photos", "blue", "-n", "2", "--model", "fake")
    assert ran.code == 0
    # (-0.498, -1, 0.498), as the second one is in [-1, 1], against (-1, -1, 1): 1.996 / (1.223 * 1.732).
    assert [line.split() for line in ran.out.splitlines()] == [["1.000", "photos/4.png"], ["0.942", "photos/3.png"]]
    assert ran.lines[0].startswith("warning: broken.png: ")
    assert ran.lines[1] == "note: the best 2 of 6 photos; 6 of them were looked at now"
    found = answered("search", "photos", "--image", "photos/deep/green.png", "--count", "1", "--model", "fake")
    assert found == [{"image": "photos/deep/green.png", "cosine": pytest.approx(1.0, abs=1e-6)}]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("photos",), 2, "say what to look for"),
        (("photos", "red", "--image", "photos/0.png"), 2, "say what to look for"),
        (("photos", "red", "--count", "0"), 2, "--count 0"),
        (("nowhere", "red"), 3, "no such folder"),
        (("photos", "--image", "none.png"), 3, "no such file"),
        (("photos", "red", "--model", "nobody"), 4, "nobody"),
    ],
)
def test_the_command_refuses_in_one_line(here: Path, words: tuple[str, ...], code: int, said: str) -> None:
    folder(here / "photos")
    ran = command("search", *words, *(() if "--model" in words else ("--model", "fake")))
    assert (ran.code, ran.out) == (code, "")
    assert len(ran.lines) == 1
    assert said in ran.lines[0]


@pytest.mark.data
@pytest.mark.weights
def test_mini_finds_clothes_by_word_and_by_photo() -> None:
    """Of the best ten photos of a class among ten: how many are right, where chance has one. Measured: shoes 7, hat 6,
    pants 8, dress 4."""
    model = anmok.load("mini")
    photos = index.build(DATA / "clothing_small" / "validation", model)
    right = {}
    for word in ("shoes", "hat", "pants", "dress"):
        hits = photos.search(by_words(model, word), 10)
        right[word] = sum(hit.path.parent.name == word for hit in hits)
    assert sum(right.values()) >= 23, right
    assert min(right.values()) >= 3, right
