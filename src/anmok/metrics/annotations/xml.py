"""Pascal VOC's and ImageNet's XML, read and written, and CVAT's, read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from anmok import files
from anmok.errors import BadData
from anmok.metrics.annotations import sources
from anmok.metrics.annotations.value import Annotations, Builder, Row

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Annotations:
    """Pascal VOC's or ImageNet's XML, one file per picture.

    Args:
        path: a file, or a folder of them.

    The four numbers are taken as they are written. VOC's own files count from 1 and include the last row and column;
    most tools that write this format do neither. ``voc_ap`` has VOC's measure of areas. Classes come in the order of
    the alphabet.

    Raises:
        BadData: a file is malformed; the message names the object.
    """
    builder = Builder()
    for file in sources.files(path, ".xml"):
        root = sources.xml_root(file)
        name = (root.findtext("filename") or "").strip() or file.stem
        image = builder.picture(str(file), name, _size(file, root))
        for count, thing in enumerate(root.iter("object")):
            where = f"{file}, object {count}"
            label = sources.child_text(where, thing, "name")
            x1, y1, x2, y2 = (
                sources.number(f"{where}, {corner}", sources.child_text(where, thing, f"bndbox/{corner}"))
                for corner in _CORNERS
            )
            is_difficult = (thing.findtext("difficult") or "").strip() == "1"
            builder.add(where, image, Row(label, (x1, y1, x2, y2), is_difficult=is_difficult))
    return builder.done()


def write_voc(annotations: Annotations, folder: Path) -> None:
    """One XML file per picture, named after it, with boxes to a thousandth of a pixel. Scores have no place in it.

    Raises:
        BadData: a picture of unknown size, two pictures of one name, or a name that leads out of the folder.
        CannotWrite: the disk refuses.
    """
    for path, image in sorted(targets(annotations, folder, ".xml").items()):
        size_hw = annotations.sizes_hw[image]
        if size_hw is None:
            raise BadData(f"{annotations.files[image]}: VOC's format needs the size of the picture")
        root = ElementTree.Element("annotation")
        _put(root, "filename", annotations.files[image])
        size = ElementTree.SubElement(root, "size")
        for key, value in (("width", size_hw[1]), ("height", size_hw[0]), ("depth", 3)):
            _put(size, key, str(value))
        for row in (annotations.image_ids == image).nonzero()[0]:
            thing = ElementTree.SubElement(root, "object")
            _put(thing, "name", annotations.classes[annotations.class_ids[row]])
            _put(thing, "difficult", str(int(annotations.is_difficult[row])))
            box = ElementTree.SubElement(thing, "bndbox")
            for key, corner in zip(_CORNERS, annotations.xyxy[row].tolist(), strict=True):
                _put(box, key, f"{corner:.3f}".rstrip("0").rstrip("."))
        ElementTree.indent(root)
        files.write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def read_cvat(path: Path) -> Annotations:
    """CVAT's "CVAT for images 1.1": boxes, and the boxes around turned ones and polygons; other shapes
    are listed.

    Args:
        path: a file, or a folder of them.

    Raises:
        BadData: a file is malformed; the message names the shape.
    """
    builder = Builder()
    for file in sources.files(path, ".xml"):
        for number, picture in enumerate(sources.xml_root(file).iter("image")):
            where = f"{file}, image {number}"
            size_hw = sources.whole(where, picture.get("height")), sources.whole(where, picture.get("width"))
            image = builder.picture(where, picture.get("name", ""), size_hw)
            for count, shape in enumerate(picture):
                here = f"{where}, shape {count}"
                if shape.tag == "tag":  # of the whole picture
                    continue
                if shape.tag not in ("box", "polygon"):
                    builder.drop(f"{here}: a {shape.tag} is no box")
                    continue
                builder.add(here, image, Row(shape.get("label", ""), _cvat_box(here, shape)))
    return builder.done()


def targets(annotations: Annotations, folder: Path, suffix: str) -> dict[Path, int]:
    """Where each picture's file goes, with the index of the picture.

    Raises:
        BadData: two pictures share a file, or a name leads out of the folder.
    """
    found: dict[Path, int] = {}
    for image, file in enumerate(annotations.files):
        path = sources.name_below(folder, file, suffix)
        if path in found:
            raise BadData(f"{file} and {annotations.files[found[path]]} would both be written to {path.name}")
        found[path] = image
    return found


def _size(file: Path, root: ElementTree.Element) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    height, width = (
        sources.whole(f"{file}, {key}", sources.child_text(str(file), root, f"size/{key}"))
        for key in ("height", "width")
    )
    return (height, width) if height and width else None  # some tools write 0 where they do not know


def _cvat_box(where: str, shape: ElementTree.Element) -> tuple[float, float, float, float]:
    if shape.tag == "box":
        x1, y1, x2, y2 = (sources.number(f"{where}, {key}", shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        angle = math.radians(sources.number(f"{where}, rotation", shape.get("rotation", "0")))
        return _turned(x1, y1, x2, y2, angle) if angle else (x1, y1, x2, y2)
    pairs = list(_pairs(where, shape.get("points", "")))
    if len(pairs) < 3:
        raise BadData(f"{where}: a polygon of {len(pairs)} points")
    xs, ys = zip(*pairs, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _turned(x1: float, y1: float, x2: float, y2: float, angle: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned about its centre."""
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    wide, high = (x2 - x1) * cos + (y2 - y1) * sin, (x2 - x1) * sin + (y2 - y1) * cos
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def _pairs(where: str, points: str) -> Iterator[tuple[float, float]]:
    for pair in filter(None, points.split(";")):
        x, _, y = pair.partition(",")
        yield sources.number(where, x), sources.number(where, y)


def _put(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
