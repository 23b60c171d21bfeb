"""The commands that see, as they are typed, with the models that need no weights; and what they get that is bad."""

from __future__ import annotations

import gc
import io
import json
import shlex
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from typer.main import get_command

import anmok as library
from anmok import clips
from anmok.cli import app, looking
from anmok.errors import AnmokError, BadData, BadMedia, BadRequest, CannotWrite, UnknownModel, Unsupported
from anmok.inputs import Clip
from anmok.load import tiny
from anmok.load.states import BATCH
from anmok.results import DepthMap
from anmok.tasks import Depth, Detect, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment
from command_line import Ran, anmok, answered, contents, fine, stand
from scenes import film, save, scene, walk

COMMANDS: dict[str, Any] = vars(get_command(app))["commands"]
LOOKING = ("detect", "point", "segment", "depth", "pose", "gaze", "parse", "normals", "matte")
ALL = (*LOOKING, "track", "label")
FAKE = "--model fake-places"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``cat.png`` with two red squares and a blue one, and ``photos/`` with two pictures and one that is none."""
    folder = stand(tmp_path, monkeypatch)
    save(folder / "cat.png", scene(("red", 5, 5), ("blue", 40, 30), ("red", 30, 4)))
    save(folder / "photos" / "a.png", scene(("red", 20, 20)))
    save(folder / "photos" / "sub" / "나.png", scene())
    return folder


def run(line: str) -> Ran:
    return anmok(*shlex.split(line))


def good(line: str) -> Ran:
    return fine(*shlex.split(line))


def rows(line: str) -> Any:
    return answered(*shlex.split(line))


# Help ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_help_has_an_example_and_fits_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = fine(name, "--help").out
    assert f"Example: anmok {name} " in " ".join(text.split())
    assert [line for line in text.splitlines() if len(line) > 100] == []
    assert "…" not in text  # nothing cut off
    undocumented = [one.name for one in COMMANDS[name].params if not one.help]
    assert undocumented == []


@pytest.mark.parametrize("name", ALL)
def test_the_usual_model_is_there_and_can_do_it(name: str) -> None:
    [model] = [one.default for one in COMMANDS[name].params if one.name == "model"]
    unsaid = {
        "segment": {looking.POINTED: "segment", looking.GROUNDED: "segment"},
        "track": {looking.POINTED: "track", looking.GROUNDED: "track"},
        "label": {looking.FOUND: "detect", looking.GROUNDED: "segment"},
    }
    for one, task in unsaid.get(name, {model: name}).items():
        assert task in library.card(one).tasks


# What is printed -------------------------------------------------------------------------------------------

PRINTED = [
    ("detect", "--labels red,blue", "2 red, 1 blue"),
    ("detect", "--labels '빨강 red'", "2 빨강 red"),
    ("detect", "--labels yellow", "nothing found"),
    ("point", "--labels red,blue", "2 red, 1 blue"),
    ("point", "--labels yellow", "nothing found"),
    ("segment", "", "4 masks: 2,772 px, 100 px, 100 px, 100 px"),
    ("segment", "--labels blue", "1 blue"),
    ("segment", "--point 45,35", "1 mask: 100 px"),
    ("segment", "--point 45,35 --point 1,1,0", "1 mask: 100 px"),
    ("segment", "--box 39,29,51,41 --box 4,4,16,16", "2 masks: 100 px, 100 px"),
    ("segment", "--point 45,35 --candidates 3", "3 masks: 100 px, 140 px, 3,072 px"),
    ("depth", "", "5.48 to 7.00 m"),
    ("pose", "", "2 people, joints seen: 5, 5 of 5"),
    ("pose", "--box 5,5,15,15", "1 person, joints seen: 5 of 5"),
    ("gaze", "", "2 people, looking at: 45,35; 45,35"),
    ("gaze", "--point 2,3", "1 person, looking at: 45,35"),
    ("gaze", "--box 5,5,15,15 --box 20,20,60,40", "2 people, looking at: 45,35; 45,35"),
    ("parse", "", "grey 90.2%, red 6.5%, blue 3.3%"),
    ("normals", "", "mean direction right"),
    ("matte", "", "9.8% of the picture stands in front"),
]


@pytest.mark.parametrize(("name", "options", "says"), PRINTED)
def test_a_line_per_picture(name: str, options: str, says: str, here: Path) -> None:
    ran = good(f"{name} cat.png {options} {FAKE}")
    [line] = ran.out.splitlines()
    assert line.startswith(f"cat.png  {says}")
    assert ran.err == ""


ASKS = {
    "detect --labels red,blue --threshold 0.1 --nms 0.9": Detect(("red", "blue"), threshold=0.1, nms=0.9),
    "point --labels red,blue --threshold 0.1": Pointing(("red", "blue"), threshold=0.1),
    "segment --labels 고양이,red": Segment(("고양이", "red")),
    "segment": Segment(),
    "depth": Depth(),
    "pose --threshold 0.5": Pose(0.5),
    "gaze --face 0.9": Gaze(0.9),
    "parse": Parse(),
    "normals": Normals(),
    "matte": Matting(),
}


@pytest.mark.parametrize("line", ASKS)
def test_json_is_what_python_says(line: str, here: Path) -> None:
    name, _, options = line.partition(" ")
    got = rows(f"{name} cat.png photos {options} {FAKE}")
    paths = ["cat.png", "photos/a.png", "photos/sub/나.png"]
    answers: list[Any] = tiny("fake-places").run([here / path for path in paths], ASKS[line])
    assert got == [{"image": path, **one.to_dict()} for path, one in zip(paths, answers, strict=True)]


KEPT = {
    "detect --labels red,blue --save-crops --to coco --to label-studio": [
        *("coco.json", "crops/blue/cat-2.png", "crops/red/a-0.png", "crops/red/cat-0.png", "crops/red/cat-1.png"),
        *("label-studio.json", "label-studio.xml"),
    ],
    "segment --point 25,25 --save-crops --to coco": [
        *("coco.json", "crops/object/a-0.png", "crops/object/cat-0.png", "crops/object/나-0.png")
    ],
    "depth --cloud glb --save-arrays": [f"{name}.{kind}" for name in ("a", "cat", "나") for kind in ("glb", "npy")],
    "pose --save-crops": ["crops/person/a-0.png", "crops/person/cat-0.png", "crops/person/cat-1.png"],
    "point --labels red,blue": [],
    "gaze": [],
    "parse --save-arrays": ["a.npy", "cat.npy", "나.npy"],
    "normals": [],
    "matte --save-arrays": ["a.npy", "cat.npy", "나.npy"],
}


@pytest.mark.parametrize("line", KEPT)
def test_a_folder_gets_pictures_lines_and_what_was_asked_for(line: str, here: Path) -> None:
    name, _, options = line.partition(" ")
    ran = good(f"{name} cat.png photos -o out/found {options} {FAKE}")
    assert ran.err == "note: pictures and results are in out/found\n"
    assert len(ran.out.splitlines()) == 3
    out = here / "out" / "found"
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    always = ["a.jpg", "cat.jpg", "results.jsonl", "sheet.jpg", "나.jpg"]
    assert files == sorted([*always, *KEPT[line]])
    written = [json.loads(text) for text in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["image"] for row in written] == ["cat.png", "photos/a.png", "photos/sub/나.png"]
    for row, told in zip(written, rows(f"{name} cat.png photos -o again {options} {FAKE}"), strict=True):
        row.pop("array", None)
        assert row == {key: value for key, value in told.items() if key in row}
        assert set(told) - set(row) <= {"depth", "normals", "alpha"}  # maps are for stdout or a file of their own


def test_a_first_guess_is_a_picture(here: Path) -> None:
    guess = np.zeros((48, 64, 3), np.uint8)
    guess[10:20, 10:30] = 255
    save(here / "guess.png", guess)
    [row] = rows(f"segment cat.png --mask guess.png {FAKE}")
    assert row["masks"][0]["box"] == [10, 10, 30, 20]
    save(here / "small.png", guess[:9])
    assert (
        run(f"segment cat.png --mask small.png {FAKE}").err == "error: mask of size (9, 64): the picture has (48, 64)\n"
    )


def test_a_second_run_does_not_look_at_what_the_first_one_wrote(here: Path) -> None:
    for _ in range(2):
        ran = good(f"detect . --labels red -o found {FAKE}")
        assert [line.split()[0] for line in ran.out.splitlines()] == ["cat.png", "photos/a.png", "photos/sub/나.png"]
    good(f"label . --classes red -o found/labels {FAKE}")
    again = rows(f"label . --classes red -o found {FAKE}")
    assert again["pictures"] == 3


# Bad pictures among good ones ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOKING)
def test_a_bad_picture_does_not_stop_the_rest(name: str, here: Path) -> None:
    (here / "bad.png").write_bytes(b"no")
    options = "--labels red" if name in ("detect", "point") else ""
    line = f"{name} bad.png cat.png none.png {options} {FAKE}"
    ran = good(f"{line} -o out")
    assert [said.split(":")[:2] for said in ran.lines[:2]] == [["warning", " bad.png"], ["warning", " none.png"]]
    assert [said.split()[0] for said in ran.out.splitlines()] == ["cat.png"]
    assert len((here / "out" / "results.jsonl").read_text().splitlines()) == 1
    told = run(f"{line} --json")
    assert [row.get("error") for row in json.loads(told.out)] == ["BadMedia", None, "BadMedia"]
    assert told.code == 0


def test_where_all_are_bad_stdout_stays_empty(here: Path) -> None:
    for option in ("", "--json"):
        alone, both = run(f"depth bad.png {option} {FAKE}"), run(f"depth bad.png worse.png {option} {FAKE}")
        assert (alone.code, alone.out, alone.err) == (3, "", "error: bad.png: no such file\n")
        assert (both.code, both.out, both.err) == (3, "", "error: none of 2 images: bad.png: no such file\n")


# Track -----------------------------------------------------------------------------------------------------


def test_track_writes_a_video_and_its_lines(here: Path) -> None:
    film(here / "clip.mov", walk(6))
    ran = good("track clip.mov --text '빨강 red,blue' --model fake-grounded -o out/t.mp4")
    assert ran.err == "note: 6 frames, 2 objects; out/t.mp4 and t.jsonl\n"
    assert ran.out == ""
    lines = [json.loads(line) for line in (here / "out" / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["label"] for one in lines[1]["objects"]] == ["빨강 red", "blue"]
    assert clips.probe(here / "out" / "t.mp4").codec == "vp9"
    assert clips.probe(here / "out" / "t.mp4").frames == 6
    again = good("track clip.mov --text '빨강 red,blue' --model fake-grounded -o out/t.mp4 --codec h264")
    assert again.lines[0] == "note: out/t.jsonl holds the whole clip already; --fresh follows it anew"
    assert clips.probe(here / "out" / "t.mp4").codec == "h264"


def test_track_points_where_it_is_told(here: Path) -> None:
    film(here / "clip.mov", walk(6))
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[30:40, 48:58] = 255
    save(here / "mask.png", mask)
    got = rows(f"track clip.mov --point 9,10 --point 7:7,8@1 --mask 2:mask.png@1 {FAKE} -o t.jsonl")
    assert got == {"frames": 6, "objects": [1, 7, 2], "broken": [], "lines": "t.jsonl", "video": None}
    lines = [json.loads(line) for line in (here / "t.jsonl").read_text().splitlines()]
    assert [[one["id"] for one in line["objects"]] for line in lines[1:4]] == [[1], [1, 7, 2], [1, 7, 2]]
    assert lines[2]["objects"][2]["box"] == [48, 30, 58, 40]
    part = rows(f"track clip.mov --box 4,5,14,15 --fps 12.5 --start 0 --end 0.2 {FAKE} -o p.mkv")
    assert (part["frames"], part["video"], part["lines"]) == (3, "p.mkv", "p.jsonl")


def test_track_reports_broken_frames(here: Path) -> None:
    film(here / "clip.mov", walk(6), broken=(2, 3))
    ran = good(f"track clip.mov --point 9,10 {FAKE} -o t.jsonl")
    assert ran.err == (
        "warning: 2 of the frames cannot be decoded and are left out: 2, 3\nnote: 4 frames, 1 object; t.jsonl\n"
    )


def test_track_takes_a_folder_of_pictures(here: Path) -> None:
    for index, image in enumerate(walk(4)):
        save(here / "stills" / f"{index}.png", image)
    assert rows(f"track stills --point 9,10 {FAKE} -o t.mp4")["frames"] == 4
    assert clips.probe(here / "t.mp4").fps == pytest.approx(25)


# Label -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_label_tells_what_to_check_and_then_how_good_it_is(form: str, here: Path) -> None:
    ran = good(f"label cat.png photos --classes '빨강 red,blue' --to {form} -o out {FAKE}")
    assert ran.lines[0] == "note: 4 things in 3 pictures (1 without any); labels in out"
    assert ran.lines[-1] == "note: anmok label out/audit/audit.csv"
    unanswered = run("label out/audit/audit.csv")
    assert unanswered.code == BadData.exit_code
    assert "line 2: correct is ''" in unanswered.err
    table = here / "out" / "audit" / "audit.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    said = [lines[0], *(line + one for line, one in zip(lines[1:], ("y", "n", "y", "y"), strict=True))]
    table.write_text("\n".join(said), encoding="utf-8")
    told = good("label out/audit/audit.csv")
    assert told.out.startswith("75.0% of the finds are right (95 % interval ")
    assert "precision, not recall" in told.err
    got = rows("label out/audit/audit.csv")
    assert (got["precision"], got["finds"]) == (0.75, 4)
    assert 0 < got["low"] < 0.75 < got["high"] < 1


def test_label_goes_on_after_a_bad_picture(here: Path) -> None:
    (here / "photos" / "bad.png").write_bytes(b"no")
    ran = good(f"label photos --classes red --masks -o out {FAKE}")
    assert ran.lines[0].startswith("warning: ")
    assert "bad.png: not an image that anmok reads" in ran.lines[0]
    assert rows(f"label photos --classes red -o other {FAKE}") == {
        "pictures": 2,
        "things": 1,
        "empty": 1,
        "output": "other",
    }


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
