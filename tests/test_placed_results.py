"""Results with a place in the picture: what they hold, what they refuse, and their plain JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import supervision
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.inputs import Clip, Cue, Prompted
from anmok.load import tiny
from anmok.results import DepthMap, Detections, Keypoints, Masks, Matte, NormalMap, PartMap, Tracked, Tracks
from anmok.results.maps import packed, unpacked
from anmok.tasks import Classify, Depth, Detect, Everything, Pose, Segment, Track

SIZE = (20, 30)
BOXES = np.asarray([[1, 2, 11, 12], [5, 5, 30, 20]], np.float32)
SCORES = np.asarray([0.9, 0.4], np.float32)


def mask(left: int, top: int, side: int = 4) -> Rle:
    out = np.zeros(SIZE, np.bool_)
    out[top : top + side, left : left + side] = True
    return Rle.of(out)


def detections(**other: Any) -> Detections:
    values: dict[str, Any] = {
        "xyxy": BOXES,
        "scores": SCORES,
        "class_ids": np.asarray([1, 0]),
        "labels": ("cat", "dog"),
        "size_hw": SIZE,
    }
    return Detections(**(values | other))


def masks(**other: Any) -> Masks:
    values: dict[str, Any] = {
        "rles": (mask(1, 2), mask(10, 8)),
        "scores": SCORES,
        "class_ids": np.asarray([1, 0]),
        "labels": ("cat", "dog"),
        "size_hw": SIZE,
    }
    return Masks(**(values | other))


def test_detections_say_what_and_where() -> None:
    found = detections(read_as=("cat", "hound"))
    assert found.names == ("dog", "cat")
    assert found.to_dict()["detections"][0] == {
        "label": "dog",
        "score": pytest.approx(0.9),
        "box": [1.0, 2.0, 11.0, 12.0],
    }
    assert found.to_dict()["read_as"] == {"cat": "cat", "dog": "hound"}
    assert json.loads(found.to_json()) == found.to_dict()
    kept = found[found.scores > 0.5]
    assert (len(kept), kept.names, kept.labels) == (1, ("dog",), ("cat", "dog"))
    assert len(found[[]]) == 0
    with pytest.raises(ValueError, match="read-only"):
        found.xyxy[0, 0] = 3
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, BOXES)
    assert theirs["class_name"].tolist() == ["dog", "cat"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"xyxy": BOXES[:1]},
        {"xyxy": BOXES + 1},  # over the edge
        {"xyxy": BOXES - 2},
        {"xyxy": BOXES[:, [2, 1, 0, 3]]},
        {"xyxy": BOXES * np.nan},
        {"class_ids": np.asarray([1, 2])},
        {"class_ids": np.asarray([-1, 0])},
        {"class_ids": np.asarray([1])},
        {"scores": np.asarray([0.5, np.inf])},
    ],
)
def test_detections_refuse_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        detections(**wrong)


def test_masks_say_what_and_where() -> None:
    found = masks()
    assert found.xyxy.tolist() == [[1, 2, 5, 6], [10, 8, 14, 12]]
    assert found.dense().sum() == 32
    first = found.to_dict()["masks"][0]
    assert (first["label"], first["area"], first["box"]) == ("dog", 16, [1.0, 2.0, 5.0, 6.0])
    assert Rle.from_coco(first["rle"]) == mask(1, 2)
    nameless = masks(labels=(), class_ids=np.asarray([-1, -1]))
    assert nameless.names == ("", "")
    assert "label" not in nameless.to_dict()["masks"][0]
    assert found[np.asarray([False, True])].rles == (mask(10, 8),)
    theirs = found.to_supervision()
    assert theirs.mask.shape == (2, *SIZE)
    none = Masks.none(("cat",), SIZE)
    assert (len(none), none.xyxy.shape, none.dense().shape) == (0, (0, 4), (0, *SIZE))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_hw": (20, 31)},
        {"scores": SCORES[:1]},
        {"class_ids": np.asarray([0, 2])},
        {"labels": ()},
    ],
)
def test_masks_refuse_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        masks(**wrong)


def test_a_frame_of_a_track_comes_back_from_json() -> None:
    piece = Tracked(3, 0.12, np.asarray([7, 2]), masks())
    back = Tracked.from_dict(json.loads(piece.to_json()), ("cat", "dog"))
    assert (back.frame, back.seconds, back.ids.tolist()) == (3, 0.12, [7, 2])
    assert back.masks.rles == piece.masks.rles
    assert back.masks.names == ("dog", "cat")
    assert back.to_dict() == piece.to_dict()
    whole = Tracks((piece, Tracked(4, 0.16, np.asarray([2]), masks()[[0]])), (5,))
    assert whole.ids == (7, 2)
    assert whole.of(2) == [(3, mask(10, 8)), (4, mask(1, 2))]
    assert whole.to_dict()["broken"] == [5]
    with pytest.raises(BadRequest, match="different numbers"):
        Tracked(0, 0.0, np.asarray([1, 1]), masks())
    for damaged in ({}, {"frame": 1}, {**piece.to_dict(), "objects": [{}]}):
        with pytest.raises(BadRequest, match="no frame of a track"):
            Tracked.from_dict(damaged)


def test_depth_says_its_kind() -> None:
    ramp = np.linspace(1, 5, 600).reshape(SIZE).astype(np.float32)
    metric, disparity = DepthMap(ramp, "metric"), DepthMap(ramp, "disparity")
    assert (metric.unit, disparity.unit, DepthMap(ramp, "depth").unit) == ("m", "relative", "relative")
    assert metric.to_dict()["nearest"] == 1.0
    assert disparity.to_dict()["nearest"] == 5.0
    assert metric.nearness[0, 0] == 1.0
    assert metric.nearness[-1, -1] == 0.0
    assert disparity.nearness[0, 0] == 0.0
    assert (DepthMap(np.ones(SIZE, np.float32), "depth").nearness == 0.5).all()
    full = DepthMap(ramp, "metric", ramp, np.eye(3, dtype=np.float32), np.stack([ramp] * 3, -1))
    assert {"confidence", "intrinsics", "points"} <= set(full.to_dict())
    np.testing.assert_array_equal(unpacked(full.to_dict()["depth"]), ramp)
    for wrong in ({"depth": ramp[0]}, {"depth": ramp * np.nan}, {"kind": "far"}, {"confidence": ramp[:3]}):
        with pytest.raises(BadRequest):
            DepthMap(**({"depth": ramp, "kind": "metric"} | wrong))  # type: ignore[arg-type]


def test_packed_maps_hold_no_more_than_they_say() -> None:
    content = packed(np.zeros((100, 100), np.float32))
    with pytest.raises(BadRequest, match="do not fill"):
        unpacked({**content, "shape": [10, 10]})  # a bomb is not unpacked: reading stops after the shape
    with pytest.raises(BadRequest, match="do not fill"):
        unpacked({**content, "shape": [200, 100]})


def test_normals_are_of_length_one_or_nothing() -> None:
    up = np.zeros((*SIZE, 3), np.float32)
    up[:10, :, 1] = 1
    assert NormalMap(up).to_dict()["axes"] == "x right, y up, z near"
    with pytest.raises(BadRequest, match="length 1"):
        NormalMap(up * 0.9)


def test_parts_are_counted() -> None:
    parts: NDArray[np.int16] = np.zeros(SIZE, np.int16)
    parts[:5] = 2
    found = PartMap(parts, ("nothing", "arm", "leg"))
    assert found.share("leg") == 0.25
    assert [(one["part"], one["area"]) for one in found.to_dict()["parts"]] == [("nothing", 450), ("leg", 150)]
    with pytest.raises(BadRequest, match="numbers from 0 to 1"):
        PartMap(parts, ("nothing", "arm"))
    with pytest.raises(BadRequest, match="from 0 to 1"):
        Matte(np.full(SIZE, 1.5, np.float32))


def test_joints_lie_in_the_picture() -> None:
    values: dict[str, Any] = {
        "xy": np.asarray([[[3, 4], [5, 6], [30, 20]]]),
        "scores": np.asarray([[0.9, 0.2, 0.3]]),
        "xyxy": BOXES[:1],
        "box_scores": SCORES[:1],
        "names": ("nose", "eye", "ear"),
        "edges": ((0, 1), (1, 2)),
        "size_hw": SIZE,
    }
    found = Keypoints(**values)
    assert found.is_visible.tolist() == [[True, False, True]]
    assert found.to_dict()["people"][0]["keypoints"][2]["x"] == 30.0
    for wrong in ({"xy": values["xy"] + 1}, {"edges": ((0, 3),)}, {"names": ("nose",)}, {"xyxy": BOXES[:1] + 25}):
        with pytest.raises(BadRequest):
            Keypoints(**(values | wrong))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Detect(()), "labels: give at least one"),
        (lambda: Detect(("cat", " ")), "one of them is empty"),
        (lambda: Detect(("cat",), phrases=((),)), "at least one"),
        (lambda: Detect(("cat",), phrases=(("kitten", ""),)), "none may be empty"),
        (lambda: Detect(phrases=(("kitten",),)), "one group of words per label"),
        (lambda: Detect(("cat",), threshold=1.5), "threshold 1.5"),
        (lambda: Detect(("cat",), nms=-0.1), "nms -0.1"),
        (lambda: Detect(("cat",), top_k=0), "top_k 0"),
        (lambda: Segment(candidates=2), "want 1 or 3"),
        (lambda: Everything(points_per_side=0), "points_per_side 0"),
        (lambda: Track(every=0), "every 0"),
        (lambda: Depth(focal_px=0.0), "focal_px"),
        (lambda: Pose(threshold=2.0), "threshold 2.0"),
        (lambda: Prompted("a.png", points=((np.nan, 3, 1),)), "not a place"),
        (lambda: Prompted("a.png", points=((3, 3, 2),)), "its sign is 1"),  # type: ignore[arg-type]
        (lambda: Prompted("a.png", boxes=((3, 3, 3, 9),)), "with some area"),
        (lambda: Prompted("a.png", points=((3, 3, 1),), boxes=((0, 0, 9, 9), (1, 1, 5, 5))), "points go with one box"),
        (lambda: Cue(0), "give points, a box or a mask"),
        (lambda: Cue(-1, points=((1, 1, 1),)), "must not be negative"),
        (lambda: Cue(0, box=(0, 0, 5, 5), mask=mask(0, 0)), "a mask says all"),
        (lambda: Clip("a.mp4", fps=0), "fps 0"),
        (lambda: Clip("a.mp4", start=3, end=2), "span no time"),
    ],
)
def test_questions_that_make_no_sense_are_refused(make: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        make()


def test_equal_questions_are_equal_values() -> None:
    assert hash(Segment(("cat",))) == hash(Segment(("cat",)))
    assert Track(("cat",), every=5) != Track(("cat",))
    assert Cue(1, 2, mask=mask(0, 0)) == Cue(1, 2, mask=mask(0, 0))


def test_boxes_without_names_are_still_plain_json() -> None:
    found = detections(labels=(), class_ids=np.asarray([-1, -1]))
    assert found.names == ("", "")
    assert [one["box"] for one in json.loads(found.to_json())["detections"]] == BOXES.tolist()


@pytest.mark.parametrize("make", [detections, masks])
def test_readings_are_one_for_each_label(make: Any) -> None:
    with pytest.raises(BadRequest, match="one reading per label"):
        make(read_as=("cat",))


def test_a_frame_of_a_track_that_counts_to_no_end_is_refused() -> None:
    piece = Tracked(3, 0.12, np.asarray([7, 2]), masks()).to_dict()
    for damaged in (
        {"frame": float("inf")},
        {"size": [float("inf"), 3]},
        {"objects": [{**piece["objects"][0], "id": 10**30}]},
    ):
        with pytest.raises(BadRequest, match="no frame of a track|not a COCO RLE"):
            Tracked.from_dict({**piece, **damaged}, ("cat", "dog"))


def test_packed_maps_of_no_shape_are_refused() -> None:
    content = packed(np.zeros((4, 4), np.float32))
    for wrong in ({"shape": [-1]}, {"shape": [2**32, 2**32]}, {"zlib": "AAAA"}, {"shape": "x"}):
        with pytest.raises(BadRequest):
            unpacked({**content, **wrong})


@pytest.mark.parametrize("make", [NormalMap, Matte])
def test_maps_without_two_sides_are_refused(make: Any) -> None:
    with pytest.raises(BadRequest, match="want"):
        make(np.zeros(5, np.float32))


@pytest.mark.parametrize("make", [Detect, Segment, Track])
def test_lists_of_labels_ask_as_tuples_do(make: Any) -> None:
    listed = make(labels=["cat", "dog"], phrases=[["kitten", "cat"], ["dog"]])
    assert listed == make(labels=("cat", "dog"), phrases=(("kitten", "cat"), ("dog",)))
    assert hash(listed) == hash(make(labels=("cat", "dog"), phrases=(("kitten", "cat"), ("dog",))))
    arrays = make(labels=np.asarray(["cat", "dog"]))
    assert arrays == make(labels=("cat", "dog"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Classify("cat"), "labels: want several"),  # type: ignore[arg-type]
        (lambda: Classify((1, 2)), "labels: want texts, got 1"),  # type: ignore[arg-type]
        (lambda: Detect(("cat",), phrases=("kitten",)), "phrases: want a group of words for each label"),  # type: ignore[arg-type]
        (lambda: Classify(("cat",), descriptions=("it purrs",)), "descriptions: want a group"),  # type: ignore[arg-type]
    ],
)
def test_a_text_is_no_group_of_letters(make: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        make()


def test_lists_of_labels_are_found_by_models_that_remember_questions() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    [found] = tiny("grounding-dino-tiny").run([picture], Detect(["cat"], threshold=0.0))  # type: ignore[arg-type]
    assert found.labels == ("cat",)
