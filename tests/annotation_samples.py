"""One small file in each of the formats that annotations come in, and the same as a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

from anmok.metrics.annotations import (
    Annotations,
    from_images,
)

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


def sample() -> Annotations:
    boxes = [np.array([[10, 20, 30.5, 40], [1.125, 2, 9, 12.5]]), np.zeros((0, 4)), np.array([[0, 0, 3, 4]])]
    ids = [np.array([1, 0]), np.zeros(0, int), np.array([1])]
    files = ["day/a.jpg", "b & <c>.png", "고양이.jpg"]
    return from_images(files, ['dog: "big"', "cat"], boxes, ids, None, [(80, 100), (3, 1), (33, 77)])
