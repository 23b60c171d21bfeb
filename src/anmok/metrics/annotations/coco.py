"""COCO's JSON, read and written, and LabelMe's, read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from anmok import files, media
from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.geometry import Rle
from anmok.metrics.annotations import sources
from anmok.metrics.annotations.value import Annotations, Builder, Row


def read_coco(path: Path, *, ids_from: Path | None = None, masks: bool = False) -> Annotations:
    """COCO instances (an object), or COCO results (a list of detections).

    Args:
        path: the JSON file.
        ids_from: for results, the instances file whose pictures and categories their numbers mean.
        masks: read the segmentations too: RLE as it is, polygons drawn into one.

    Pictures come in the order of their ids and classes in the order of theirs, so that ties fall as in COCO's own
    evaluation. A ``bbox`` is (left, top, width, height). ``area`` is COCO's where it is given, since that decides
    between small, medium and large.

    Raises:
        BadData: the file is malformed; the message names the entry.
        MissingDependency: polygons without faster-coco-eval.
    """
    value = sources.json_value(path)
    document = value
    if isinstance(value, list):
        if ids_from is None:
            raise BadData(f"{path}: a list of results numbers pictures and classes; give the ground truth as ids_from")
        document = sources.json_value(ids_from)
    builder = Builder(is_ordered=True)
    source = path if ids_from is None or not isinstance(value, list) else ids_from
    labels = _categories(source, document, builder)
    images = _images(source, document, builder)
    rows = value if isinstance(value, list) else sources.entries(str(path), document, "annotations")
    for count, record in enumerate(rows):
        where = f"{path}, annotation {count}"
        image = images.get(sources.whole(where, sources.entry(where, record, "image_id")))
        label = labels.get(sources.whole(where, sources.entry(where, record, "category_id")))
        if image is None or label is None:
            missing = "image_id" if image is None else "category_id"
            raise BadData(f"{where}: {missing} {record[missing]!r} is not among those of {source}")
        mask = _mask(where, record, builder.size_of(image)) if masks else None
        builder.add(where, image, _row(where, record, label, mask))
    return builder.done()


def write_coco(annotations: Annotations, path: Path) -> None:
    """COCO instances as one JSON file; scores and masks go with them where they are there. Numbers start at 1.

    Raises:
        CannotWrite: the disk refuses.
    """
    xywh = np.concatenate([annotations.xyxy[:, :2], annotations.xyxy[:, 2:] - annotations.xyxy[:, :2]], axis=1)
    rows: list[dict[str, Any]] = [
        {
            "id": i + 1,
            "image_id": int(annotations.image_ids[i]) + 1,
            "category_id": int(annotations.class_ids[i]) + 1,
            "bbox": xywh[i].tolist(),
            "area": float(annotations.areas[i]),
            "iscrowd": int(annotations.is_crowd[i]),
        }
        for i in range(len(annotations))
    ]
    for i, row in enumerate(rows):
        if annotations.scores is not None:
            row["score"] = float(annotations.scores[i])
        row["segmentation"] = [] if annotations.masks is None else _plain(annotations.masks[i])
    images = [
        {"id": i + 1, "file_name": file} | ({} if size is None else {"height": size[0], "width": size[1]})
        for i, (file, size) in enumerate(zip(annotations.files, annotations.sizes_hw, strict=True))
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(annotations.classes)]
    document = {"images": images, "annotations": rows, "categories": categories}
    files.write_text(path, json.dumps(document, ensure_ascii=False))


def read_labelme(path: Path) -> Annotations:
    """LabelMe's JSON, one file per picture: rectangles, and the boxes around polygons; other shapes are listed.

    Args:
        path: a file, or a folder of them.

    Raises:
        BadData: a file is malformed; the message names the shape.
    """
    builder = Builder()
    for file in sources.files(path, ".json"):
        document = sources.json_value(file)
        size_hw = (
            sources.whole(f"{file}, imageHeight", sources.entry(str(file), document, "imageHeight")),
            sources.whole(f"{file}, imageWidth", sources.entry(str(file), document, "imageWidth")),
        )
        name = str(sources.entry(str(file), document, "imagePath")).replace("\\", "/").rsplit("/", 1)[-1]
        image = builder.picture(str(file), name, size_hw)
        for count, shape in enumerate(sources.entries(str(file), document, "shapes")):
            where = f"{file}, shape {count}"
            label, kind = str(sources.entry(where, shape, "label")), shape.get("shape_type", "rectangle")
            if kind not in ("rectangle", "polygon"):
                builder.drop(f"{where}: a {kind} is no box")
                continue
            builder.add(where, image, Row(label, _around(where, sources.entries(where, shape, "points"))))
    return builder.done()


def _categories(path: Path, document: object, builder: Builder) -> dict[int, str]:
    found: dict[int, str] = {}
    for count, record in enumerate(sources.entries(str(path), document, "categories")):
        where = f"{path}, category {count}"
        found[sources.whole(where, sources.entry(where, record, "id"))] = str(sources.entry(where, record, "name"))
    builder.labels = [found[key] for key in sorted(found)]
    return found


def _images(path: Path, document: object, builder: Builder) -> dict[int, int]:
    records: dict[int, tuple[str, str, tuple[int, int] | None]] = {}
    for count, record in enumerate(sources.entries(str(path), document, "images")):
        where = f"{path}, image {count}"
        key = sources.whole(where, sources.entry(where, record, "id"))
        if key in records:
            raise BadData(f"{where}: id {key} is there twice")
        size = None
        if "height" in record and "width" in record:
            size = sources.whole(where, record["height"]), sources.whole(where, record["width"])
        records[key] = where, str(sources.entry(where, record, "file_name")), size
    return {key: builder.picture(*records[key]) for key in sorted(records)}


def _row(where: str, record: dict[str, Any], label: str, mask: Rle | None) -> Row:
    if record.get("bbox") is None and mask is not None:
        box = list(mask.xyxy)
    else:
        box = [sources.number(f"{where}, bbox", value) for value in sources.entries(where, record, "bbox")]
        if len(box) != 4:
            raise BadData(f"{where}: bbox has {len(box)} numbers, want 4")
        box[2:] = [box[0] + box[2], box[1] + box[3]]
    score, area = (
        None if record.get(key) is None else sources.number(f"{where}, {key}", record[key]) for key in ("score", "area")
    )
    is_crowd = bool(sources.whole(f"{where}, iscrowd", record.get("iscrowd") or 0))
    # Results carry no area of their own: COCO's evaluation measures the box, or the mask.
    if score is not None:
        area = None if mask is None else float(mask.area)
    runs = None if mask is None else mask.to_coco()
    return Row(label, (box[0], box[1], box[2], box[3]), score, is_crowd, area=area, mask=runs)


def _mask(where: str, record: dict[str, Any], size_hw: tuple[int, int] | None) -> Rle:
    segmentation = sources.entry(where, record, "segmentation")
    if size_hw is None:
        raise BadData(f"{where}: a mask needs height and width of its picture")
    if size_hw[0] * size_hw[1] > media.max_pixels():
        raise BadData(f"{where}: a mask of {size_hw[1]} x {size_hw[0]} is over the limit; raise ANMOK_MAX_PIXELS")
    runs = segmentation if isinstance(segmentation, dict) else _drawn(where, segmentation, size_hw)
    size = runs.get("size")
    if not isinstance(size, list | tuple) or tuple(size) != size_hw:
        raise BadData(f"{where}: mask of {size} in a picture of {list(size_hw)}")
    try:
        return Rle.from_coco(runs)
    except BadRequest as error:
        raise BadData(f"{where}: {error}") from None


def _drawn(where: str, polygons: Any, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Polygons as COCO draws them. faster-coco-eval does it, so that not a pixel differs from COCO's."""
    try:
        from faster_coco_eval.core import mask as drawing
    except ImportError:
        raise MissingDependency("COCO polygons need faster-coco-eval: pip install 'anmok[spatial]'") from None
    is_list = isinstance(polygons, list) and bool(polygons)
    if not is_list or not all(isinstance(one, list) and len(one) >= 6 and len(one) % 2 == 0 for one in polygons):
        raise BadData(f"{where}: segmentation is neither RLE nor a list of polygons with three points or more")
    rows = [[sources.number(f"{where}, segmentation", value) for value in one] for one in polygons]
    # The library walks along every edge pixel by pixel: one point at 1e9 would take hours.
    side = max(size_hw)
    if far := [value for row in rows for value in row if not -side <= value <= 2 * side]:
        raise BadData(f"{where}: a polygon reaches to {far[0]:g}, far outside of its picture")
    runs: Any = drawing.frPyObjects(rows, *size_hw)
    found: dict[str, Any] = drawing.merge(runs)
    return found


def _around(where: str, points: list[Any]) -> tuple[float, float, float, float]:
    rows = [[sources.number(where, value) for value in point] for point in points if isinstance(point, list)]
    if len(rows) < 2 or len(rows) != len(points) or any(len(row) != 2 for row in rows):
        raise BadData(f"{where}: points are not pairs (x, y), two or more")
    array = np.array(rows)  # (n, 2)
    (x1, y1), (x2, y2) = array.min(0), array.max(0)
    return float(x1), float(y1), float(x2), float(y2)


def _plain(rle: dict[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
