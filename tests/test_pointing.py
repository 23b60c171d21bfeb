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


def test_one_prompt_outside_its_picture_does_not_stop_the_others() -> None:
    prompts = [Prompted(IMAGE, points=((x, 3, 1),)) for x in (3, 300, 4)]
    pieces = tiny("fake-places").map(prompts, Segment())
    answers = list(pieces)
    assert [type(answer).__name__ for answer in answers] == ["Masks", "Failure", "Masks"]
    assert "outside the picture of 30 x 20" in answers[1].to_dict()["message"]


def test_arrays_and_lists_point_as_tuples_do() -> None:
    [state] = tiny("fake-places").encode([IMAGE])
    tuples = Prompted(state, points=((3.0, 4.0, 1),), boxes=((1.0, 1.0, 9.0, 9.5),))
    arrays = Prompted(
        state,
        points=np.asarray([[3, 4, 1]]),  # type: ignore[arg-type]
        boxes=np.asarray([[1, 1, 9, 9.5]], np.float32),  # type: ignore[arg-type]
    )
    lists = Prompted(state, points=[[3, 4, True]], boxes=[[1, 1, 9, 9.5]])  # type: ignore[arg-type]
    for other in (arrays, lists):
        assert (other.points, other.boxes) == (tuples.points, tuples.boxes)
        assert [type(value) for value in other.points[0]] == [float, float, int]
    near = Prompted(state, exemplars=[([1, 1, 5, 5], 1)])  # type: ignore[arg-type]
    assert near.exemplars == (((1.0, 1.0, 5.0, 5.0), 1),)
    cue = Cue(0, points=[(3, 4, 1)], box=np.asarray([1, 1, 9, 9.5]))  # type: ignore[arg-type]
    assert hash(cue) == hash(Cue(0, points=((3.0, 4.0, 1),), box=(1.0, 1.0, 9.0, 9.5)))


def test_a_mask_may_be_an_array() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[3:9, 4:8] = True
    assert Prompted(IMAGE, mask=mask).mask == Rle.of(mask)  # type: ignore[arg-type]
    assert Cue(0, mask=mask).mask == Rle.of(mask)  # type: ignore[arg-type]
    for wrong in (mask.astype(np.float32), "mask.png", mask[0]):
        with pytest.raises(BadRequest, match="mask: want"):
            Prompted(IMAGE, mask=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": (3, 3, 1)},
        {"points": ((3, 3),)},
        {"points": (("a", 3, 1),)},
        {"boxes": (1, 1, 9, 9)},
        {"boxes": ((1, 1, 9),)},
        {"exemplars": ((1, 1, 9, 9),)},
        {"exemplars": (((1, 1, 9, 9), 2),)},
    ],
)
def test_what_is_no_point_or_box_is_refused_in_our_words(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        Prompted(IMAGE, **wrong)  # type: ignore[arg-type]


def test_a_cue_mask_of_another_size_is_refused() -> None:
    clip = Clip([IMAGE] * 2, cues=(Cue(0, mask=Rle.of(np.ones((20, 31), np.bool_))),))
    with pytest.raises(BadRequest, match=r"mask of size \(20, 31\): the picture has \(20, 30\)"):
        tiny("fake-places").track(clip)


def test_a_label_alone_is_not_read_as_its_letters() -> None:
    model = tiny("fake-places")
    for use in (
        lambda: model.detect(IMAGE, "red"),
        lambda: Detect("red"),  # type: ignore[arg-type]
        lambda: model.track(Clip([IMAGE]), "red"),
    ):
        with pytest.raises(BadRequest, match="labels: want several"):
            use()


def test_a_cue_on_a_broken_frame_is_told_of_at_once_and_not_after_the_whole_clip() -> None:
    clip = Clip([IMAGE, b"no picture", IMAGE, IMAGE, IMAGE], cues=(Cue(1, points=((3, 3, 1),)),))
    pieces = tiny("fake-places").stream(clip, Track(), on_broken=lambda frame, reason: None)
    assert next(pieces).frame == 0
    with pytest.raises(BadRequest, match="cue at frame 1: that frame cannot be decoded"):
        next(pieces)


def test_a_stream_takes_a_clip_and_no_cues_where_nothing_is_followed() -> None:
    model = tiny("fake-places")
    with pytest.raises(BadRequest, match=r"want a clip: anmok.Clip\('clip.mp4'\)"):
        model.stream("clip.mp4", Track(("red",)))  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="depth takes no cues"):
        model.stream(Clip([IMAGE], cues=(Cue(0, points=((3, 3, 1),)),)), Depth())


def test_a_model_that_only_follows_says_so() -> None:
    with pytest.raises(Unsupported, match="samurai-small makes no states of pictures"):
        tiny("samurai-small").encode([IMAGE])
