"""How good detections, masks, tracks, depth and keypoints are, by the measures that papers report.

Each function takes arrays or ``Annotations`` and gives a frozen value with ``to_dict()``. What a well-kept library
computes is left to it (COCO's evaluation to faster-coco-eval); the rest is numpy.
"""

from __future__ import annotations

from anmok.metrics.annotations import Annotations, from_images, from_results
from anmok.metrics.anomaly import PixelScores, aupro, auroc, average_precision, pixel_scores
from anmok.metrics.coco import ClassScores, CocoScores, coco_ap
from anmok.metrics.depth import DepthScores, depth_scores, mean_depth_scores
from anmok.metrics.keypoints import (
    COCO_SIGMAS,
    KeypointScores,
    PckScores,
    People,
    Poses,
    box_sizes,
    head_sizes,
    keypoint_ap,
    oks,
    pck,
)
from anmok.metrics.regions import LabelMapScores, boundary_f, confusion, label_map_scores, region_iou
from anmok.metrics.video import DavisScores, OverTime, TrackScores, davis_scores, track_scores
from anmok.metrics.voc import VocClass, VocScores, voc_ap

__all__ = [
    "COCO_SIGMAS",
    "Annotations",
    "ClassScores",
    "CocoScores",
    "DavisScores",
    "DepthScores",
    "KeypointScores",
    "LabelMapScores",
    "OverTime",
    "PckScores",
    "People",
    "PixelScores",
    "Poses",
    "TrackScores",
    "VocClass",
    "VocScores",
    "aupro",
    "auroc",
    "average_precision",
    "boundary_f",
    "box_sizes",
    "coco_ap",
    "confusion",
    "davis_scores",
    "depth_scores",
    "from_images",
    "from_results",
    "head_sizes",
    "keypoint_ap",
    "label_map_scores",
    "mean_depth_scores",
    "oks",
    "pck",
    "pixel_scores",
    "region_iou",
    "track_scores",
    "voc_ap",
]
