"""Arithmetic of pixels: resizing that returns its own inverse, boxes, and masks as runs. Pure numpy and Pillow."""

from __future__ import annotations

from anmok.geometry.boxes import area, clipped, from_cxcywh, iou, nms, to_xywh
from anmok.geometry.frames import (
    Filter,
    Fit,
    Frame,
    Pixels,
    View,
    difference_hash,
    fit,
    flip,
    normalise,
    prepare,
    resized,
    view,
)
from anmok.geometry.runs import Rle

__all__ = [
    "Filter",
    "Fit",
    "Frame",
    "Pixels",
    "Rle",
    "View",
    "area",
    "clipped",
    "difference_hash",
    "fit",
    "flip",
    "from_cxcywh",
    "iou",
    "nms",
    "normalise",
    "prepare",
    "resized",
    "to_xywh",
    "view",
]
