"""What is written: folders that the ladder reads, the table of provenance, COCO's JSON; and the command."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from anmok import media
from anmok.errors import BadData, BadRequest
from anmok.geometry import Rle
from anmok.ladder import dataset
from anmok.metrics.annotations import read_coco
from anmok.synth import Camera, Good, Recipe, generated, make, read_table, surface, write
from command_line import anmok, answered, fine


def photos(folder: Path, kind: str = "wood", count: int = 3) -> list[Path]:
    folder.mkdir(parents=True)
    for number in range(count):
        pillow.fromarray(surface(kind, (72, 96), number)).save(folder / f"{number}.png")  # type: ignore[arg-type]
    return sorted(folder.iterdir())


def test_a_made_folder_is_read_back_and_by_the_ladder(tmp_path: Path) -> None:
    paths = photos(tmp_path / "good")
    recipe = Recipe(kinds=("stain", "scratch"), area=(0.005, 0.05), controls=0.3, licence="CC0-1.0")
    made = list(make(paths, recipe, 12, 4))
    entries = write(made, tmp_path / "made", recipe)
    assert read_table(tmp_path / "made") == entries
    for one, entry in zip(made, entries, strict=True):
        assert np.array_equal(media.read(tmp_path / "made" / entry.image), one.image)
        assert entry.image.split("/")[0] == entry.label == one.label
    with (tmp_path / "made" / "synthetic.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["image", "label", "source", "recipe", "seed", "licence"]
    assert {row["split"] for row in rows} == {"train"}
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert json.loads((tmp_path / "made" / "recipe.json").read_text())["digest"] == rows[0]["recipe"] == recipe.digest

    plain = dataset.read(tmp_path / "made")
    assert plain.classes == ("good", "scratch", "stain")
    found = dataset.read(tmp_path / "made", labels=tmp_path / "made" / "synthetic.csv")
    assert found.groups is not None
    assert found.is_test is None
    assert len(set(found.groups.tolist())) == 3  # as many as real pictures
    by_name = dict(zip(found.names, found.groups.tolist(), strict=True))
    for one, entry in zip(made, entries, strict=True):
        mate = next(other for other in entries if other.provenance.source == one.provenance.source)
        assert by_name[entry.image] == by_name[mate.image]
        assert one.provenance.group == media.facts(paths[one.source_index]).sha256


def test_coco_holds_every_mask_and_the_pictures_without_one(tmp_path: Path) -> None:
    good = Good(surface("plastic", (64, 64), 0))
    recipe = Recipe(kinds=("stain",), area=(0.005, 0.05), defects=(0, 2))
    made = list(make([good], recipe, 10, 0))
    write(made, tmp_path / "made")
    found = read_coco(tmp_path / "made" / "annotations.json", masks=True)
    assert len(found.files) == 10
    assert found.masks is not None
    for number, one in enumerate(made):
        mine = np.flatnonzero(found.image_ids == number)
        assert [Rle.from_coco(found.masks[i]) for i in mine] == list(one.masks.rles)
        assert found.xyxy[mine].tolist() == one.boxes.tolist()
        assert found.areas[mine].tolist() == [rle.area for rle in one.masks.rles]
    assert Counter(len(one.masks) for one in made).keys() == {0, 1, 2}


def test_pictures_of_a_generator_are_written_too(tmp_path: Path) -> None:
    pictures = [surface("wood", (32, 32), seed) for seed in range(4)]
    write(generated(pictures, {"a, b": ["x"], "나": ["y"]}, 4, 0, name="toy", licence="MIT"), tmp_path / "made")
    entries = read_table(tmp_path / "made" / "synthetic.csv")
    assert [entry.label for entry in entries] == ["a, b", "나", "a, b", "나"]
    assert {(entry.provenance.generator, entry.provenance.group) for entry in entries} == {("toy", "")}


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").write_text("keep")
    with pytest.raises(BadRequest, match="holds something already"):
        write([], tmp_path / "made")
    assert (tmp_path / "made" / "mine.txt").read_text() == "keep"
    broken = make([tmp_path / "absent.png"], Recipe(), 1, 0)
    with pytest.raises(Exception, match="absent"):
        write(broken, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_a_table_that_lacks_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read"):
        read_table(tmp_path)
    (tmp_path / "synthetic.csv").write_text("image,label\na.png,x\n")
    with pytest.raises(BadData, match="line 2: lacks source"):
        read_table(tmp_path)


def test_the_command_makes_the_same_twice(tmp_path: Path) -> None:
    photos(tmp_path / "photos" / "good")
    words = ("synth", tmp_path / "photos" / "good", "--kinds", "scratch,stain", "--count", 6, "--area", "0.005,0.05")
    said = answered(*words, "--out", tmp_path / "a", "--licence", "MIT")
    assert (said["pictures"], sum(said["labels"].values())) == (6, 6)
    assert set(said["labels"]) == {"scratch", "stain"}
    fine(*words, "--out", tmp_path / "b", "--sheet", tmp_path / "sheet.png", "--licence", "MIT")
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(names) == 9
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert media.read(tmp_path / "sheet.png").shape[1] > 500


def test_the_command_takes_masks_camera_and_one_class(tmp_path: Path) -> None:
    paths = photos(tmp_path / "good")
    (tmp_path / "masks").mkdir()
    left = np.zeros((72, 96), np.uint8)
    left[:, :48] = 255
    for path in paths:
        pillow.fromarray(left).save(tmp_path / "masks" / path.name)
    words = (
        "synth",
        tmp_path / "good",
        "--masks",
        tmp_path / "masks",
        "--kinds",
        "stain",
        "--label",
        "bad",
        "--count",
        8,
    )
    ran = fine(*words, "--camera", "--out", tmp_path / "made")
    assert any("--controls" in line for line in ran.lines)
    assert any("--licence" in line for line in ran.lines)
    found = read_coco(tmp_path / "made" / "annotations.json", masks=True)
    assert len(found) == 8
    assert found.xyxy[:, 2].max() <= 48
    assert {entry.label for entry in read_table(tmp_path / "made")} == {"bad"}
    (tmp_path / "masks" / "1.png").unlink()
    ran = anmok(*words, "--out", tmp_path / "more")
    assert (ran.code, "no mask for 1.png" in ran.err) == (2, True)


def test_surfaces_are_drawn_where_no_photos_are_at_hand(tmp_path: Path) -> None:
    fine("synth", "--surface", "parts", "--size", 96, "--count", 3, "--out", tmp_path / "ground")
    assert len(list((tmp_path / "ground" / "good").iterdir())) == 3
    fine("synth", tmp_path / "ground" / "good", "--kinds", "stain", "--count", 2, "--out", tmp_path / "made")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "one of the two"),
        (("absent",), 2, "no such folder"),
        (("good", "--surface", "wood"), 2, "one of the two"),
        (("good", "--kinds", "rust"), 2, "kinds rust"),
        (("good", "--area", "big"), 2, "two numbers"),
        (("good", "--defects", "1.5,2"), 2, "whole numbers"),
        (("good", "--occlusion", "0.5"), 2, "goes with --camera"),
        (("good", "--count", "-1"), 2, "count -1"),
        (("good", "--out", "good"), 2, "no images in it"),
        (("--surface", "glass"), 2, "want one of brushed"),
        (("good", "--kinds", "chip"), 3, "no room for chip"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "good", count=1)
    monkeypatch.chdir(tmp_path)
    ran = anmok("synth", *words)
    assert (ran.code, len(ran.lines)) == (code, 1)
    assert said in ran.err
    assert not (tmp_path / "made").exists()


def test_camera_pictures_keep_their_masks_place(tmp_path: Path) -> None:
    good = Good(surface("plastic", (96, 96), 1))
    recipe = Recipe(kinds=("hole",), area=(0.02, 0.05))
    plain = list(make([good], recipe, 4, 0))
    taken = list(make([good], Recipe(kinds=("hole",), area=(0.02, 0.05), camera=Camera()), 4, 0))
    for before, after in zip(plain, taken, strict=True):
        assert before.masks.rles == after.masks.rles
        inside = before.masks.dense()[0]
        assert after.image[inside].mean() < after.image[~inside].mean() - 10
