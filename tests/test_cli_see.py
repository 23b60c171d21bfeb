"""The commands that see, as they are typed, with the models that need no weights; and bad pictures among good ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import anmok as library
from anmok import clips
from anmok.cli import app, looking
from anmok.errors import BadData
from anmok.load import tiny
from anmok.tasks import Depth, Detect, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment
from command_line import fine
from scenes import film, save, walk
from seeing_folder import FAKE, LOOKING, good, here_fixture, rows, run  # noqa: F401  # a fixture

COMMANDS: dict[str, Any] = vars(get_command(app))["commands"]
ALL = (*LOOKING, "track", "label")


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
    ("parse", "", "grey 90.2 %, red 6.5 %, blue 3.3 %"),
    ("normals", "", "mean direction right"),
    ("matte", "", "9.8 % of the picture stands in front"),
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
    assert told.out.startswith("75.0 % of the finds are right (95 % interval ")
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
