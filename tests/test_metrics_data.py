"""Published numbers on published files: what others measured has to come out of our readers and measures as well."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from anmok.metrics import Annotations, coco_ap, track_scores, voc_ap
from anmok.metrics.annotations import Layout, read_coco, read_text, read_voc, write_coco, write_voc, write_yolo
from anmok.metrics.annotations.text import YOLO
from anmok.metrics.voc import Points

pytestmark = pytest.mark.data

DATA = Path(os.environ.get("ANMOK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
PADILLA = DATA / "det_metrics"  # github.com/rafaelpadilla/review_object_detection_metrics
COCO, CASE, TOY = PADILLA / "tests" / "test_coco_eval", PADILLA / "tests" / "test_case_1", PADILLA / "toyexample"
SIX = 5e-7  # equal to six decimals

# tests/test_eval_coco.py of the same place
EXPECTED = {
    "ap": 0.503647,
    "ap50": 0.696973,
    "ap75": 0.571667,
    "ap_small": 0.593252,
    "ap_medium": 0.557991,
    "ap_large": 0.489363,
    "ar1": 0.386813,
    "ar10": 0.593680,
    "ar100": 0.595353,
    "ar_small": 0.654764,
    "ar_medium": 0.603130,
    "ar_large": 0.553744,
}


@pytest.mark.parametrize("form", ["instances", "results"])
def test_the_twelve_numbers_of_coco(form: str) -> None:
    truth_file = COCO / "gts" / "sampled_gts_bbox_area.json"
    truth = read_coco(truth_file)
    found = (
        read_coco(COCO / "dets" / "sampled_bbox_results.json")
        if form == "instances"
        else read_coco(COCO / "cocoapi_results.json", ids_from=truth_file)
    )
    assert (len(truth.files), len(truth), len(found), len(truth.classes)) == (100, 830, 734, 80)
    scores = coco_ap(truth, found).to_dict()
    for name, value in EXPECTED.items():
        assert scores[name] == pytest.approx(value, abs=SIX), name


# tests/test_eval_pascal.py
@pytest.mark.parametrize(
    ("points", "iou", "expected"),
    [
        ("eleven", 0.1, 0.3333333333),
        ("eleven", 0.3, 0.2683982683),
        ("eleven", 0.5, 0.0303030303),
        ("eleven", 0.75, 0.0),
        ("all", 0.1, 0.3371980676),
        ("all", 0.3, 0.2456866804),
        ("all", 0.5, 0.0222222222),
        ("all", 0.75, 0.0),
    ],
)
def test_the_eight_numbers_of_voc(points: Points, iou: float, expected: float) -> None:
    truth, found = read_text(CASE / "gts", Layout("xywh")), read_text(CASE / "dets", Layout("xywh", score="first"))
    scores = voc_ap(truth, found, iou=iou, points=points)
    assert scores.mean_ap == pytest.approx(expected, abs=1e-10)  # ten decimals are published
    assert list(scores.per_class) == ["object"]


# README.md, to two decimals
TOY_PERCENT: tuple[tuple[float, Points, float], ...] = (
    (0.5, "eleven", 88.64),
    (0.5, "all", 89.58),
    (0.75, "eleven", 49.24),
    (0.75, "all", 50.97),
)


def toy_truths() -> Iterator[Annotations]:
    yield read_coco(TOY / "gts_coco_format" / "toy_example_coco.JSON")
    yield read_voc(TOY / "gts_vocpascal_format")


def toy_detections() -> Iterator[Annotations]:
    yield read_coco(TOY / "dets_coco_format" / "coco_dets.json")
    for kind, names in (("classid", TOY / "voc.names"), ("classname", None)):
        yield read_text(TOY / f"dets_{kind}_abs_xywh", Layout("xywh", score="first"), names=names)
        yield read_text(TOY / f"dets_{kind}_abs_xyx2y2", Layout("xyxy", score="first"), names=names)
        # The relative files keep fractions of pixels, the others and the published numbers do not.
        relative = Layout("cxcywh", is_relative=True, score="first")
        found = read_text(TOY / f"dets_{kind}_rel_xcycwh", relative, images=TOY / "images", names=names)
        yield dataclasses.replace(found, xyxy=np.round(found.xyxy))


def test_the_toy_example_in_nine_formats() -> None:
    truths, detections = list(toy_truths()), list(toy_detections())
    assert (len(truths), len(detections)) == (2, 7)
    for truth in truths:
        assert (len(truth.files), len(truth)) == (10, 12)
        for found in detections:
            assert len(found) == 12
            for iou, points, percent in TOY_PERCENT:
                value = voc_ap(truth, found, iou=iou, points=points).per_class["cat"].ap
                assert value is not None
                assert round(100 * value, 2) == percent, (iou, points)


def test_all_seven_detections_are_the_same_boxes() -> None:
    first, *others = toy_detections()
    for other in others:
        rows = {
            (Path(one.files[i]).stem, one.classes[k], *box)
            for one in (first, other)
            for i, k, box in zip(one.image_ids, one.class_ids, one.xyxy.tolist(), strict=True)
        }
        assert len(rows) == 12


def test_bccd_has_two_cells_without_area() -> None:
    cells = read_voc(DATA / "bccd" / "BCCD" / "Annotations")
    assert cells.classes == ("Platelets", "RBC", "WBC")
    assert len(cells.dropped) == 2
    assert ["BloodImage_00338.xml" in cells.dropped[0], "BloodImage_00343.xml" in cells.dropped[1]] == [True, True]
    assert "object 12: 'RBC' without area: (504, 337, 504, 337)" in cells.dropped[0]


def test_bccd_goes_through_every_writer(tmp_path: Path) -> None:
    folder = DATA / "bccd" / "BCCD"
    cells = read_voc(folder / "Annotations")
    write_coco(cells, tmp_path / "cells.json")
    write_voc(cells, tmp_path / "voc")
    write_yolo(cells, tmp_path / "yolo")
    again = [read_coco(tmp_path / "cells.json"), read_voc(tmp_path / "voc")]
    again.append(
        read_text(tmp_path / "yolo" / "labels", YOLO, images=folder / "JPEGImages", names=tmp_path / "yolo/classes.txt")
    )
    for one in again:
        assert one.classes == cells.classes
        # Eight decimals of a share of 640 pixels, and thousandths of a pixel.
        np.testing.assert_allclose(one.xyxy, cells.xyxy, rtol=0, atol=1e-5)
        assert one.class_ids.tolist() == cells.class_ids.tolist()


# Mean, recall and decay of J and of F, by davisvideochallenge/davis2017-evaluation at ac7c43f: the true masks of a clip
# against themselves three frames late.
LATE = {
    "blackswan": [
        [0.8475465387816593, 1.0, -0.12330265329098111],
        [0.8583596475275493, 0.875, -0.27861959591907925],
    ],
    "car-shadow": [
        [0.8242349585663227, 0.9473684210526315, -0.2242022148110635],
        [0.7841042930136809, 0.868421052631579, -0.47628074671121523],
    ],
    "dog": [
        [0.556099479827653, 0.6379310344827587, -0.06897842713220415],
        [0.2896149891573263, 0.06896551724137931, 0.01672960704593629],
    ],
}


@pytest.mark.parametrize("name", LATE)
def test_davis_clips_three_frames_late(name: str) -> None:
    frames = sorted((DATA / "davis2016_val" / "Annotations" / "480p" / name).glob("*.png"))
    masks = [np.asarray(pillow.open(path).convert("L")) > 0 for path in frames]
    scores = track_scores(masks, masks[-3:] + masks[:-3])
    over = [[one.mean, one.recall, one.decay] for one in (scores.j, scores.f)]
    np.testing.assert_allclose(over, LATE[name], rtol=0, atol=1e-14)  # a mean summed in another order
