"""A folder of answers: the lines, the pictures, the crops, and the files that other tools read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadRequest, CannotWrite
from anmok.gallery import Gallery, Kept, summary
from anmok.geometry import Rle
from anmok.load import tiny
from anmok.metrics.annotations import read_coco
from anmok.results import DepthMap, Detections, Masks, Result
from anmok.tasks import Ask, Depth, Detect, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment
from anmok.wire.label_studio import brush
from scenes import save, scene, square_mask

FAKE = tiny("fake-places")
PICTURES = Kept()
BUSY = (("red", 5, 5), ("blue", 40, 30), ("red", 30, 4))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two of one name in two folders, and one without anything in it."""
    return [
        save(tmp_path / "a" / "one.png", scene(*BUSY)),
        save(tmp_path / "b" / "one.png", scene(("red", 20, 20))),
        save(tmp_path / "b" / "빈.png", scene()),
    ]


def filled(folder: Path, paths: Sequence[Path], ask: Ask[Any, Any], kept: Kept = PICTURES) -> list[Result]:
    answers: list[Result] = FAKE.run(paths, ask)
    added(folder, list(zip(paths, answers, strict=True)), kept)
    return answers


def added(folder: Path, pairs: Sequence[tuple[Path, Result]], kept: Kept) -> None:
    with Gallery(folder, kept, FAKE.maker) as gallery:
        for path, answer in pairs:
            gallery.add(path, answer)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_answer_is_a_line_of_json(pictures: list[Path], tmp_path: Path) -> None:
    answers = filled(tmp_path / "out", pictures, Detect(("red", "고양이 blue")))
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows == [{"image": str(path), **one.to_dict()} for path, one in zip(pictures, answers, strict=True)]
    assert "고양이" in lines[0]  # readable, not escaped


def test_pictures_of_one_name_do_not_write_over_each_other(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / folder / name, scene())
        for folder, name in zip("abcde", ("x.png", "x-2.png", "x.png", "X.png", "x.png"), strict=True)
    ]
    filled(tmp_path / "out", paths, Detect(("red",)))
    assert names(tmp_path / "out") == sorted(
        ["X-4.jpg", "results.jsonl", "sheet.jpg", "x-2.jpg", "x-3.jpg", "x-5.jpg", "x.jpg"]
    )


def test_drawn_pictures_have_the_size_of_theirs_and_the_sheet_has_all(pictures: list[Path], tmp_path: Path) -> None:
    filled(tmp_path / "out", pictures, Segment(("red",)))
    for name in ("one.jpg", "one-2.jpg", "빈.jpg"):
        with pillow.open(tmp_path / "out" / name) as drawn:
            assert drawn.size == (64, 48)
    with pillow.open(tmp_path / "out" / "sheet.jpg") as sheet:
        assert sheet.size == (2 * 328 + 8, 2 * (48 + 22 + 8) + 8)
    filled(tmp_path / "single", pictures[:1], Segment(("red",)))
    assert names(tmp_path / "single") == ["one.jpg", "results.jsonl"]  # one picture needs no sheet


def test_a_picture_that_is_called_sheet_keeps_the_contact_sheet(tmp_path: Path) -> None:
    filled(tmp_path / "out", [save(tmp_path / f"{name}.png", scene()) for name in ("sheet", "a")], Detect(("red",)))
    assert names(tmp_path / "out") == ["a.jpg", "results.jsonl", "sheet-2.jpg", "sheet.jpg"]


def test_what_no_jpeg_holds_is_a_png(tmp_path: Path) -> None:
    path = save(tmp_path / "long.png", np.zeros((1, 65_501, 3), np.uint8))
    with Gallery(tmp_path / "out", PICTURES, "fake") as gallery:
        gallery.add(path, Detections.none(("red",), (1, 65_501)))
    assert names(tmp_path / "out") == ["long.png", "results.jsonl"]


def test_the_sheet_ends_at_a_hundred(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", scene(size_hw=(2, 3)))
    answer = Detections.none(("red",), (2, 3))
    with Gallery(tmp_path / "out", Kept(), "fake") as gallery:
        for _ in range(103):
            gallery.add(path, answer)
    with pillow.open(tmp_path / "out" / "sheet.jpg") as sheet:
        assert sheet.size == (10 * 328 + 8, 10 * (2 + 22 + 8) + 8)
    assert len(names(tmp_path / "out")) == 103 + 2


def test_crops_of_boxes_are_parts_of_the_picture(pictures: list[Path], tmp_path: Path) -> None:
    filled(tmp_path / "out", pictures, Detect(("red", "../파란 blue")), Kept(pictures=False, crops=True))
    assert names(tmp_path / "out") == [
        "crops/---파란-blue/one-2.png",
        "crops/red/one-0.png",
        "crops/red/one-1.png",
        "crops/red/one-2-0.png",
        "results.jsonl",
    ]
    with pillow.open(tmp_path / "out" / "crops" / "---파란-blue" / "one-2.png") as crop:
        assert (crop.mode, crop.size) == ("RGB", (10, 10))
        assert (np.asarray(crop) == (0, 0, 255)).all()


def test_crops_of_masks_are_transparent_where_the_mask_is_not(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", scene(("red", 10, 10), ("blue", 15, 15)))
    filled(tmp_path / "out", [path], Segment(("red",)), Kept(crops=True))
    with pillow.open(tmp_path / "out" / "crops" / "red" / "a-0.png") as crop:
        assert (crop.mode, crop.size) == ("RGBA", (10, 10))
        pixels = np.asarray(crop)
    is_red = np.ones((10, 10), np.bool_)
    is_red[5:, 5:] = False  # the blue square lies there
    np.testing.assert_array_equal(pixels[..., 3] == 255, is_red)
    np.testing.assert_array_equal(pixels[..., 3] == 0, ~is_red)
    assert (pixels[is_red][:, :3] == (255, 0, 0)).all()


def test_nameless_masks_and_people_are_cropped_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", scene(("red", 10, 10)))
    empty = Masks((Rle.of(np.zeros((48, 64), np.bool_)),), np.ones(1), np.asarray([-1]), (), (48, 64))
    with Gallery(tmp_path / "none", Kept(crops=True), "fake") as gallery:
        gallery.add(path, empty)
    assert names(tmp_path / "none") == ["a.jpg", "results.jsonl"]
    filled(tmp_path / "masks", [path], Segment(), Kept(pictures=False, crops=True))
    assert names(tmp_path / "masks") == ["crops/object/a-0.png", "crops/object/a-1.png", "results.jsonl"]
    filled(tmp_path / "people", [path], Pose(), Kept(pictures=False, crops=True))
    assert names(tmp_path / "people") == ["crops/person/a-0.png", "results.jsonl"]


@pytest.mark.parametrize(
    ("ask", "attribute"), [(Depth(), "depth"), (Normals(), "normals"), (Parse(), "parts"), (Matting(), "alpha")]
)
def test_maps_are_kept_as_arrays(ask: Ask[Any, Any], attribute: str, pictures: list[Path], tmp_path: Path) -> None:
    answers = filled(tmp_path / "out", pictures, ask, Kept(arrays=True))
    kept = np.load(tmp_path / "out" / "one-2.npy", allow_pickle=False)
    wanted = getattr(answers[1], attribute)
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["array"] for line in lines] == ["one.npy", "one-2.npy", "빈.npy"]
    assert "zlib" not in lines[0]  # a map of 1080p would be megabytes in every line
    assert kept.dtype == wanted.dtype
    np.testing.assert_array_equal(kept, wanted)
    assert names(tmp_path / "out").count("one.jpg") == 1


@pytest.mark.parametrize("ask", [Detect(("red", "blue")), Segment(("red", "blue")), Segment()])
def test_coco_is_read_back_as_it_was(ask: Ask[Any, Any], pictures: list[Path], tmp_path: Path) -> None:
    answers: list[Any] = filled(tmp_path / "out", pictures, ask, Kept(pictures=False, forms=("coco",)))
    back = read_coco(tmp_path / "out" / "coco.json", masks=isinstance(ask, Segment))
    assert back.files == tuple(map(str, pictures))
    assert back.sizes_hw == ((48, 64),) * 3
    assert back.classes == (ask.labels or ("object",))
    np.testing.assert_array_equal(back.xyxy, np.concatenate([one.xyxy for one in answers]))
    np.testing.assert_array_equal(back.image_ids, np.repeat([0, 1, 2], [len(one) for one in answers]))
    np.testing.assert_array_equal(back.class_ids, np.maximum(np.concatenate([one.class_ids for one in answers]), 0))
    assert back.scores is not None
    np.testing.assert_allclose(back.scores, np.concatenate([one.scores for one in answers]), rtol=1e-7)  # float32
    if isinstance(ask, Segment):
        assert back.masks == tuple(rle.to_coco() for one in answers for rle in one.rles)


def bits(data: Sequence[int]) -> Iterator[int]:
    for byte in data:
        yield from (byte >> shift & 1 for shift in range(7, -1, -1))


def decoded(data: Sequence[int]) -> NDArray[np.uint8]:
    """Label Studio's run-length code, read by its specification: 32 bits of length, five of the word size less one,
    four times four of the sizes of a run's length less one; then per run a bit (1: one value for all, 0: each value
    spelled out), two bits that choose the size, the length less one, and the value or values."""
    stream = bits(data)

    def number(size: int) -> int:
        return int("".join(str(next(stream)) for _ in range(size)), 2)

    length, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < length:
        is_run, run = number(1), number(sizes[number(2)]) + 1
        values += [number(word)] * run if is_run else [number(word) for _ in range(run)]
    assert len(values) == length
    return np.asarray(values, np.uint8)


@pytest.mark.parametrize("size_hw", [(48, 64), (1, 1), (3, 50_000), (300, 301)])
def test_a_brush_decodes_to_the_pixels_of_its_mask(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for mask in (np.ones(size_hw, np.bool_), np.zeros(size_hw, np.bool_), rng.random(size_hw) < 0.001):
        mask[0, 0] ^= True  # begins with a run of one, for the shortest class of lengths
        pixels = decoded(brush(Rle.of(mask))).reshape(*size_hw, 4)
        np.testing.assert_array_equal(pixels, np.repeat(mask[..., None], 4, axis=2) * np.uint8(255))


def test_label_studio_gets_boxes_in_percent(pictures: list[Path], tmp_path: Path) -> None:
    filled(tmp_path / "out", pictures, Detect(("red", 'the "blue" one')), Kept(pictures=False, forms=("label-studio",)))
    tasks = json.loads((tmp_path / "out" / "label-studio.json").read_text(encoding="utf-8"))
    assert len(tasks) == 3
    [prediction] = tasks[0]["predictions"]
    assert prediction["model_version"] == FAKE.maker
    assert prediction["score"] == 1.0
    assert [row["value"]["rectanglelabels"] for row in prediction["result"]] == [["red"], ["red"], ['the "blue" one']]
    last = prediction["result"][2]
    assert (last["original_width"], last["original_height"], last["type"]) == (64, 48, "rectanglelabels")
    wanted = {"x": 40 / 64 * 100, "y": 30 / 48 * 100, "width": 10 / 64 * 100, "height": 10 / 48 * 100}
    assert {key: last["value"][key] for key in wanted} == pytest.approx(wanted)
    assert tasks[2]["predictions"][0]["result"] == []
    served = urlsplit(tasks[2]["data"]["image"])
    assert served.path == "/data/local-files/"
    assert "/" + parse_qs(served.query)["d"][0] == pictures[2].as_posix()
    interface = ElementTree.parse(tmp_path / "out" / "label-studio.xml").getroot()
    control = interface.find("RectangleLabels")
    assert control is not None
    assert (control.get("name"), control.get("toName")) == (last["from_name"], last["to_name"])
    assert [label.get("value") for label in control] == ["red", 'the "blue" one']
    picture = interface.find("Image")
    assert picture is not None
    assert (picture.get("name"), picture.get("value")) == (last["to_name"], "$image")


def test_label_studio_gets_masks_as_brushes(pictures: list[Path], tmp_path: Path) -> None:
    filled(tmp_path / "out", pictures, Segment(("red",)), Kept(pictures=False, forms=("label-studio", "coco")))
    tasks = json.loads((tmp_path / "out" / "label-studio.json").read_text(encoding="utf-8"))
    [row] = tasks[1]["predictions"][0]["result"]
    assert row["value"]["brushlabels"] == ["red"]
    pixels = decoded(row["value"]["rle"]).reshape(48, 64, 4)
    np.testing.assert_array_equal(pixels[..., 3] == 255, square_mask(20, 20))
    assert '<BrushLabels name="brush"' in (tmp_path / "out" / "label-studio.xml").read_text()
    assert "coco.json" in names(tmp_path / "out")


def test_depth_becomes_a_cloud_by_the_camera_that_was_given(tmp_path: Path) -> None:
    import trimesh

    path = save(tmp_path / "a.png", scene(size_hw=(6, 8)))
    for focal, folder in ((None, "guessed"), (4.0, "given")):
        filled(tmp_path / folder, [path], Depth(), Kept(cloud=".ply", focal_px=focal))
    guessed, given = (trimesh.load(tmp_path / folder / "a.ply").vertices for folder in ("guessed", "given"))
    assert len(given) == 48
    depth = 10 - 9 * (128 / 255)
    assert given[0] == pytest.approx([(0.5 - 4) / 4 * depth, (0.5 - 3) / 4 * depth, depth], rel=1e-5)  # float32
    assert abs(guessed[0][0]) < abs(given[0][0])  # 60 degrees are 6.9 pixels here
    with (
        pytest.raises(BadRequest, match="relative disparity has no geometry"),
        Gallery(tmp_path / "flat", Kept(cloud=".glb"), "fake") as gallery,
    ):
        gallery.add(path, DepthMap(np.ones((6, 8)), "disparity"))


def test_what_is_not_kept_is_not_written(pictures: list[Path], tmp_path: Path) -> None:
    filled(tmp_path / "out", pictures, Segment(("red",)), Kept(pictures=False))
    assert names(tmp_path / "out") == ["results.jsonl"]


@pytest.mark.parametrize(
    ("kept", "says"),
    [({"forms": ("voc",)}, "--to voc: want coco or label-studio"), ({"cloud": ".obj"}, "--cloud obj: want ply or glb")],
)
def test_unknown_forms_are_refused_before_the_work(kept: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        Kept(**kept)


def test_pictures_are_never_written_over(pictures: list[Path]) -> None:
    before = pictures[0].read_bytes()
    with pytest.raises(BadRequest, match="holds the pictures themselves"):
        filled(pictures[0].parent, pictures[:1], Detect(("red",)))
    assert pictures[0].read_bytes() == before


def test_an_error_in_the_middle_keeps_the_lines_but_makes_no_summary(pictures: list[Path], tmp_path: Path) -> None:
    answers, kept = FAKE.run(pictures, Detect(("red",))), Kept(forms=("coco",))
    pairs = [(pictures[0], answers[0]), (pictures[0], Detections.none(("red",), (9, 9)))]
    with pytest.raises(BadRequest, match="of a picture of"):
        added(tmp_path / "out", pairs, kept)
    assert names(tmp_path / "out") == ["one.jpg", "results.jsonl"]


def test_a_disk_that_refuses_is_told_of(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/found")):
        with pytest.raises(CannotWrite, match=str(folder)):
            filled(folder, pictures, Detect(("red",)))


ENDLESS = """
import sys
from pathlib import Path
from anmok.gallery import Gallery, Kept
from anmok.load import tiny
from anmok.tasks import Segment
model, path = tiny("fake-places"), Path(sys.argv[1])
[answer] = model.run([path], Segment(("red",)))
with Gallery(Path(sys.argv[2]), Kept(), model.maker) as gallery:
    while True:
        gallery.add(path, answer)
"""


def test_a_killed_run_leaves_whole_lines_and_whole_pictures(pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-c", ENDLESS, str(pictures[0]), str(out)]
    with subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while len(list(out.glob("*.jpg"))) < 20:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    text = (out / "results.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) >= 20
    assert text.endswith("\n")
    assert [row["masks"][0]["label"] for row in rows] == ["red"] * len(rows)
    for picture in out.glob("[!.]*.jpg"):
        with pillow.open(picture) as whole:
            whole.load()


SUMMARIES = [
    (Detect(("red", "blue")), "2 red, 1 blue"),
    (Detect(("yellow",)), "nothing found"),
    (Pointing(("red", "blue")), "2 red, 1 blue"),
    (Gaze(), "2 people, looking at: 45,35; 45,35"),
    (Segment(("red", "blue")), "2 red, 1 blue"),
    (Segment(("yellow",)), "nothing found"),
    (Segment(), "4 masks: 2,772 px, 100 px, 100 px, 100 px"),
    (Depth(), "5.48 to 7.00 m"),
    (Pose(), "2 people, joints seen: 5, 5 of 5"),
    (Parse(), "grey 90.2 %, red 6.5 %, blue 3.3 %"),
    (Matting(), "9.8 % of the picture stands in front"),
]


@pytest.mark.parametrize(("ask", "says"), SUMMARIES, ids=lambda one: str(one)[:30])
def test_an_answer_in_one_line(ask: Ask[Any, Any], says: str) -> None:
    assert summary(FAKE.run([scene(*BUSY)], ask)[0]) == says


def test_more_answers_in_one_line() -> None:
    assert summary(FAKE.run([scene()], Pose())[0]) == "nobody found"
    assert summary(FAKE.run([scene(ground="black")], Parse())[0]) == "no part found"
    assert summary(FAKE.run([scene()], Normals())[0]) == "mean direction right +0.00, up +0.00, near +1.00"
    assert summary(DepthMap(np.ones((2, 2)), "disparity")) == "relative disparity, 1 to 1"
    one = Masks((Rle.of(square_mask(5, 5)),), np.ones(1), np.asarray([-1]), (), (48, 64))
    assert summary(one) == "1 mask: 100 px"
    assert summary(one[[0] * 8]) == "8 masks: 100 px, 100 px, 100 px, 100 px, 100 px, 100 px ..."
    assert summary(Masks.none((), (48, 64))) == "0 masks"
