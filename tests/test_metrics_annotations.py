"""Annotation formats: what each reader makes of a small file, what the writers give back, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anmok.errors import BadData, BadRequest
from anmok.geometry import Rle
from anmok.metrics.annotations import (
    YOLO,
    YOLO_DETECTIONS,
    Layout,
    from_results,
    read_coco,
    read_cvat,
    read_labelme,
    read_open_images,
    read_text,
    read_voc,
    write_coco,
    write_voc,
    write_yolo,
)
from anmok.results import Detections, Masks
from annotation_samples import COCO, CVAT, LABELME, VOC, photo, put, rows, sample


def test_voc(tmp_path: Path) -> None:
    put(tmp_path / "deep" / "a.xml", VOC.format(name="a.jpg", xmin=10))
    put(tmp_path / "b.xml", "<annotation></annotation>")
    put(tmp_path / "deep" / "._a.xml", "what macOS leaves in archives")
    read = read_voc(tmp_path)
    assert rows(read) == [("a.jpg", "cat", 10, 20, 30.5, 40), ("a.jpg", "traffic light", 1, 2, 3, 4)]
    assert (read.files, read.sizes_hw) == (("b", "a.jpg"), (None, (80, 100)))
    assert read.is_difficult.tolist() == [True, False]
    assert read.scores is None
    assert read.areas.tolist() == [20.5 * 20, 4]


def test_cvat(tmp_path: Path) -> None:
    read = read_cvat(put(tmp_path / "a.xml", CVAT))
    assert rows(read) == [("day/a.jpg", "cat", 10.25, 20, 30.5, 40), ("day/a.jpg", "dog", 1, 2, 9, 12.5)]
    assert read.files == ("day/a.jpg", "day/b.jpg")
    assert [line.split(": ")[-1] for line in read.dropped] == ["a points is no box"]


def test_a_turned_box_of_cvat_is_read_as_the_one_around_it(tmp_path: Path) -> None:
    """20 x 10 turned by a right angle about (20, 15), and a square turned by half of one."""
    boxes = (
        '<box label="a" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<box label="b" xtl="0" ytl="0" xbr="10" ybr="10" rotation="45.0"/>'
    )
    text = f'<annotations><image name="a.jpg" width="99" height="99">{boxes}</image></annotations>'
    read = read_cvat(put(tmp_path / "a.xml", text))
    half = 5 * 2**0.5
    wanted = [[15, 5, 25, 25], [5 - half, 5 - half, 5 + half, 5 + half]]
    np.testing.assert_allclose(read.xyxy, wanted, rtol=0, atol=1e-9)  # sines of float64


def test_labelme(tmp_path: Path) -> None:
    put(tmp_path / "a.json", LABELME)
    read = read_labelme(tmp_path)
    assert rows(read) == [("a.jpg", "cat", 10, 20, 30.5, 40), ("a.jpg", "dog", 1, 2, 9, 12.5)]
    assert len(read.dropped) == 1


def test_coco_comes_in_the_order_of_its_ids(tmp_path: Path) -> None:
    read = read_coco(put(tmp_path / "a.json", COCO))
    assert rows(read) == [("b.jpg", "cat", 10, 20, 30.5, 40), ("a.jpg", "dog", 1, 2, 9, 12.5)]
    assert (read.files, read.classes) == (("a.jpg", "b.jpg"), ("cat", "dog"))
    assert read.is_crowd.tolist() == [True, False]
    assert read.areas.tolist() == [99, 84]


def test_coco_results_take_their_names_from_the_truth(tmp_path: Path) -> None:
    truth = put(tmp_path / "a.json", COCO)
    results = [{"image_id": 3, "category_id": 9, "bbox": [1, 2, 0, 0], "score": 0.5, "area": 7}]
    found = put(tmp_path / "b.json", results)
    read = read_coco(found, ids_from=truth)
    assert rows(read) == [("a.jpg", "dog", 1, 2, 1, 2)], "a detection without area counts as a wrong one"
    assert read.scores is not None
    assert (read.scores.tolist(), read.areas.tolist(), read.dropped) == ([0.5], [0], ())
    with pytest.raises(BadData, match="ids_from"):
        read_coco(found)


def test_coco_polygons_and_runs_are_the_masks_of_pycocotools(tmp_path: Path) -> None:
    from pycocotools import mask as library

    theirs: Any = library

    polygons = [[10.5, 20, 30.5, 20.2, 30, 40, 10, 40], [50, 50, 60, 50, 55.5, 70]]
    rle = theirs.merge(theirs.frPyObjects(polygons, 80, 100))
    plain = {"size": [80, 100], "counts": [1000, 50, 6950]}
    document = COCO | {"annotations": [dict(row) for row in COCO["annotations"]]}
    document["annotations"][0]["segmentation"] = polygons
    document["annotations"][1]["segmentation"] = plain
    read = read_coco(put(tmp_path / "a.json", document), masks=True)
    assert read.masks is not None
    assert read.masks[0] == {"size": [80, 100], "counts": rle["counts"].decode()}
    assert theirs.area(read.masks[1]) == 50
    write_coco(read, tmp_path / "b.json")
    assert read_coco(tmp_path / "b.json", masks=True).masks == read.masks
    document["annotations"][1]["segmentation"] = [[0, 0, 1e9, 0, 1e9, 1e9]]
    with pytest.raises(BadData, match=r"annotation 1: a polygon reaches to 1e\+09"):
        read_coco(put(tmp_path / "a.json", document), masks=True)
    document["annotations"][1]["segmentation"] = [[1, 2, 3]]
    with pytest.raises(BadData, match="annotation 1: segmentation is neither"):
        read_coco(put(tmp_path / "a.json", document), masks=True)
    document["annotations"][1]["segmentation"] = {"size": [80, 99], "counts": [7920]}
    with pytest.raises(BadData, match=r"annotation 1: mask of \[80, 99\] in a picture of \[80, 100\]"):
        read_coco(put(tmp_path / "a.json", document), masks=True)


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        (Layout("xyxy"), "traffic light 10 20 30.5 40"),
        (Layout("xywh"), "traffic light 10 20 20,5 20"),
        (Layout("cxcywh"), "traffic light 20.25 30 20.5 20"),
        (Layout("xyxy", is_relative=True), "traffic light 0.1 0.25 0.305 0.5"),
        (Layout("cxcywh", is_relative=True), "traffic light 0.2025 0.375 0.205 0.25"),
        (Layout("xywh", score="first"), "traffic light 0.75 10 20 20.5 20"),
        (Layout("xywh", score="last"), "traffic light 10 20 20.5 20 0.75"),
    ],
)
def test_text(tmp_path: Path, layout: Layout, line: str) -> None:
    put(tmp_path / "labels" / "day" / "a.b.txt", f"\ufeff{line}\n\n")
    put(tmp_path / "labels" / "empty.txt", "")
    for name in ("day/a.b.png", "empty.jpg", "unlabelled.jpg"):
        photo(tmp_path / "images" / name)
    images = tmp_path / "images" if layout.is_relative else None
    read = read_text(tmp_path / "labels", layout, images=images)
    file = "day/a.b.png" if images else "day/a.b"
    assert [row[:2] for row in rows(read)] == [(file, "traffic light")]
    np.testing.assert_allclose(read.xyxy, [[10, 20, 30.5, 40]], rtol=0, atol=1e-12)  # a rounding of two products
    assert read.files == (("day/a.b.png", "empty.jpg", "unlabelled.jpg") if images else ("day/a.b", "empty"))
    assert (None if read.scores is None else read.scores.tolist()) == (None if layout.score == "none" else [0.75])


def test_yolo_shares_are_of_the_upright_picture(tmp_path: Path) -> None:
    """Turned by EXIF: 100 x 80 as stored, 80 x 100 as shown."""
    photo(tmp_path / "images" / "a.jpg", orientation=6)
    put(tmp_path / "labels" / "a.txt", "1 0.5 0.5 0.5 0.5")
    read = read_text(tmp_path / "labels", YOLO, images=tmp_path / "images", names=("cat", "dog"))
    assert rows(read) == [("a.jpg", "dog", 20, 25, 60, 75)]
    assert read.sizes_hw == ((100, 80),)


def test_open_images(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / "images" / name)
    table = put(
        tmp_path / "boxes.csv",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        'a,xclick,/m/01yrx,1,0.1,"0,305",0.25,0.5,1\nb,xclick,,,,,,,\n',
    )
    read = read_open_images(table, tmp_path / "images", names={"/m/01yrx": "cat"})
    assert [row[:2] for row in rows(read)] == [("a.jpg", "cat")]
    np.testing.assert_allclose(read.xyxy, [[10, 20, 30.5, 40]], rtol=0, atol=1e-12)  # a rounding of two products
    assert (read.is_crowd.tolist(), read.scores, len(read.files)) == ([True], None, 2)
    found = read_open_images(table, tmp_path / "images", are_detections=True)
    assert found.scores is not None
    assert (found.scores.tolist(), found.classes) == ([1], ("/m/01yrx",))


def test_written_and_read_again(tmp_path: Path) -> None:
    wanted = sample()
    write_coco(wanted, tmp_path / "a.json")
    write_voc(wanted, tmp_path / "voc")
    write_yolo(wanted, tmp_path / "yolo")
    for file, size in zip(wanted.files, wanted.sizes_hw, strict=True):
        assert size is not None
        photo(tmp_path / "images" / file, (size[1], size[0]))
    names = tmp_path / "yolo" / "classes.txt"
    again = {
        "coco": read_coco(tmp_path / "a.json"),
        "voc": read_voc(tmp_path / "voc"),
        "yolo": read_text(tmp_path / "yolo" / "labels", YOLO, images=tmp_path / "images", names=names),
    }
    for form, read in again.items():
        assert sorted(row[:2] for row in rows(read)) == sorted(row[:2] for row in rows(wanted)), form
        # VOC keeps thousandths of a pixel, YOLO eight decimals of a share of the picture.
        ours, theirs = (sorted(row[2:] for row in rows(one)) for one in (read, wanted))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 if form == "voc" else 1e-5, err_msg=form)
        assert set(read.files) == set(wanted.files), form
        assert dict(zip(read.files, read.sizes_hw, strict=True)) == dict(
            zip(wanted.files, wanted.sizes_hw, strict=True)
        ), form
    assert '  0: "dog: \\"big\\""\n' in (tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8")


def test_scores_go_through_yolo_and_coco(tmp_path: Path) -> None:
    one = sample()
    scored = dataclasses.replace(one, scores=np.array([0.5, 0.25, 0.125]))
    write_coco(scored, tmp_path / "a.json")
    write_yolo(scored, tmp_path)
    for file, size in zip(one.files, one.sizes_hw, strict=True):
        assert size is not None
        photo(tmp_path / "images" / file, (size[1], size[0]))
    yolo = read_text(tmp_path / "labels", YOLO_DETECTIONS, images=tmp_path / "images", names=one.classes)
    for read in (read_coco(tmp_path / "a.json"), yolo):
        assert read.scores is not None
        assert sorted(read.scores.tolist()) == [0.125, 0.25, 0.5]


def test_plain_values() -> None:
    value = json.loads(json.dumps(sample().to_dict()))
    assert value["rows"][0] == {"file": "day/a.jpg", "label": "cat", "xyxy": [10, 20, 30.5, 40]}
    assert (len(value["rows"]), value["files"][1]) == (3, "b & <c>.png")


def test_results_of_models_become_annotations(tmp_path: Path) -> None:
    size = (80, 100)
    box = Detections(np.array([[10, 20, 30.5, 40]], np.float32), np.array([0.5]), np.array([1]), ("dog", "cat"), size)
    none = Detections.none(("cat", "elk"), size)
    one = from_results(["a.jpg", "b.jpg"], [box, none])
    assert rows(one) == [("a.jpg", "cat", 10, 20, 30.5, 40)]
    assert (one.classes, one.files, one.sizes_hw) == (("dog", "cat", "elk"), ("a.jpg", "b.jpg"), (size, size))
    assert one.scores is not None
    assert one.scores.tolist() == [0.5]
    assert from_results(["a.jpg"], [box], has_scores=False).scores is None
    mask = np.zeros(size, np.bool_)
    mask[20:40, 10:30] = True
    rles = (Rle.of(mask), Rle.of(np.zeros(size, np.bool_)))
    masks = Masks(rles, np.array([0.9, 0.8]), np.array([-1, -1]), (), size)
    two = from_results(["a.jpg"], [masks])
    assert rows(two) == [("a.jpg", "object", 10, 20, 30, 40)], "an empty mask is left out"
    assert (two.masks, two.areas.tolist()) == ((Rle.of(mask).to_coco(),), [400])
    write_coco(two, tmp_path / "a.json")
    assert read_coco(tmp_path / "a.json", masks=True).masks == two.masks
    assert len(from_results([], [])) == 0
    with pytest.raises(BadRequest, match="one result for each of 2 files"):
        from_results(["a", "b"], [box])
    with pytest.raises(BadRequest, match="all of one kind"):
        from_results(["a", "b"], [box, masks])
