"""Bad input of the commands that look, and odd input that is no error."""

from __future__ import annotations

import gc
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import anmok as library
from anmok import clips
from anmok.cli import looking
from anmok.errors import AnmokError, BadData, BadMedia, BadRequest, CannotWrite, UnknownModel, Unsupported
from anmok.inputs import Clip
from anmok.load.states import BATCH
from anmok.results import DepthMap
from command_line import contents
from scenes import film, save, scene, walk
from seeing_folder import FAKE, LOOKING, good, here_fixture, rows, run  # noqa: F401  # a fixture

# Bad input -------------------------------------------------------------------------------------------------

SEGMENT, TRACK = f"segment cat.png {FAKE}", f"track clip.mov {FAKE}"
BAD = [
    (f"{SEGMENT} --point 70,10", BadRequest, "point (70, 10) lies outside the picture of 64 x 48 pixels"),
    (f"{SEGMENT} --point -1,10", BadRequest, "point (-1, 10) lies outside"),
    (f"{SEGMENT} --point 1e3,10", BadRequest, "--point 1e3,10: want x,y, such as 120,80"),
    (f"{SEGMENT} --point nan,1", BadRequest, "--point nan,1: want x,y"),
    (f"{SEGMENT} --point {'9' * 400},1", BadRequest, "not a place in a picture"),
    (f"{SEGMENT} --point 5", BadRequest, "--point 5: want x,y"),
    (f"{SEGMENT} --point 5,5,2", BadRequest, "--point 5,5,2: want x,y"),
    (f"{SEGMENT} --point 5,5@3", BadRequest, "--point 5,5@3: objects and frames (2:...@30) are for clips"),
    (f"{SEGMENT} --box 5,5,5,9", BadRequest, "box (5.0, 5.0, 5.0, 9.0): want left, top, right, bottom with some area"),
    (f"{SEGMENT} --box 9,9,5,5", BadRequest, "with some area"),
    (f"{SEGMENT} --box 64,0,70,9", BadRequest, "lies outside the picture of 64 x 48"),
    (f"{SEGMENT} --box 1,2,3", BadRequest, "--box 1,2,3: want left,top,right,bottom"),
    (f"{SEGMENT} --box 2:1,2,3,4", BadRequest, "--box 2:1,2,3,4: objects and frames"),
    (f"{SEGMENT} --point 5,5 --box 0,0,9,9 --box 9,9,20,20", BadRequest, "points go with one box"),
    (f"{SEGMENT} --point 5,5 --labels red", BadRequest, "give one of them"),
    (f"{SEGMENT} --mask none.png", BadMedia, "none.png: no such file"),
    (f"{SEGMENT} --candidates 2", BadRequest, "candidates 2: want 1 or 3"),
    (f"{SEGMENT} --labels ''", BadRequest, "--labels '' has no label in it: --labels cat,dog"),
    (f"detect cat.png {FAKE}", BadRequest, "fake-places needs labels"),
    (f"detect cat.png --labels ' , ' {FAKE}", BadRequest, "--labels ' , ' has no label in it"),
    (f"detect cat.png --labels red,red {FAKE}", BadRequest, "labels: given twice: red"),
    (f"detect cat.png --labels red --to voc -o out {FAKE}", BadRequest, "--to voc: want coco or label-studio"),
    (f"detect cat.png --labels red --to coco {FAKE}", BadRequest, "--to needs a folder to write to: -o found"),
    (f"detect cat.png --labels red --save-crops {FAKE}", BadRequest, "--save-crops needs a folder"),
    (f"detect cat.png --labels red --threshold 2 {FAKE}", BadRequest, "threshold 2.0: must lie between 0 and 1"),
    (f"detect cat.png --labels red --nms -1 {FAKE}", BadRequest, "nms -1.0: must lie"),
    ("detect cat.png --labels red --model fake", Unsupported, "fake does not detect; it can embed, classify"),
    ("detect cat.png --labels red --model nosuch", UnknownModel, "no model is called 'nosuch'"),
    (f"detect none.png --labels red {FAKE}", BadMedia, "none.png: no such file"),
    (f"detect empty --labels red {FAKE}", BadRequest, "empty: no images there that anmok reads"),
    (f"detect photos/a.png --labels red -o photos {FAKE}", BadRequest, "-o photos holds the pictures themselves"),
    (f"detect cat.png --labels red -o cat.png {FAKE}", CannotWrite, "cat.png"),
    (f"detect cat.png --labels red -o /proc/found {FAKE}", CannotWrite, "cannot write /proc/found"),
    (f"depth cat.png --cloud obj -o out {FAKE}", BadRequest, "--cloud obj: want ply or glb"),
    (f"depth cat.png --cloud ply {FAKE}", BadRequest, "--cloud needs a folder to write to"),
    (f"depth cat.png --focal 0 {FAKE}", BadRequest, "focal_px 0.0: must lie above 0"),
    (f"pose cat.png --person 7 {FAKE}", BadRequest, "person 7.0: must lie between 0 and 1"),
    (f"pose cat.png --box 1,1,1,1 {FAKE}", BadRequest, "with some area"),
    (f"matte cat.png --save-arrays {FAKE}", BadRequest, "--save-arrays needs a folder"),
    (TRACK, BadRequest, 'say what to follow: --text "the dog"'),
    (f"{TRACK} --text ''", BadRequest, "--text '' has no label in it"),
    (f"{TRACK} --point 70,10", BadRequest, "point (70, 10) lies outside the picture of 64 x 48 pixels"),
    (f"{TRACK} --point 9,10@x", BadRequest, "--point 9,10@x: want x,y"),
    (f"{TRACK} --box 1,1,9,9 --box 2,2,8,8", BadRequest, "object 1 has a box in frame 0 already; write 2:"),
    (f"{TRACK} --box 1,1,1,9", BadRequest, "with some area"),
    (f"{TRACK} --mask ''", BadRequest, "--mask '': want a picture"),
    (f"{TRACK} --mask none.png@2", BadMedia, "none.png: no such file"),
    (f"{TRACK} --point 9,10 --fps 0", BadRequest, "fps 0.0 must lie above 0"),
    (f"{TRACK} --point 9,10 --start 2 --end 1", BadRequest, "start 2.0 and end 1.0 span no time"),
    (f"{TRACK} --point 9,10 --start 60", BadMedia, "clip.mov: no frame in it from 60 s on; it lasts 0.12 s"),
    (f"{TRACK} --point 9,10 --every 0", BadRequest, "every 0: must be at least 1 frame"),
    (f"{TRACK} --point 9,10 -o out.avi", BadRequest, "-o out.avi: clips are written as .mp4"),
    (f"{TRACK} --point 9,10 -o clip.mov", BadRequest, "-o clip.mov is the clip itself"),
    (f"{TRACK} --point 9,10 -o photos", BadRequest, "photos is a folder"),
    (f"{TRACK} --point 9,10 -o /proc/t.mp4", CannotWrite, "cannot write /proc"),
    (f"{TRACK} --point 9,10 --codec av1", BadRequest, "av1 is no codec that anmok writes; there are vp9"),
    (f"{TRACK} --point 9,10 -o t.webm --codec h264", BadRequest, "h264 does not go into a .webm file"),
    (f"track none.mp4 --point 9,10 {FAKE}", BadRequest, "none.mp4: no such file or folder"),
    (f"track cat.png --point 9,10 {FAKE}", BadMedia, "cat.png"),
    (f"track sound.wav --point 9,10 {FAKE}", BadMedia, "sound.wav"),
    (f"track nothing.mp4 --point 9,10 {FAKE}", BadMedia, "nothing.mp4"),
    (f"track empty --point 9,10 {FAKE}", BadMedia, "empty"),
    ("track clip.mov --point 9,10 --model fake", Unsupported, "fake does not track"),
    (f"label photos {FAKE}", BadRequest, "say what to label: --classes cat,dog"),
    (f"label photos --classes ' ' {FAKE}", BadRequest, "--classes ' ' has no label in it"),
    (f"label photos --classes red --to csv {FAKE}", BadRequest, "--to csv: want coco, yolo, voc"),
    (f"label photos --classes red --to voc --masks {FAKE}", BadRequest, "--to voc has no place for masks"),
    (f"label empty --classes red {FAKE}", BadRequest, "empty: no images there"),
    (f"label photos --classes red -o cat.png {FAKE}", CannotWrite, "cannot write cat.png"),
    ("label none.csv", BadData, "none.csv: cannot be read"),
]


@pytest.mark.parametrize(("line", "kind", "says"), BAD, ids=[line[:70] for line, _, _ in BAD])
def test_one_line_an_exit_code_and_nothing_left(line: str, kind: type[AnmokError], says: str, here: Path) -> None:
    film(here / "clip.mov", walk(3))
    (here / "empty").mkdir()
    (here / "nothing.mp4").write_bytes(b"")
    (here / "sound.wav").write_bytes(silence())
    before = contents(here)
    ran = run(line)
    assert ran.code == kind.exit_code, ran.err
    assert ran.out == ""
    assert len(ran.lines) == 1, ran.err
    assert ran.err.startswith("error: ")
    assert says in ran.err
    assert contents(here) == before


def silence() -> bytes:
    """A clip without a stream of video."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0" * 800)
    return buffer.getvalue()


# What is odd but no error: a defined result ----------------------------------------------------------------


def test_five_hundred_classes(here: Path) -> None:
    labels = ",".join([f"thing {i}" for i in range(498)] + ["red", "blue"])
    [row] = rows(f"detect cat.png --labels '{labels}' --model fake-grounded")
    assert [one["label"] for one in row["detections"]] == ["red", "red", "blue"]
    [cut] = rows(f"segment cat.png --labels '{labels}' --model fake-grounded")
    assert [one["label"] for one in cut["masks"]] == ["red", "red", "blue"]


def test_a_grid_of_identical_objects(here: Path) -> None:
    places = [(x, y) for y in range(2, 110, 14) for x in range(2, 150, 14)]
    image = scene(*(("red", x, y) for x, y in places), size_hw=(120, 160))
    save(here / "grid.png", image)
    assert len(places) == 88
    [row] = rows(f"detect grid.png --labels red {FAKE}")
    boxes = [one["box"] for one in row["detections"]]
    assert len(boxes) == 50  # as many as this model takes
    assert all([x1 - x0, y1 - y0] == [10, 10] for x0, y0, x1, y1 in boxes)
    assert len({tuple(box) for box in boxes}) == 50
    [pointed] = rows(f"segment grid.png --point 35,35 {FAKE}")
    assert pointed["masks"][0]["area"] == 100
    film(here / "grid.mov", [image] * 3)
    assert len(rows(f"track grid.mov --text red {FAKE} -o t.jsonl")["objects"]) == 50


def test_no_person_in_a_picture(here: Path) -> None:
    [row] = rows(f"pose photos/sub/나.png {FAKE}")
    assert row == {"image": "photos/sub/나.png", "size": [48, 64], "people": []}
    assert "nobody found" in good(f"pose photos/sub/나.png -o out --save-crops {FAKE}").out


def test_a_point_on_the_edge_counts_as_inside(here: Path) -> None:
    [row] = rows(f"segment cat.png --point 64,48 {FAKE}")
    assert row["masks"][0]["area"] == 2772


def test_a_box_that_reaches_over_the_edge_is_clipped(here: Path) -> None:
    [row] = rows(f"segment cat.png --box -20,-20,16.5,16.5 {FAKE}")
    assert row["masks"][0]["box"] == [5, 5, 15, 15]
    [row] = rows(f"pose cat.png --box -20,-20,16,16 {FAKE}")
    assert row["people"][0]["box"] == [0, 0, 16, 16]


def test_ten_seconds_of_one_pixel(here: Path) -> None:
    dots = [np.full((1, 1, 3), (255, 0, 0), np.uint8)] * 250
    film(here / "dot.mov", dots)
    got = rows(f"track dot.mov --point 0,0 {FAKE} -o dot.mp4")
    assert (got["frames"], got["objects"]) == (250, [1])
    facts = clips.probe(here / "dot.mp4")
    assert (facts.frames, facts.seconds) == (250, pytest.approx(10, abs=0.1))
    said = (here / "dot.jsonl").read_text()
    assert "NaN" not in said
    assert "Infinity" not in said


def test_a_rate_that_varies_is_kept(here: Path) -> None:
    times = [0, 40, 400, 440, 1200]
    film(here / "uneven.mov", walk(5), times)
    rows(f"track uneven.mov --point 9,10 {FAKE} -o t.mp4")
    got = [still.seconds for still in clips.frames(here / "t.mp4")]
    assert got == pytest.approx([time / 1000 for time in times], abs=1e-4)
    lines = [json.loads(line) for line in (here / "t.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines if "frame" in line] == [time / 1000 for time in times]


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 200), (200, 1), (5, 203)])
@pytest.mark.parametrize("name", LOOKING)
def test_pictures_of_any_shape_are_drawn(name: str, size_hw: tuple[int, int], here: Path) -> None:
    save(here / "odd.png", np.full((*size_hw, 3), (255, 0, 0), np.uint8))
    options = "--labels red" if name in ("detect", "point") else ""
    ran = good(f"{name} odd.png -o out {options} {FAKE}")
    assert "nan" not in ran.out.lower()
    with pillow.open(here / "out" / "odd.jpg") as drawn:
        assert drawn.size == size_hw[::-1]


@pytest.mark.parametrize("options", ["", "--json", "-o out"])
def test_one_batch_of_answers_is_in_memory(options: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of 1080p has eight megabytes."""
    add, alive = looking._Shown.add, []
    count: list[Path] = []

    def watched(shown: Any, path: Path, answer: Any) -> None:
        add(shown, path, answer)
        count.append(path)
        if len(count) % 10 == 0:  # going through all objects takes a while
            alive.append(sum(type(one) is DepthMap for one in gc.get_objects()))

    monkeypatch.setattr(looking._Shown, "add", watched)
    save(here / "a.png", scene(size_hw=(3, 4)))
    good(f"depth {'a.png ' * 70} {options} {FAKE}")
    assert len(alive) == 7
    assert max(alive) <= 2 * BATCH


def test_python_gets_the_same_errors() -> None:
    model = library.load("fake-places")
    with pytest.raises(BadMedia, match="not one frame in it can be decoded"):
        model.track(Clip([]))
    with pytest.raises(BadRequest, match="labels: one of them is empty"):
        model.detect(scene(), [" "])
    with pytest.raises(BadRequest, match="labels: give at least one"):
        model.detect(scene(), [])
