"""Annotation formats: what each reader makes of a small file, what the writers give back, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.geometry import Rle
from anmok.metrics.annotations import (
    YOLO,
    YOLO_DETECTIONS,
    Annotations,
    Layout,
    from_images,
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

VOC = """<annotation><filename>{name}</filename>
<size><width>100</width><height>80</height><depth>3</depth></size>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>{xmin}</xmin><ymin>20</ymin><xmax>30.5</xmax><ymax>40</ymax></bndbox></object>
<object><name>traffic light</name><bndbox><ymin>2</ymin><xmin>1</xmin><ymax>4</ymax><xmax>3</xmax></bndbox></object>
</annotation>"""
CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
<image id="0" name="day/a.jpg" width="100" height="80"><tag label="sunny"/>
<box label="cat" xtl="10.25" ytl="20" xbr="30.5" ybr="40"/>
<polygon label="dog" points="1,2;9,2;5,12.5"/><points label="eye" points="1,1"/></image>
<image id="1" name="day/b.jpg" width="100" height="80"/></annotations>"""
LABELME = {
    "imagePath": "..\\photos\\a.jpg",
    "imageWidth": 100,
    "imageHeight": 80,
    "shapes": [
        {"label": "cat", "points": [[30.5, 40], [10, 20]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[1, 2], [9, 2], [5, 12.5]], "shape_type": "polygon"},
        {"label": "eye", "points": [[1, 2], [9, 2]], "shape_type": "circle"},
    ],
}
COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 100, "height": 80},
        {"id": 3, "file_name": "a.jpg", "width": 100, "height": 80},
    ],
    "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 20, 20.5, 20], "area": 99, "iscrowd": 1},
        {"id": 2, "image_id": 3, "category_id": 9, "bbox": [1, 2, 8, 10.5]},
    ],
}


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def photo(path: Path, size_wh: tuple[int, int] = (100, 80), orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = pillow.Exif()
    exif[0x0112] = orientation
    pillow.new("RGB", size_wh, "red").save(path, exif=exif)
    return path


def rows(one: Annotations) -> list[tuple[Any, ...]]:
    """File, label and box of every row."""
    return [
        (one.files[i], one.classes[k], *box)
        for i, k, box in zip(one.image_ids, one.class_ids, one.xyxy.tolist(), strict=True)
    ]


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
    ("size", "counts", "message"),
    [
        ([80, 100], [7999], "runs do not fill"),
        ([80, 100], "PPP", "runs do not fill"),
        ([80, 100], "\u00e9", "not a COCO RLE"),
        ([80, 100], None, "not a COCO RLE|not fill"),
        ("huge", [8000], "mask of huge in a picture"),
        (3, [8000], "mask of 3 in a picture"),
    ],
)
def test_runs_that_do_not_fill_the_picture_are_named(
    tmp_path: Path, size: object, counts: object, message: str
) -> None:
    """The library that compares masks trusts them: in C, a run too many writes past the end."""
    row = COCO["annotations"][0] | {"segmentation": {"size": size, "counts": counts}}
    with pytest.raises(BadData, match=message):
        read_coco(put(tmp_path / "a.json", COCO | {"annotations": [row]}), masks=True)


def test_a_mask_of_any_size_is_not_unpacked(tmp_path: Path) -> None:
    row = COCO["annotations"][0] | {"segmentation": {"size": [60000, 60000], "counts": [3_600_000_000]}}
    images = [{"id": 7, "file_name": "b.jpg", "width": 60000, "height": 60000}]
    with pytest.raises(BadData, match="a mask of 60000 x 60000 is over the limit; raise ANMOK_MAX_PIXELS"):
        read_coco(put(tmp_path / "a.json", COCO | {"annotations": [row], "images": images}), masks=True)


def test_polygons_name_the_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core", None)
    row = COCO["annotations"][0] | {"segmentation": [[1, 1, 5, 1, 5, 5]]}
    with pytest.raises(MissingDependency, match=r"anmok\[spatial\]"):
        read_coco(put(tmp_path / "a.json", COCO | {"annotations": [row]}), masks=True)


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


def sample() -> Annotations:
    boxes = [np.array([[10, 20, 30.5, 40], [1.125, 2, 9, 12.5]]), np.zeros((0, 4)), np.array([[0, 0, 3, 4]])]
    ids = [np.array([1, 0]), np.zeros(0, int), np.array([1])]
    files = ["day/a.jpg", "b & <c>.png", "고양이.jpg"]
    return from_images(files, ['dog: "big"', "cat"], boxes, ids, None, [(80, 100), (3, 1), (33, 77)])


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


@pytest.mark.parametrize("file", ["../a.jpg", "/a.jpg", "C:\\a.jpg", "a/../../b.jpg", ""])
@pytest.mark.parametrize("write", [write_voc, write_yolo])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, file: str, write: Callable[[Annotations, Path], None]) -> None:
    one = from_images([file], ["cat"], [np.ones((1, 4))], [np.zeros(1, int)], None, [(5, 5)])
    with pytest.raises(BadData, match="leads out of"):
        write(one, tmp_path / "here")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("write", [write_voc, write_yolo])
def test_writers_refuse_what_they_cannot_say(tmp_path: Path, write: Callable[[Annotations, Path], None]) -> None:
    boxes, ids = [np.ones((1, 4))] * 2, [np.zeros(1, int)] * 2
    with pytest.raises(BadData, match="needs the size"):
        write(from_images(["a.jpg", "b.jpg"], ["cat"], boxes, ids), tmp_path)
    with pytest.raises(BadData, match=r"a\.png and a\.jpg would both be written"):
        write(from_images(["a.jpg", "a.png"], ["cat"], boxes, ids, None, [(5, 5)] * 2), tmp_path)


def changed(**changes: object) -> dict[str, Any]:
    """``COCO`` with fields of its second annotation, or of the whole, replaced; ``None`` takes one away."""
    document = json.loads(json.dumps(COCO))
    for name, value in changes.items():
        target = document if name in document else document["annotations"][1]
        if value is None:
            del target[name]
        else:
            target[name] = value
    return document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "not a JSON object"),
        (changed(images=None), "'images' is missing"),
        (changed(annotations={}), "'annotations' is not a list"),
        (changed(annotations=[3]), "annotation 0: not a JSON object"),
        (changed(bbox=None), "annotation 1: 'bbox' is missing"),
        (changed(bbox=[1, 2, 3]), "annotation 1: bbox has 3 numbers"),
        (changed(bbox=[1, 2, 3, "x"]), "annotation 1, bbox: 'x' is not a number"),
        (changed(bbox=[1, 2, 3, float("inf")]), "annotation 1, bbox: inf is not a number"),
        (changed(bbox=[1, 2, -3, 4], score=0.5), "annotation 1: box .* ends before it starts"),
        (changed(score=0.5), "1 of 2 rows have a score"),
        (changed(image_id=99), "annotation 1: image_id 99 is not among those of"),
        (changed(category_id=0.5), "annotation 1: 0.5 is not a whole number"),
        (changed(categories=[{"id": 2, "name": "a"}, {"id": 9, "name": "a"}]), "two classes are called 'a'"),
        (changed(images=[{"id": 3, "file_name": "a"}, {"id": 3, "file_name": "b"}]), "image 1: id 3 is there twice"),
        (changed(images=[{"id": 3, "file_name": "a", "width": 0, "height": 5}]), "picture of 0 x 5 pixels"),
    ],
)
def test_malformed_coco_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(BadData, match=message) as caught:
        read_coco(put(tmp_path / "bad.json", content))
    assert "bad.json" in str(caught.value) or str(caught.value).startswith("annotations: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not XML"),
        ("<annotation>", "not XML"),
        ("<annotation><object/></annotation>", "object 0: <name> is missing or empty"),
        (VOC.format(name="a", xmin="left"), "object 0, xmin: 'left' is not a number"),
        (VOC.format(name="a", xmin=""), "object 0: <bndbox/xmin> is missing or empty"),
        (VOC.replace("<width>100</width>", "").format(name="a", xmin=1), "<size/width> is missing"),
        ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "has a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a document type"),
        ("<a>&lol;</a>", "not XML"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_malformed_xml_is_named(tmp_path: Path, content: str, message: str, encoding: str) -> None:
    (tmp_path / "bad.xml").write_text(content, encoding=encoding)
    with pytest.raises(BadData, match=message) as caught:
        read_voc(tmp_path)
    assert "bad.xml" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1 2 3", "line 2: 4 words, want a class and 4 numbers"),
        ("0 0.1 0.1 0.1 x", "line 2: 'x' is not a number"),
        ("0 0.1 0.1 0.1 nan", "line 2: 'nan' is not a number"),
        ("2 0.1 0.1 0.1 0.1", "line 2: class '2' is not a number from 0 to 1"),
        ("cat 0.1 0.1 0.1 0.1", "line 2: class 'cat' is not a number from 0 to 1"),
        ("0 10 20 30 40", "line 2: .* is not in shares of the picture"),
    ],
)
def test_malformed_yolo_is_named(tmp_path: Path, line: str, message: str) -> None:
    photo(tmp_path / "images" / "a.jpg")
    put(tmp_path / "labels" / "a.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(BadData, match=message):
        read_text(tmp_path / "labels", YOLO, images=tmp_path / "images", names=("cat", "dog"))


def test_pictures_and_labels_have_to_fit(tmp_path: Path) -> None:
    put(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1")
    with pytest.raises(BadRequest, match="unknown box 'yxyx'"):
        Layout("yxyx")  # type: ignore[arg-type]
    with pytest.raises(BadData, match="two classes are called 'cat'"):
        read_text(tmp_path / "labels", Layout("xyxy"), names=("cat", "dog", "cat"))
    with pytest.raises(BadRequest, match="give images"):
        read_text(tmp_path / "labels", YOLO)
    with pytest.raises(BadData, match="no picture below it"):
        read_text(tmp_path / "labels", YOLO, images=tmp_path / "labels")
    photo(tmp_path / "images" / "b.jpg")
    with pytest.raises(BadData, match="no picture 'a' below"):
        read_text(tmp_path / "labels", YOLO, images=tmp_path / "images")
    photo(tmp_path / "images" / "b.png")
    with pytest.raises(BadData, match="shares its name"):
        read_text(tmp_path / "labels", YOLO, images=tmp_path / "images")
    put(tmp_path / "broken" / "a.jpg", "no picture")
    with pytest.raises(BadData, match="size cannot be read"):
        read_text(tmp_path / "labels", YOLO, images=tmp_path / "broken")


@pytest.mark.parametrize(
    ("read", "message"),
    [(read_voc, r"no \.xml file below it"), (read_labelme, r"no \.json file below it"), (read_coco, "cannot be read")],
)
def test_an_empty_folder_is_named(tmp_path: Path, read: Callable[[Path], Annotations], message: str) -> None:
    with pytest.raises(BadData, match=message):
        read(tmp_path)
    with pytest.raises(BadData, match=r"no such file or folder|cannot be read"):
        read(tmp_path / "nowhere")


def test_two_files_for_one_picture_are_refused(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        put(tmp_path / folder / "a.xml", VOC.format(name="a.jpg", xmin=10))
    with pytest.raises(BadData, match=r"val/a\.xml: picture 'a\.jpg' is there twice"):
        read_voc(tmp_path)


def test_boxes_without_area_are_left_out_and_listed(tmp_path: Path) -> None:
    read = read_voc(put(tmp_path / "a.xml", VOC.format(name="a.jpg", xmin=30.5)))
    assert rows(read) == [("a.jpg", "traffic light", 1, 2, 3, 4)]
    [line] = read.dropped
    assert line.endswith("a.xml, object 0: 'cat' without area: (30.5, 20, 30.5, 40)")


@pytest.mark.parametrize("xmax", [5, float("nan")])
def test_the_value_checks_itself(xmax: float) -> None:
    one = sample()
    with pytest.raises(BadRequest, match="xyxy"):
        dataclasses.replace(one, xyxy=np.array([[1, 2, xmax, 4]] if np.isfinite(xmax) else [[1, 2, xmax, 4]] * 3))
    with pytest.raises(BadRequest, match="class_ids"):
        dataclasses.replace(one, class_ids=np.array([0, 1, 2]))
    with pytest.raises(BadRequest, match="one size per picture"):
        dataclasses.replace(one, sizes_hw=())
    with pytest.raises(ValueError, match="read-only"):
        one.xyxy[0] = 0
    with pytest.raises(BadRequest, match="ends before it starts"):
        from_images(["a"], ["cat"], [np.array([[10, 20, 5, 40.0]])], [np.zeros(1, int)])
    with pytest.raises(BadRequest, match="one array per picture"):
        from_images(["a"], ["cat"], [np.ones((2, 4))], [np.zeros(1, int)])


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


READERS: tuple[tuple[Callable[[Path], Annotations], str, bytes], ...] = (
    (read_voc, ".xml", VOC.format(name="a.jpg", xmin=10).encode()),
    (read_cvat, ".xml", CVAT.encode()),
    (read_labelme, ".json", json.dumps(LABELME).encode()),
    (read_coco, ".json", json.dumps(COCO).encode()),
    (lambda path: read_text(path, Layout("xywh")), ".txt", b"traffic light 10 20 20.5 20\ncat 1 2 3 4\n"),
)


@pytest.mark.parametrize(("read", "suffix", "content"), READERS, ids=["voc", "cvat", "labelme", "coco", "text"])
def test_damage_is_said_or_does_no_harm(
    tmp_path: Path, read: Callable[[Path], Annotations], suffix: str, content: bytes
) -> None:
    """Cut short, or a word replaced: boxes with area come out, or one line that says what is wrong."""
    rng = np.random.default_rng(0)
    words = [b"null", b"-1", b"1e999", b"{}", b"[]", b'""', b"true", b"\xff", b"\0", b"9" * 400, b"9" * 5000, b"12"]
    spans = [match.span() for match in re.finditer(rb"[\w.]+|[<>{}\[\],:]", content)]
    path = tmp_path / f"bad{suffix}"
    refused = accepted = 0
    for trial in range(150):
        start, end = spans[int(rng.integers(len(spans)))]
        path.write_bytes(content[:start] + (words[trial % len(words)] + content[end:] if trial % 10 else b""))
        try:
            one = read(path)
        except BadData as error:
            refused += "\n" not in str(error)
            continue
        assert np.isfinite(one.xyxy).all()
        assert (one.xyxy[:, 2:] >= one.xyxy[:, :2]).all()
        accepted += 1
    assert refused + accepted == 150, "a refusal of several lines"
    assert min(refused, accepted) > 3
