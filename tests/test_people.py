"""Points of the body: their order, their bones and what a mirror swaps, checked by what their names say."""

from __future__ import annotations

import re

import pytest

from anmok.people import COCO, PARTS_28, PARTS_29, SAPIENS, WHOLEBODY, Skeleton, skeleton

ALL = [pytest.param(one, id=str(len(one.names))) for one in (COCO, WHOLEBODY, SAPIENS)]


@pytest.mark.parametrize("one", ALL)
def test_names_bones_and_partners_fit_each_other(one: Skeleton) -> None:
    count = len(one.names)
    assert len(set(one.names)) == count
    assert all(0 <= end < count for edge in one.edges for end in edge)
    assert len({frozenset(edge) for edge in one.edges}) == len(one.edges)
    assert [one.partners[partner] for partner in one.partners] == list(range(count))


@pytest.mark.parametrize("one", ALL)
def test_the_partner_of_a_left_point_is_a_right_one(one: Skeleton) -> None:
    for name, partner in zip(one.names, one.partners, strict=True):
        if side := re.search(r"(?:^|_)(left|right|l|r)_", name):
            other = {"left": "right", "right": "left", "l": "r", "r": "l"}[side[1]]
            assert re.search(rf"(?:^|_){other}_", one.names[partner]), name
        elif not re.search(r"face|lip", name):
            assert one.names[partner] == name
        # What a point is called stays, but for the count that runs the other way round on the other side.
        what = re.sub(r"(?:^|_)(?:left|right|l|r)_", "_", re.sub(r"\d+", "", name))
        assert what == re.sub(r"(?:^|_)(?:left|right|l|r)_", "_", re.sub(r"\d+", "", one.names[partner]))


@pytest.mark.parametrize("one", ALL)
def test_a_mirrored_skeleton_is_the_same_skeleton(one: Skeleton) -> None:
    bones = {frozenset(edge) for edge in one.edges}
    assert {frozenset(one.partners[end] for end in bone) for bone in bones} == bones


def test_the_sets_are_the_published_ones() -> None:
    assert [len(skeleton(points).names) for points in (17, 133, 308)] == [17, 133, 308]
    assert [len(one.edges) for one in (COCO, WHOLEBODY, SAPIENS)] == [19, 65, 65]
    with pytest.raises(KeyError):
        skeleton(18)
    assert COCO.names[:3] == ("nose", "left_eye", "right_eye")
    assert COCO.names[-1] == "right_ankle"
    assert WHOLEBODY.names[:17] == COCO.names
    assert [WHOLEBODY.names.index(name) for name in ("left_big_toe", "face-0", "left_hand_root")] == [17, 23, 91]
    assert WHOLEBODY.names[112] == "right_hand_root"
    assert WHOLEBODY.names[132] == "right_pinky_finger4"
    assert [SAPIENS.names.index(name) for name in ("right_wrist", "left_wrist", "neck", "tip_of_nose")] == [
        41,
        62,
        69,
        178,
    ]
    assert sum(partner != i for i, partner in enumerate(SAPIENS.partners)) == 292


def test_hands_hang_on_wrists() -> None:
    bones = {frozenset(SAPIENS.names[end] for end in edge) for edge in SAPIENS.edges}
    assert frozenset(("left_wrist", "left_thumb_third_joint")) in bones
    assert frozenset(("right_pinky_finger3", "right_pinky_finger4")) in bones
    bones = {frozenset(WHOLEBODY.names[end] for end in edge) for edge in WHOLEBODY.edges}
    assert frozenset(("left_hand_root", "left_ring_finger1")) in bones
    assert frozenset(("right_thumb3", "right_thumb4")) in bones


def test_parts() -> None:
    assert [len(PARTS_28), len(PARTS_29)] == [28, 29]
    assert PARTS_28[0] == PARTS_29[0] == "Background"
    assert tuple(part for part in PARTS_29 if part != "Eyeglass") == PARTS_28
    assert PARTS_29[2] == "Eyeglass"
