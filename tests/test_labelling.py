"""A folder labelled by a model: three formats that read back, a sample to check, and what the checked sample says."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as pillow

from anmok.errors import BadData, BadMedia, BadRequest, CannotWrite
from anmok.evidence.intervals import wilson
from anmok.gallery.labelling import SAMPLE, label_folder, precision
from anmok.load import tiny
from anmok.metrics.annotations import YOLO, Annotations, read_coco, read_text, read_voc
from anmok.results import Detections
from anmok.tasks import Detect, Segment
from scenes import save, scene, square_mask

FAKE = tiny("fake-places")
CLASSES = ("빨강 red", "blue")
ASK = Detect(CLASSES)
# What is in the photos: class, left, top; squares of ten pixels.
HOLDS = {
    "one.png": [(0, 5, 5), (1, 40, 30)],
    "sub/둘.png": [(0, 20, 20), (0, 40, 4)],
    "sub/images/three.png": [(1, 7, 9)],
    "empty.png": [],
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, things in HOLDS.items():
        squares = [(("red", "blue")[kind], left, top) for kind, left, top in things]
        save(tmp_path / "photos" / name, scene(*squares))
    return tmp_path / "photos"


def below(photos: Path) -> list[Path]:
    return [photos / name for name in HOLDS]


def held(annotations: Annotations) -> dict[str, list[tuple[str, list[float]]]]:
    """Class and box of everything, by the picture's name without its suffix."""
    found: dict[str, list[tuple[str, list[float]]]] = {file.removesuffix(".png"): [] for file in annotations.files}
    rows = zip(annotations.image_ids, annotations.class_ids, annotations.xyxy.round(3).tolist(), strict=True)
    for image, kind, box in rows:
        found[annotations.files[image].removesuffix(".png")].append((annotations.classes[kind], box))
    return {name: sorted(things) for name, things in found.items()}


def wanted() -> dict[str, list[tuple[str, list[float]]]]:
    return {
        name.removesuffix(".png"): sorted((CLASSES[k], [float(x), y, x + 10, y + 10]) for k, x, y in things)
        for name, things in HOLDS.items()
    }


def test_coco_holds_everything_with_its_score(photos: Path, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    done = label_folder(
        FAKE, below(photos), ASK, tmp_path / "out", "coco", progress=lambda *count: counts.append(count)
    )
    assert (done.pictures, done.things, done.empty, done.failures) == (4, 5, 1, ())
    assert counts == [(i, 4) for i in (1, 2, 3, 4)]
    back = read_coco(tmp_path / "out" / "annotations.json")
    assert held(back) == wanted()
    assert back.classes == CLASSES
    assert back.scores is not None
    np.testing.assert_array_equal(back.scores, 1)
    assert back.sizes_hw == ((48, 64),) * 4


def test_voc_has_a_file_per_picture(photos: Path, tmp_path: Path) -> None:
    label_folder(FAKE, below(photos), ASK, tmp_path / "out", "voc")
    assert held(read_voc(tmp_path / "out")) == wanted()
    assert (tmp_path / "out" / "sub" / "둘.xml").exists()


def test_yolo_is_read_back_without_scores(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label_folder(FAKE, below(photos), ASK, out, "yolo")
    back = read_text(out / "labels", YOLO, images=out / "images", names=CLASSES)
    named = {name.replace("sub/images/", "sub/images_/"): things for name, things in wanted().items()}
    assert held(back) == named
    assert (out / "classes.txt").read_text(encoding="utf-8").splitlines() == list(CLASSES)
    lines = (out / "labels" / "one.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [5, 5]  # a sixth number would be read as a polygon


def trainers_labels(picture: str) -> Path:
    """Where YOLO's trainers look: the last folder `images` of a path becomes `labels`."""
    return Path("/labels/".join(picture.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")


def test_a_trainer_finds_pictures_and_labels(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    label_folder(FAKE, below(Path("photos")), ASK, Path("out"), "yolo")
    monkeypatch.chdir(photos)  # from wherever it is started
    settings: dict[str, Any] = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert settings["names"] == dict(enumerate(CLASSES))
    assert settings["train"] == settings["val"] == "images"
    root = (Path(settings["path"]) / settings["train"]).resolve()
    pictures = sorted(path for path in root.rglob("*.*") if path.is_file())
    assert len(pictures) == 4
    for picture in pictures:
        with pillow.open(picture) as opened:
            assert opened.size == (64, 48)
        labels = trainers_labels(str(picture))
        assert labels.is_file(), labels
        name = picture.relative_to(root).as_posix().replace("images_/", "images/")
        assert len(labels.read_text().splitlines()) == len(HOLDS[name])


def test_a_second_run_replaces_the_links_and_keeps_copies(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label_folder(FAKE, below(photos), ASK, out, "yolo")
    (out / "images" / "one.png").unlink()
    (out / "images" / "one.png").write_bytes((photos / "one.png").read_bytes())
    photos.rename(tmp_path / "elsewhere")
    label_folder(FAKE, below(tmp_path / "elsewhere"), ASK, out, "yolo")
    assert not (out / "images" / "one.png").is_symlink()
    assert (out / "images" / "empty.png").resolve() == tmp_path / "elsewhere" / "empty.png"


def test_without_links_pictures_are_copied(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "no links on this disk")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    label_folder(FAKE, below(photos), ASK, tmp_path / "out", "yolo")
    copy = tmp_path / "out" / "images" / "sub" / "둘.png"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (photos / "sub" / "둘.png").read_bytes()


def test_masks_go_to_coco_alone(photos: Path, tmp_path: Path) -> None:
    label_folder(FAKE, below(photos), Segment(CLASSES), tmp_path / "out", "coco")
    back = read_coco(tmp_path / "out" / "annotations.json", masks=True)
    assert held(back) == wanted()
    assert back.masks is not None
    assert back.masks[0]["size"] == [48, 64]
    assert back.areas.tolist() == [square_mask(0, 0).sum()] * 5
    with pytest.raises(BadRequest, match="--to yolo has no place for masks"):
        label_folder(FAKE, below(photos), Segment(CLASSES), tmp_path / "other", "yolo")


def test_what_would_fail_after_the_work_is_refused_before(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="--to csv: want coco, yolo, voc"):
        label_folder(FAKE, below(photos), ASK, tmp_path / "out", "csv")
    twin = photos / "one.jpg"
    pillow.new("RGB", (9, 9)).save(twin)
    for form in ("yolo", "voc"):
        with pytest.raises(BadRequest, match=r"one\.png and .*one\.jpg would share one file of labels"):
            label_folder(FAKE, [*below(photos), twin], ASK, tmp_path / "out", form)
    assert not (tmp_path / "out").exists()
    assert label_folder(FAKE, [*below(photos), twin], ASK, tmp_path / "out", "coco").pictures == 5


class Flat:
    """A detector that finds a box without area beside one with."""

    def map(self, paths: Any, ask: Any) -> Any:
        boxes = np.asarray([[5, 5, 15, 15], [64, 5, 64, 15]], np.float32)
        return [Detections(boxes, np.ones(2), np.zeros(2, np.int64), CLASSES, (48, 64)) for _ in paths]


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_a_box_without_area_is_no_label(form: str, photos: Path, tmp_path: Path) -> None:
    flat: Any = Flat()
    done = label_folder(flat, below(photos), ASK, tmp_path / "out", form)
    assert (done.things, done.empty) == (4, 0)
    assert len(table(tmp_path / "out")) == 4


def test_bad_files_among_good_ones_are_handed_back(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_bytes(b"no")
    done = label_folder(FAKE, [*below(photos), photos / "bad.png"], ASK, tmp_path / "out", "yolo")
    assert [failure.source.endswith("bad.png") for failure in done.failures] == [True]
    assert done.pictures == 4
    assert not (tmp_path / "out" / "images" / "bad.png").exists()
    with pytest.raises(BadMedia, match="bad.png"):
        label_folder(FAKE, [photos / "bad.png"], ASK, tmp_path / "none", "coco")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CannotWrite):
        label_folder(FAKE, below(photos), ASK, tmp_path / "file" / "out", "coco")


def table(out: Path) -> list[dict[str, str]]:
    with (out / "audit" / "audit.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_sample_is_fifty_pictures_with_finds_drawn_by_a_fixed_seed(tmp_path: Path) -> None:
    paths = [save(tmp_path / "photos" / f"{i:03}.png", scene(*[("red", 5 + i % 40, 5)][: i % 3])) for i in range(120)]
    full = {f"{i:03}.png" for i in range(120) if i % 3}
    samples = []
    for out in (tmp_path / "one", tmp_path / "two"):
        label_folder(FAKE, paths, ASK, out, "coco")
        rows = table(out)
        samples.append(rows)
        chosen = [row["image"] for row in rows]
        assert len(set(chosen)) == SAMPLE
        assert set(chosen) <= full
        assert chosen == sorted(chosen)
        assert {path.name for path in (out / "audit").iterdir()} == {
            "audit.csv",
            "sheet-1.jpg",
            "sheet-2.jpg",
            *(f"{name}.jpg" for name in chosen),
        }
    assert samples[0] == samples[1]
    first = samples[0][0]
    left = 5 + int(first["image"][:3]) % 40
    assert (first["number"], first["label"], first["score"], first["correct"]) == ("0", CLASSES[0], "1.000", "")
    assert first["box"] == f"{left} 5 {left + 10} 15"


def test_the_sample_shows_the_numbers_of_the_table(photos: Path, tmp_path: Path) -> None:
    label_folder(FAKE, below(photos), ASK, tmp_path / "out", "voc")
    rows = table(tmp_path / "out")
    assert [(row["image"], row["number"]) for row in rows] == [
        ("one.png", "0"),
        ("one.png", "1"),
        ("sub/둘.png", "0"),
        ("sub/둘.png", "1"),
        ("sub/images/three.png", "0"),
    ]
    with pillow.open(tmp_path / "out" / "audit" / "sub__둘.png.jpg") as drawn:
        assert drawn.size == (64, 48)
        assert (np.asarray(drawn).astype(int) != scene(("red", 20, 20), ("red", 40, 4))).any()


def test_nothing_found_is_an_empty_sample(photos: Path, tmp_path: Path) -> None:
    done = label_folder(FAKE, below(photos), Detect(("yellow",)), tmp_path / "out", "coco")
    assert (done.things, done.empty) == (0, 4)
    assert table(tmp_path / "out") == []
    assert len(json.loads((tmp_path / "out" / "annotations.json").read_text())["images"]) == 4


def test_answers_are_never_written_over(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # an unanswered table may go
        label_folder(FAKE, below(photos), ASK, out, "coco")
    path = out / "audit" / "audit.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",\n", ",y\n", 1), encoding="utf-8")
    with pytest.raises(BadRequest, match=r"audit\.csv has answers in it, which would be lost"):
        label_folder(FAKE, below(photos), ASK, out, "coco")


def answered(tmp_path: Path, answers: list[tuple[str, str]], encoding: str = "utf-8") -> Path:
    lines = ["image,number,label,score,box,correct", *(f'{image},0,개,0.9,"1 2 3 4",{said}' for image, said in answers)]
    path = tmp_path / "audit.csv"
    path.write_text("\n".join(lines), encoding=encoding)
    return path


def test_precision_is_wilsons_where_every_picture_has_one_find(tmp_path: Path) -> None:
    said = ["y", "Y ", "yes", "1", "예", "o", "n", "No", "0", "아니오"]
    found = precision(answered(tmp_path, [(f"{i}.png", one) for i, one in enumerate(said)], "utf-8-sig"))
    assert (found.value, found.n) == (0.6, 10)
    interval = wilson(found.value * found.effective_n, found.effective_n)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert found.interval.low < 0.35  # Wilson's own for 6 of 10 is 0.31 to 0.83
    assert found.interval.high > 0.80


def test_finds_of_one_picture_are_a_group(tmp_path: Path) -> None:
    """Ten pictures whose eight finds each are all right or all wrong say little more than ten finds."""
    grouped = [(f"{i // 8}.png", "y" if i // 8 < 6 else "n") for i in range(80)]
    single = [(f"{i}.png", said) for i, (_, said) in enumerate(grouped)]
    together, apart = precision(answered(tmp_path, grouped)), precision(answered(tmp_path, single))
    assert together.value == apart.value == 0.6
    assert together.interval.high - together.interval.low > 2 * (apart.interval.high - apart.interval.low)


def test_a_table_that_is_not_filled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="line 3: correct is ''; answer y or n"):
        precision(answered(tmp_path, [("a.png", "y"), ("b.png", "")]))
    with pytest.raises(BadData, match="line 2: correct is 'maybe'"):
        precision(answered(tmp_path, [("a.png", "maybe")]))
    with pytest.raises(BadData, match="want the columns image and correct"):
        precision(answered(tmp_path, []))
    other = tmp_path / "other.csv"
    other.write_text("name,correct\na,y\n")
    with pytest.raises(BadData, match="want the columns image and correct"):
        precision(other)
    other.write_bytes("image,correct\n가,y\n".encode("euc-kr"))
    for path in (other, tmp_path / "none.csv", tmp_path):
        with pytest.raises(BadData, match="cannot be read"):
            precision(path)
