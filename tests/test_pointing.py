"""What is pointed at has to lie in the picture, and reaches the model with the picture's state."""

from __future__ import annotations

import numpy as np
import pytest

from anmok.errors import BadRequest, Unsupported, WrongState
from anmok.geometry import Rle
from anmok.inputs import Clip, Cue, Encoded, Prompted, Text
from anmok.load import tiny
from anmok.tasks import Depth, Detect, Segment, Track

IMAGE = np.zeros((20, 30, 3), np.uint8)
INSIDE = ((0.0, 0.0, 1), (30.0, 20.0, 1), (15.5, 10.25, 1))


@pytest.mark.parametrize("point", INSIDE)
def test_points_on_the_edge_are_in_the_picture(point: tuple[float, float, int]) -> None:
    assert len(tiny("fake-places").segment(Prompted(IMAGE, points=(point,)))) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("point", [(30.1, 5.0), (-0.1, 5.0), (5.0, 20.5)])
def test_points_outside_are_refused_with_the_size(point: tuple[float, float]) -> None:
    with pytest.raises(BadRequest, match=r"lies outside the picture of 30 x 20 pixels"):
        tiny("fake-places").segment(Prompted(IMAGE, points=((*point, 1),)))


@pytest.mark.parametrize("box", [(30.0, 0, 40, 9), (-9, 2, 0, 5), (3, 20, 9, 25), (3, -5, 9, 0)])
def test_boxes_outside_are_refused_with_the_size(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadRequest, match=r"lies outside the picture of 30 x 20 pixels"):
        tiny("fake-places").segment(Prompted(IMAGE, boxes=(box,)))


def test_a_box_over_the_edge_is_cut() -> None:
    assert len(tiny("fake-places").segment(Prompted(IMAGE, boxes=((-5, -5, 40, 9),)))) == 1


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"mask of size \(20, 31\): the picture has \(20, 30\)"):
        tiny("fake-places").segment(Prompted(IMAGE, mask=Rle.of(np.ones((20, 31), np.bool_))))


def test_what_takes_no_pointing_says_so() -> None:
    model = tiny("fake-places")
    prompt = Prompted(IMAGE, points=((3, 3, 1),))
    for ask in (Detect(("red",)), Depth()):
        with pytest.raises(BadRequest, match="takes no points or boxes"):
            model.run([prompt], ask)
    with pytest.raises(BadRequest, match="a text cannot be pointed at"):
        model.run([Prompted(Text("cat"), points=((3, 3, 1),))], Segment())  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="segment takes pictures"):
        model.run([Text("cat")], Segment())
    with pytest.raises(Unsupported, match="fake does not segment"):
        tiny("fake").run([prompt], Segment())
    with pytest.raises(WrongState):
        model.run([Prompted(Encoded("other", {}), points=((3, 3, 1),))], Segment())


def test_a_cue_outside_the_picture_is_refused_when_its_frame_comes() -> None:
    clip = Clip([IMAGE] * 3, cues=(Cue(0, 1, points=((3, 3, 1),)), Cue(2, 1, points=((31, 3, 1),))))
    pieces = tiny("fake-places").stream(clip, Track())
    assert [next(pieces).frame for _ in range(2)] == [0, 1]
    with pytest.raises(BadRequest, match="outside the picture"):
        next(pieces)


def test_map_puts_a_failure_in_the_place_of_a_bad_picture() -> None:
    prompts = [Prompted(image, points=((3, 3, 1),)) for image in (IMAGE, b"no picture", IMAGE)]
    kinds = [type(answer).__name__ for answer in tiny("fake-places").map(prompts, Segment())]
    assert kinds == ["Masks", "Failure", "Masks"]
