"""Points and gazes: what is asked, what is answered, what is drawn, by the model that knows where colours are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Gaze, Gazes, Pointing, Points, Prompted, cards, draw
from anmok.draw.colours import colour, ink_on
from anmok.errors import BadRequest, Unsupported
from anmok.gallery import summary
from anmok.inputs import Clip
from anmok.load import tiny
from anmok.results import Result
from anmok.tasks import Detect, FindsGazes, PointsAt
from anmok.wire import result_from_json, result_to_json
from anmok.wire.tensors import tensors_of
from command_line import anmok, fine
from scenes import scene

SIZE = (48, 64)
GREY = (128, 128, 128)
MODEL = tiny("fake-places")
BUSY = scene(("red", 5, 5), ("blue", 40, 30), ("red", 30, 4))  # squares of ten pixels


def points(**other: Any) -> Points:
    values: dict[str, Any] = {
        "xy": np.asarray([[10, 20], [64, 48], [0, 0]], np.float32),
        "scores": np.asarray([0.9, 0.5, 0.25], np.float32),
        "class_ids": np.asarray([1, 0, 1]),
        "labels": ("screw", "nut"),
        "size_hw": SIZE,
    }
    return Points(**(values | other))


def gazes(**other: Any) -> Gazes:
    values: dict[str, Any] = {
        "eyes": np.asarray([[10, 20], [50, 10]], np.float32),
        "targets": np.asarray([[40, 30], [3, 3]], np.float32),
        "is_inside": np.asarray([True, False]),
        "scores": np.asarray([0.75, 0.25], np.float32),
        "faces": np.asarray([[5, 15, 15, 25], [45, 5, 55, 15]], np.float32),
        "size_hw": SIZE,
    }
    return Gazes(**(values | other))


# What is asked ---------------------------------------------------------------------------------------------


def test_equal_asks_are_equal_values() -> None:
    lists: Any = ["screw", "nut"]
    assert Pointing(lists) == Pointing(("screw", "nut"))
    assert len({Pointing(lists), Pointing(("screw", "nut")), Pointing(("nut", "screw"))}) == 2
    assert (Pointing.task, Gaze.task) == ("point", "gaze")
    assert Gaze() == Gaze(0.5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": ()}, "labels: give at least one"),
        ({"labels": "screw"}, "labels: want several"),
        ({"labels": ("a", "a")}, "given twice: a"),
        ({"labels": (" ",)}, "one of them is empty"),
        ({"labels": ("a",), "threshold": 1.5}, "threshold 1.5: must lie between 0 and 1"),
        ({"labels": ("a",), "top_k": 0}, "top_k 0: must be at least 1"),
    ],
)
def test_what_cannot_be_pointed_at_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        Pointing(**given)


def test_a_face_is_no_surer_than_sure() -> None:
    with pytest.raises(BadRequest, match=r"face 2: must lie between 0 and 1"):
        Gaze(2)


# What is answered ------------------------------------------------------------------------------------------


def test_points_say_what_and_where() -> None:
    found = points(read_as=("screw", "hex nut"))
    assert found.names == ("nut", "screw", "nut")
    assert found.to_dict() == {
        "size": [48, 64],
        "points": [
            {"label": "nut", "score": pytest.approx(0.9), "point": [10, 20]},
            {"label": "screw", "score": 0.5, "point": [64, 48]},
            {"label": "nut", "score": 0.25, "point": [0, 0]},
        ],
        "read_as": {"screw": "screw", "nut": "hex nut"},
    }
    kept = found[found.scores > 0.3]
    assert (len(kept), kept.names, kept.xy.tolist()) == (2, ("nut", "screw"), [[10, 20], [64, 48]])
    assert len(found[[]]) == len(Points.none(("screw",), SIZE)) == 0
    with pytest.raises(ValueError, match="read-only"):
        found.xy[0, 0] = 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"xy": np.zeros((2, 2))},
        {"xy": np.zeros((3, 3))},
        {"xy": np.full((3, 2), -0.5)},
        {"xy": np.asarray([[65, 1], [1, 1], [1, 1]])},
        {"xy": np.asarray([[1, 49], [1, 1], [1, 1]])},
        {"xy": np.full((3, 2), np.nan)},
        {"class_ids": np.asarray([0, 1, 2])},
        {"class_ids": np.asarray([0, 1, -1])},
        {"labels": (), "class_ids": np.asarray([-1, -1, -1])},
        {"read_as": ("screw",)},
    ],
)
def test_points_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        points(**wrong)


def test_gazes_say_who_and_where() -> None:
    found = gazes()
    assert found.targets.tolist() == [[40, 30], [0, 0]]  # what is not inside means nothing
    assert found.to_dict() == {
        "size": [48, 64],
        "people": [
            {"eye": [10, 20], "target": [40, 30], "score": 0.75, "face": [5, 15, 15, 25]},
            {"eye": [50, 10], "target": None, "score": 0.25, "face": [45, 5, 55, 15]},
        ],
    }
    assert json.loads(found.to_json()) == found.to_dict()
    alone = gazes(faces=np.zeros((0, 4)))
    assert [sorted(one) for one in alone.to_dict()["people"]] == [["eye", "score", "target"]] * 2
    for array in (found.eyes, found.targets, found.is_inside, found.scores, found.faces):
        assert not array.flags.writeable


@pytest.mark.parametrize(
    "wrong",
    [
        {"eyes": np.asarray([[10, 20], [65, 10]])},
        {"eyes": np.zeros((3, 2))},
        {"targets": np.asarray([[40, 49], [3, 3]])},
        {"targets": np.zeros((1, 2))},
        {"is_inside": np.asarray([True])},
        {"scores": np.asarray([0.5, np.nan])},
        {"faces": np.asarray([[5, 15, 15, 25]])},
        {"faces": np.asarray([[5, 15, 15, 25], [45, 5, 65, 15]])},
    ],
)
def test_gazes_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        gazes(**wrong)


@pytest.mark.parametrize("result", [points(), gazes(), gazes(faces=np.zeros((0, 4)))], ids=["points", "gazes", "eyes"])
def test_what_is_sent_comes_back(result: Result) -> None:
    task = "point" if isinstance(result, Points) else "gaze"
    back = result_from_json(task, json.loads(json.dumps(result_to_json(result))))
    assert type(back) is type(result)
    assert back.to_dict() == result.to_dict()
    for task, content in (("point", {"size": [3, 3], "points": [{}]}), ("gaze", {"size": [3, 3], "people": [3]})):
        with pytest.raises(BadRequest, match=f"no answer to {task}"):
            result_from_json(task, content)


def test_points_of_several_pictures_fit_into_tensors() -> None:
    found = tensors_of("point", [points(), Points.none(("screw", "nut"), (9, 9))])
    assert [one.name for one in found] == ["counts", "points", "scores", "class_ids", "labels"]
    assert found[0].values.tolist() == [3, 0]
    assert found[1].values.tolist() == [[10, 20], [64, 48], [0, 0]]
    assert found[4].values == ["screw", "nut"]


def test_an_answer_in_one_line() -> None:
    assert summary(points()) == "2 nut, 1 screw"
    assert summary(Points.none(("nut",), SIZE)) == "nothing found"
    assert summary(gazes()) == "2 people, looking at: 40,30; elsewhere"
    one = gazes(**{name: getattr(gazes(), name)[:1] for name in ("eyes", "targets", "is_inside", "scores", "faces")})
    assert summary(one) == "1 person, looking at: 40,30"


# Who answers -----------------------------------------------------------------------------------------------


def test_the_middle_of_each_patch_is_pointed_at() -> None:
    found = MODEL.point(BUSY, ["blue", "red"])
    assert sorted(zip(found.names, found.xy.tolist(), strict=True)) == [
        ("blue", [45, 35]),
        ("red", [10, 10]),
        ("red", [35, 9]),
    ]
    [one] = MODEL.run([BUSY], Pointing(("red",), top_k=1))
    assert len(one) == 1
    assert len(MODEL.point(BUSY, ["yellow"])) == 0
    boxes = MODEL.run([BUSY], Detect(("blue", "red")))[0].xyxy
    np.testing.assert_array_equal(found.xy, (boxes[:, :2] + boxes[:, 2:]) / 2)
    with pytest.raises(BadRequest, match="labels: want several"):
        MODEL.point(BUSY, "red")
    with pytest.raises(BadRequest, match="point takes no points or boxes"):
        MODEL.point(Prompted(BUSY, points=((1, 1, 1),)), ["red"])


def test_everybody_who_is_red_looks_at_what_is_blue() -> None:
    found = MODEL.gaze(BUSY)
    assert sorted(found.faces.tolist()) == [[5, 5, 15, 15], [30, 4, 40, 14]]
    assert sorted(found.eyes.tolist()) == [[10, 10], [35, 9]]
    assert found.targets.tolist() == [[45, 35], [45, 35]]
    nowhere = MODEL.gaze(scene(("red", 5, 5)))
    assert (nowhere.is_inside.tolist(), nowhere.scores.tolist()) == ([False], [0])
    pointed = MODEL.gaze(Prompted(BUSY, points=((2, 3, 1),)))
    assert (pointed.eyes.tolist(), pointed.faces.shape) == ([[2, 3]], (0, 4))
    boxed = MODEL.gaze(Prompted(BUSY, boxes=((1, 1, 5, 9), (60, 40, 70, 60))))
    assert boxed.eyes.tolist() == [[3, 5], [62, 44]]  # the second face is cut at the edge


def test_every_frame_of_a_clip_is_asked() -> None:
    clip = Clip([scene(("red", left, 5)) for left in (5, 9, 13)])
    found = list(MODEL.stream(clip, Pointing(("red",))))
    assert [one.xy.tolist() for one in found] == [[[10, 10]], [[14, 10]], [[18, 10]]]


def test_who_claims_it_does_it() -> None:
    assert [one.name for one in cards("point")] == ["moondream2", "moondream-0.5b-int8"]
    assert [one.name for one in cards("gaze")] == ["moondream2"]
    for name in ("moondream2", "fake-places"):
        kind = tiny(name).kind
        assert isinstance(kind, PointsAt)
        assert isinstance(kind, FindsGazes)
    with pytest.raises(Unsupported, match=r"fake does not point; .*anmok models --task point"):
        tiny("fake").point(BUSY, ["red"])


# What is drawn ---------------------------------------------------------------------------------------------


def drawn(result: Result, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(draw.plot(result, np.full((*size, 3), GREY, np.uint8)))


def test_a_point_is_a_dot_of_its_class_and_nothing_far_from_it() -> None:
    size = (240, 320)
    found = Points(np.asarray([[50, 100], [200, 60]]), np.ones(2), np.asarray([0, 1]), ("a", "b"), size)
    picture = drawn(found, size)
    for (x, y), ink in (((50, 100), colour(0)), ((200, 60), colour(1))):
        assert tuple(picture[y, x]) == ink
        assert tuple(picture[y, x - 2]) == ink_on(ink)  # its rim: lines are one pixel in a picture of this size
        assert tuple(picture[y, x - 3]) == GREY
    is_changed = (picture != GREY).any(-1)
    assert not is_changed[130:].any()
    assert not is_changed[:, 260:].any()


def test_points_are_numbered_within_their_class() -> None:
    """Of one label the number stands alone, and its tag is narrower than that of a name."""
    size, xy = (240, 320), np.asarray([[50, 100], [50, 200]])
    alone = drawn(Points(xy, np.ones(2), np.zeros(2, int), ("screw",), size), size)
    named = drawn(Points(xy, np.ones(2), np.zeros(2, int), ("screw", "nut"), size), size)
    widths = [int((picture[80:97] != GREY).any(-1).any(0).sum()) for picture in (alone, named)]
    assert widths[0] < widths[1] / 2
    first, second = alone[80:97, 53:70], alone[180:197, 53:70]  # 1 and 2
    assert (first != second).any()


def test_a_gaze_is_a_line_to_a_dot_and_a_ring_where_it_leaves() -> None:
    size = (240, 320)
    found = Gazes(
        np.asarray([[50, 100], [250, 200]]),
        np.asarray([[150, 100], [0, 0]]),
        np.asarray([True, False]),
        np.ones(2),
        np.asarray([[40, 90, 60, 110], [240, 190, 260, 210]]),
        size,
    )
    picture = drawn(found, size)
    assert [tuple(picture[100, x]) for x in (100, 130, 150)] == [colour(0)] * 3
    assert tuple(picture[100, 160]) == GREY  # behind where it ends
    for place in ((90, 40), (109, 59)):
        assert tuple(picture[place]) == colour(0)
    assert tuple(picture[200, 250]) == GREY  # inside the ring
    assert tuple(picture[200, 252]) == colour(1)
    assert tuple(picture[190, 240]) == colour(1)
    assert not (picture[:80] != GREY).any()  # and nothing at 0, 0
    eyes = Gazes(found.eyes, found.targets, found.is_inside, found.scores, np.zeros((0, 4)), size)
    assert tuple(drawn(eyes, size)[90, 40]) == GREY
    assert tuple(drawn(eyes, size)[100, 100]) == colour(0)


# As it is typed --------------------------------------------------------------------------------------------


def test_what_to_point_at_has_to_be_said() -> None:
    assert anmok("point", "a.png").err == 'error: say what to point at: --labels "screw"\n'
    listed = json.loads(fine("models", "--task", "gaze", "--json").out)
    assert [one["name"] for one in listed] == ["moondream2"]
