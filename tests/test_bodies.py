"""Pose models with their detector: people found in the picture, at toy size and through the whole chain."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import anmok
from anmok.errors import BadRequest
from anmok.inputs import Prompted
from anmok.load import Model, tiny
from anmok.tasks import Pose
from battery import picture

CARDS = ("vitpose-b-simple", "sapiens-300m-pose17", "sapiens2-400m-pose")


@functools.cache
def model(name: str) -> Model:
    return tiny(name)


@pytest.mark.parametrize("name", CARDS)
def test_a_detector_finds_the_people(name: str) -> None:
    pictures = [picture(size, seed) for seed, size in enumerate(((61, 83), (96, 40), (33, 120)))]
    answers = model(name).run(pictures, Pose(person=0.0))
    assert [answer.size_hw for answer in answers] == [image.shape[:2] for image in pictures]
    assert max(len(answer) for answer in answers) > 1
    for image, answer in zip(pictures, answers, strict=True):
        assert (np.diff(answer.box_scores) <= 0).all()  # the surest person first
        [alone] = model(name).run([image], Pose(person=0.0))
        np.testing.assert_allclose(alone.xyxy, answer.xyxy, rtol=0, atol=1e-3)
        np.testing.assert_allclose(alone.xy, answer.xy, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CARDS)
def test_boxes_of_the_detector_given_by_hand_find_the_same_points(name: str) -> None:
    image = picture((61, 83), 0)
    [found] = model(name).run([image], Pose(person=0.0))
    boxes = tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in found.xyxy if x2 > x1 and y2 > y1)
    [given] = model(name).run([Prompted(image, boxes=boxes[:3])], Pose())
    assert len(given) == len(boxes[:3]) > 0
    assert (given.box_scores == 1).all()
    is_plain = (found.xyxy[:, 2:] > found.xyxy[:, :2]).all(1)
    np.testing.assert_allclose(given.xy, found.xy[is_plain][:3], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CARDS)
def test_where_the_detector_is_sure_of_nobody_the_answer_is_empty(name: str) -> None:
    [nobody] = model(name).run([picture((40, 30), 1)], Pose(person=1.0))
    assert len(nobody) == 0
    assert nobody.to_dict() == {"size": [40, 30], "people": []}


def test_a_point_is_no_person() -> None:
    with pytest.raises(BadRequest, match="pose takes boxes around people"):
        model(CARDS[0]).run([Prompted(picture((40, 30), 1), points=((3.0, 4.0, 1),))], Pose())


def test_a_box_that_reaches_out_is_shown_inside() -> None:
    image = picture((40, 30), 1)
    [found] = model(CARDS[0]).run([Prompted(image, boxes=((-10.0, -5.0, 20.0, 60.0),))], anmok.Pose())
    np.testing.assert_array_equal(found.xyxy, [(0, 0, 20, 40)])
    assert ((found.xy >= 0) & (found.xy <= (30, 40))).all()
