"""Annotations that are damaged, do not fit their pictures, or cannot be written: each is named."""

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

from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.metrics.annotations import (
    YOLO,
    Annotations,
    Layout,
    from_images,
    read_coco,
    read_cvat,
    read_labelme,
    read_text,
    read_voc,
    write_voc,
    write_yolo,
)
from annotation_samples import COCO, CVAT, LABELME, VOC, photo, put, rows, sample


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
