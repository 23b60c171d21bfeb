"""Annotations as lines of text: YOLO's and plain ones, one file per picture, and Open Images' one table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from anmok import files
from anmok.errors import BadData, BadRequest
from anmok.metrics.annotations import sources
from anmok.metrics.annotations.value import Annotations, Builder, Row, picture_key
from anmok.metrics.annotations.xml import targets

Box = tuple[float, float, float, float]
Corners = Literal["xyxy", "xywh", "cxcywh"]
_COLUMNS = ("XMin", "YMin", "XMax", "YMax")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a line reads: the class, four numbers, and for detections a score before or after them.

    ``xyxy`` are corners, ``xywh`` the left upper corner and the size, ``cxcywh`` the centre and the size: in pixels,
    or in shares of the picture where ``is_relative``.
    """

    box: Corners
    is_relative: bool = False
    score: Literal["none", "first", "last"] = "none"

    def __post_init__(self) -> None:
        if self.box not in get_args(Corners) or self.score not in ("none", "first", "last"):
            raise BadRequest(f"layout: unknown box {self.box!r} or score {self.score!r}")


YOLO = Layout("cxcywh", is_relative=True)
YOLO_DETECTIONS = Layout("cxcywh", is_relative=True, score="last")


def read_text(
    path: Path, layout: Layout, *, images: Path | None = None, names: Path | tuple[str, ...] | None = None
) -> Annotations:
    """One text file per picture and one box per line; a file without lines is a picture without boxes.

    Args:
        path: a file, or a folder of ``.txt`` files.
        layout: how a line reads.
        images: the folder of the pictures, which relative boxes need. Each picture that is there without a text file
            counts as one without boxes.
        names: what the classes are called, where lines number them (from 0): given, or one a line in a file.
            ``None`` takes the word in the line as the name; it may contain spaces.

    Raises:
        BadData: a line that does not read so, a number without name, or a picture that is not there.
    """
    if layout.is_relative and images is None:
        raise BadRequest("relative boxes need the folder of the pictures: give images")
    labels = None if names is None else sources.class_names(names)
    known = {} if images is None else sources.pictures(images)
    found = {_key(path, file): file for file in sources.files(path, ".txt") if not _is_name_list(file, names)}
    if images is not None and (lost := sorted(found.keys() - known.keys())):
        raise BadData(f"{found[lost[0]]}: no picture {lost[0]!r} below {images}")
    builder = Builder(list(labels or ()), is_ordered=labels is not None)
    for key in sorted(found.keys() | known.keys()):
        file = known[key].relative_to(images).as_posix() if images is not None else key
        size_hw = sources.upright_size(known[key]) if key in known else None
        image = builder.picture(str(found.get(key, images)), file, size_hw)
        for where, words in sources.lines(found[key]) if key in found else ():
            builder.add(where, image, _row(where, words, layout, labels, size_hw))
    return builder.done()


def write_yolo(annotations: Annotations, folder: Path) -> None:
    """YOLO's label files below ``labels/``, with ``classes.txt`` and ``data.yaml``; scores go last in a line.

    Raises:
        BadData: a picture of unknown size, two pictures of one name, or a name that leads out of the folder.
        CannotWrite: the disk refuses.
    """
    for path, image in sorted(targets(annotations, folder / "labels", ".txt").items()):
        size_hw = annotations.sizes_hw[image]
        if size_hw is None:
            raise BadData(f"{annotations.files[image]}: YOLO's format needs the size of the picture")
        rows = np.flatnonzero(annotations.image_ids == image)
        xyxy = annotations.xyxy[rows] / np.array([size_hw[1], size_hw[0]] * 2)  # (n, 4), shares of the picture
        cxcywh = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        lines = [
            " ".join(
                [str(annotations.class_ids[row]), *(f"{value:.8f}" for value in box)]
                + ([] if annotations.scores is None else [f"{annotations.scores[row]:.6f}"])
            )
            for row, box in zip(rows, cxcywh, strict=True)
        ]
        files.write_text(path, "".join(f"{line}\n" for line in lines))
    files.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in annotations.classes))
    names = "".join(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(annotations.classes))
    files.write_text(folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")


def read_open_images(
    path: Path,
    images: Path,
    *,
    are_detections: bool = False,
    names: Mapping[str, str] | None = None,
) -> Annotations:
    """Open Images' table of boxes (CSV), in shares of the picture.

    Args:
        path: the table, with columns ImageID, LabelName, XMin, XMax, YMin, YMax, and Confidence for detections.
        images: the folder of the pictures; those without a row count as pictures without boxes.
        are_detections: Confidence is a score; in ground truth it says who drew the box and is ignored.
        names: names for machine ids such as ``/m/01yrx``; a label that is not among them stays as it is.

    A row with IsGroupOf = 1 is a region of many, as COCO's crowd. A row without label or numbers says that the
    picture was looked at.

    Raises:
        BadData: a column is missing, a cell is no number, or a picture is not there.
    """
    known = sources.pictures(images)
    builder = Builder()
    index: dict[str, int] = {}
    for key, file in known.items():
        index[key] = builder.picture(str(images), file.relative_to(images).as_posix(), sources.upright_size(file))
    table = csv.DictReader(io.StringIO(sources.text(path), newline=""))
    wanted = {"ImageID", "LabelName", *_COLUMNS} | ({"Confidence"} if are_detections else set())
    if missing := sorted(wanted - set(table.fieldnames or ())):
        raise BadData(f"{path}: no column {', '.join(missing)}")
    for count, record in enumerate(table, 2):
        where, key = f"{path}, line {count}", picture_key(record["ImageID"] or "")
        if key not in index:
            raise BadData(f"{where}: no picture {key!r} below {images}")
        if not record["LabelName"] or not all(record[column] for column in _COLUMNS):
            continue
        corners = [sources.number(f"{where}, {column}", record[column]) for column in _COLUMNS]
        box = _pixels(where, corners, Layout("xyxy", is_relative=True), builder.size_of(index[key]))
        label = (names or {}).get(record["LabelName"], record["LabelName"])
        score = sources.number(f"{where}, Confidence", record["Confidence"]) if are_detections else None
        builder.add(where, index[key], Row(label, box, score, is_crowd=record.get("IsGroupOf") == "1"))
    return builder.done()


def _row(
    where: str, words: list[str], layout: Layout, labels: tuple[str, ...] | None, size_hw: tuple[int, int] | None
) -> Row:
    width = 4 if layout.score == "none" else 5
    if len(words) <= width:
        raise BadData(f"{where}: {len(words)} words, want a class and {width} numbers")
    numbers = [sources.number(where, word) for word in words[-width:]]
    score = None
    if layout.score != "none":
        score = numbers.pop(0 if layout.score == "first" else -1)
    label = " ".join(words[:-width])
    if labels is not None:
        if not label.isdecimal() or int(label) >= len(labels):
            raise BadData(f"{where}: class {label!r} is not a number from 0 to {len(labels) - 1}")
        label = labels[int(label)]
    return Row(label, _pixels(where, numbers, layout, size_hw), score)


def _pixels(where: str, numbers: list[float], layout: Layout, size_hw: tuple[int, int] | None) -> Box:
    a, b, c, d = numbers
    if layout.is_relative:
        assert size_hw is not None
        if max(numbers) > 2:  # a box may stick out of the picture, but not by its whole width
            raise BadData(f"{where}: ({a:g}, {b:g}, {c:g}, {d:g}) is not in shares of the picture; in pixels?")
        a, b, c, d = a * size_hw[1], b * size_hw[0], c * size_hw[1], d * size_hw[0]
    if layout.box == "xywh":
        return a, b, a + c, b + d
    if layout.box == "cxcywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _key(path: Path, file: Path) -> str:
    below = file.relative_to(path) if path.is_dir() else Path(file.name)
    return below.with_suffix("").as_posix()


def _is_name_list(file: Path, names: Path | tuple[str, ...] | None) -> bool:
    """The list of names often lies among the labels."""
    return (isinstance(names, Path) and file == names) or file.name == "classes.txt"
