"""Detector and segmenter together: text to masks, and objects that keep their number through a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok.errors import BadRequest, UnknownModel
from anmok.geometry import Rle
from anmok.inputs import Clip, Cue, Prompted
from anmok.load import tiny
from anmok.models.grounded import matched
from anmok.results import Tracked
from anmok.tasks import Detect, Segment, Session, Track

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (128, 128, 128)
Square = tuple[tuple[int, int, int], int, int]  # colour, left, top; 10 x 10 pixels


def still(*squares: Square) -> NDArray[np.uint8]:
    image = np.full((48, 64, 3), GREY, np.uint8)
    for ink, left, top in squares:
        image[top : top + 10, left : left + 10] = ink
    return image


def box(left: int, top: int) -> Rle:
    mask = np.zeros((48, 64), np.bool_)
    mask[top : top + 10, left : left + 10] = True
    return Rle.of(mask)


def test_what_the_detector_finds_is_cut_out_under_its_own_name() -> None:
    image = still((RED, 5, 5), (BLUE, 40, 30), (RED, 30, 4))
    [masks] = tiny("fake-grounded").run([image], Segment(("blue", "red")))
    assert sorted(zip(masks.names, masks.rles, strict=True), key=lambda pair: pair[1].xyxy) == [
        ("red", box(5, 5)),
        ("red", box(30, 4)),
        ("blue", box(40, 30)),
    ]
    [none] = tiny("fake-grounded").run([image], Segment(("yellow",)))
    assert (len(none), none.labels) == (0, ("yellow",))


def test_one_encoding_answers_boxes_points_and_text() -> None:
    model = tiny("fake-grounded")
    [state] = model.encode([still((RED, 5, 5), (BLUE, 40, 30))])
    [boxes] = model.run([state], Detect(("red",)))
    assert boxes.xyxy.tolist() == [[5, 5, 15, 15]]
    [pointed] = model.run([Prompted(state, points=((45, 35, 1),))], Segment())
    assert pointed.rles == (box(40, 30),)
    [everything] = model.run([state], Segment())
    assert len(everything) == 3  # both squares and the ground


def test_matching_is_one_to_one_and_needs_overlap() -> None:
    a, b = box(0, 0), box(5, 0)
    assert matched([a, b], [b], 0.5) == {1: 0}  # the better of two finds takes the track
    assert matched([a], [box(30, 30)], 0.1) == {}
    assert matched([box(1, 0), box(4, 0)], [b, a], 0.5) == {0: 1, 1: 0}
    assert matched([], [a], 0.5) == {}
    assert matched([box(3, 0)], [a], 0.9) == {}


def followed(stills: list[NDArray[np.uint8]], ask: Track, cues: tuple[Cue, ...] = ()) -> list[dict[int, str]]:
    """Per frame the names of the objects in sight."""
    pieces = tiny("fake-grounded").stream(Clip(stills, cues=cues), ask)
    return [
        {
            number: name
            for number, name, rle in zip(piece.ids.tolist(), piece.masks.names, piece.masks.rles, strict=True)
            if rle.counts
        }
        for piece in pieces
    ]


def test_numbers_stay_through_the_clip_and_newcomers_get_new_ones() -> None:
    stills = [still((RED, 4 + 2 * t, 5), *([(BLUE, 40, 30)] if t >= 4 else [])) for t in range(8)]
    seen = followed(stills, Track(("red", "blue"), every=2))
    assert seen == [{1: "red"}] * 4 + [{1: "red", 2: "blue"}] * 4


def test_an_object_that_leaves_and_returns_keeps_its_number() -> None:
    there = [t not in (3, 4, 5) for t in range(10)]
    stills = [still((BLUE, 40, 30), *([(RED, 5, 5)] if here else [])) for here in there]
    seen = followed(stills, Track(("red", "blue"), every=4))
    assert [1 in one for one in seen] == there
    assert all(2 in one for one in seen)
    assert {number for one in seen for number in one} == {1, 2}


def test_nothing_to_follow_gives_empty_frames() -> None:
    assert followed([still()] * 3, Track(("red",), every=2)) == [{}, {}, {}]
    late = [still()] * 2 + [still((RED, 5, 5))] * 3
    assert followed(late, Track(("red",), every=2)) == [{}, {}, {1: "red"}, {1: "red"}, {1: "red"}]


def test_what_is_pointed_at_is_followed_beside_what_is_named() -> None:
    stills = [still((RED, 5, 5), (BLUE, 40, 30))] * 3
    cue = Cue(1, 5, points=((45, 35, 1),))
    seen = followed(stills, Track(("red",), every=5), (cue,))
    assert [sorted(one) for one in seen] == [[1], [1, 5], [1, 5]]


def test_parts_can_be_exchanged() -> None:
    model = tiny("fake-grounded", parts={"detector": "fake-places"})
    assert model.card.parts == {"detector": "fake-places", "segmenter": "fake-places"}
    with pytest.raises(BadRequest, match="no part 'eye': its parts are detector, segmenter"):
        tiny("fake-grounded", parts={"eye": "fake-places"})
    with pytest.raises(BadRequest, match="not made of parts"):
        tiny("fake", parts={"eye": "fake-places"})
    with pytest.raises(UnknownModel):
        tiny("fake-grounded", parts={"detector": "nothing-like-it"})
    with pytest.raises(BadRequest, match="want a detector that detects"):
        tiny("fake-grounded", parts={"detector": "fake"})


def test_what_moves_more_than_its_own_size_keeps_its_number() -> None:
    stills = [still((RED, 2 + 6 * t, 5)) for t in range(8)]  # between two frames less than half of it overlaps
    assert followed(stills, Track(("red",), every=2)) == [{1: "red"}] * 8


def test_what_is_pointed_at_and_named_is_one_object() -> None:
    stills = [still((RED, 5, 5))] * 3
    seen = followed(stills, Track(("red",), every=1), (Cue(0, 5, points=((8, 8, 1),)),))
    assert seen == [{5: "red"}] * 3


@pytest.mark.parametrize("name", ["fake-grounded", "fake-places"])
def test_where_the_first_frame_is_broken_the_next_is_searched(name: str) -> None:
    clip = Clip([b"no picture", *[still((RED, 5, 5))] * 3])
    pieces = list(tiny(name).stream(clip, Track(("red",), every=20), on_broken=lambda frame, reason: None))
    assert [(piece.frame, piece.ids.tolist()) for piece in pieces] == [(1, [1]), (2, [1]), (3, [1])]


def test_cues_alone_are_followed_without_names() -> None:
    clip = Clip([still((RED, 5, 5))] * 3, cues=(Cue(1, 5, points=((8, 8, 1),)),))
    pieces = list(tiny("fake-grounded").stream(clip, Track()))
    assert [piece.ids.tolist() for piece in pieces] == [[], [5], [5]]
    assert [piece.masks.names for piece in pieces] == [(), ("",), ("",)]


def test_a_track_says_how_its_labels_were_read() -> None:
    clip = Clip([still((RED, 5, 5))] * 2)
    pieces = list(tiny("grounded-sam2.1-tiny").stream(clip, Track(("고양이",), threshold=0.0, every=2)))
    assert [piece.masks.read_as for piece in pieces] == [("cat",), ("cat",)]
    assert Tracked.from_dict(pieces[0].to_dict(), ("고양이",)).masks.read_as == ("cat",)


def test_what_is_pointed_at_gets_the_name_that_it_is_found_by() -> None:
    stills = [still((RED, 5, 5), (BLUE, 40, 30))] * 2
    seen = followed(stills, Track(("blue", "red"), every=1), (Cue(0, 5, points=((8, 8, 1),)),))
    assert seen == [{5: "red", 6: "blue"}] * 2


def test_a_newcomer_does_not_take_the_number_of_something_else_that_is_hidden() -> None:
    stills = [still((BLUE, 40, 30)), still(), still((RED, 5, 5)), still((RED, 5, 5), (BLUE, 40, 30))]
    seen = followed(stills, Track(("red",), every=1), (Cue(0, 5, points=((45, 35, 1),)),))
    assert [sorted(one) for one in seen] == [[5], [], [6], [5, 6]]


class Forgetful:
    """A session that does not find by itself what it has lost: only a new cue brings it back."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner
        self.gone: set[int] = set()

    def step(self, frame: int, seconds: float, image: NDArray[np.uint8], cues: Sequence[Cue]) -> Tracked:
        piece = self.inner.step(frame, seconds, image, cues)
        self.gone -= {cue.object_id for cue in cues}
        nothing = Rle.of(np.zeros((48, 64), np.bool_))
        seen = zip(piece.ids.tolist(), piece.masks.rles, strict=True)
        rles = tuple(nothing if number in self.gone else rle for number, rle in seen)
        self.gone |= {number for number, rle in zip(piece.ids.tolist(), rles, strict=True) if not rle.counts}
        return replace(piece, masks=replace(piece.masks, rles=rles))


def test_what_the_tracker_has_lost_is_found_again_by_name_under_its_number() -> None:
    model = tiny("fake-grounded")
    follow = model.kind.segmenter.follow
    model.kind.segmenter.follow = lambda ask: Forgetful(follow(ask))
    stills = [still((BLUE, 40, 30), *([(RED, 5 + 3 * t, 5)] if t not in (2, 3) else [])) for t in range(7)]
    pieces = model.stream(Clip(stills), Track(("red", "blue"), every=4))
    seen = [{n for n, rle in zip(one.ids.tolist(), one.masks.rles, strict=True) if rle.counts} for one in pieces]
    assert seen == [{1, 2}, {1, 2}, {2}, {2}, {1, 2}, {1, 2}, {1, 2}]
