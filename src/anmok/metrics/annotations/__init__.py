"""Boxes on disk: readers for nine formats and writers for three, all to and from one value."""

from __future__ import annotations

from anmok.metrics.annotations.answers import from_results
from anmok.metrics.annotations.coco import read_coco, read_labelme, write_coco
from anmok.metrics.annotations.text import YOLO, YOLO_DETECTIONS, Layout, read_open_images, read_text, write_yolo
from anmok.metrics.annotations.value import Annotations, Mask, from_images
from anmok.metrics.annotations.xml import read_cvat, read_voc, write_voc

__all__ = [
    "YOLO",
    "YOLO_DETECTIONS",
    "Annotations",
    "Layout",
    "Mask",
    "from_images",
    "from_results",
    "read_coco",
    "read_cvat",
    "read_labelme",
    "read_open_images",
    "read_text",
    "read_voc",
    "write_coco",
    "write_voc",
    "write_yolo",
]
