"""The battery of models whose answers have a place in the picture: every architecture, every task, at toy size.

As ``test_every_model.py`` does for embeddings and scores. Random weights give random answers; these must still be
valid, in the caller's pixels, and the same alone or in any batch.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.catalogue import Card, cards
from anmok.errors import BadRequest, Unsupported, WrongState
from anmok.inputs import Clip, Cue, Encoded, Item, Prompted
from anmok.load import Model, tiny
from anmok.media import read
from anmok.results import (
    DepthMap,
    Detections,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Points,
    Result,
    Tracked,
    Tracks,
)
from anmok.tasks import Depth, Detect, Everything, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment, Track
from battery import architecture, odd_pictures, picture, rotated

PLACED = ("detect", "point", "segment", "track", "depth", "pose", "gaze", "parse", "normals", "matte")
PEOPLE = ("pose", "gaze")
LABELS = ("red", "grey cat", "green")
ALL = sorted((one for one in cards(is_hidden=True) if set(one.tasks) & set(PLACED)), key=architecture)
FIRST = [next(group) for _, group in itertools.groupby(ALL, architecture)]
STILL = [
    pytest.param(one, task, id=f"{one.name}-{task}")
    for one in FIRST
    for task in one.tasks
    if task in PLACED and task != "track"
]
FOLLOWERS = [pytest.param(one, id=one.name) for one in FIRST if "track" in one.tasks]
# What each task's answers are, in numbers that can be compared: an array per answer.
NUMBERS: dict[type[Result], Callable[[Any], NDArray[np.generic]]] = {
    Detections: lambda one: np.concatenate([one.xyxy, one.scores[:, None], one.class_ids[:, None]], 1),
    Points: lambda one: np.concatenate([one.xy, one.scores[:, None], one.class_ids[:, None]], 1),
    Gazes: lambda one: np.concatenate([one.eyes, one.targets, one.scores[:, None], one.is_inside[:, None]], 1),
    Masks: lambda one: np.concatenate([[rle.area for rle in one.rles], one.scores, one.class_ids]),
    DepthMap: lambda one: one.depth,
    Keypoints: lambda one: np.concatenate([one.xy.ravel(), one.scores.ravel(), one.xyxy.ravel()]),
    PartMap: lambda one: one.parts,
    NormalMap: lambda one: one.normals,
    Matte: lambda one: one.alpha,
}
GRID = Everything(points_per_side=2, predicted_iou=0.0, stability=0.0)


@functools.cache
def model(name: str, seed: int = 0) -> Model:
    return tiny(name, seed)


def ask_for(one: Card, task: str) -> Any:
    labels = LABELS if one.languages else None
    asks = {
        "detect": Detect(labels, threshold=0.0, top_k=20),
        "segment": Segment(labels, threshold=0.0, everything=GRID),
        "point": Pointing(LABELS, top_k=20),
        "depth": Depth(),
        "pose": Pose(),
        "gaze": Gaze(),
        "parse": Parse(),
        "normals": Normals(),
        "matte": Matting(),
    }
    return asks[task]


def item_for(task: str, source: Any) -> Item:
    """People are given by their boxes: what a random detector calls a person is no matter of these tests."""
    height, width = read(source).shape[:2]
    return Prompted(source, boxes=((0.0, 0.0, width, max(1.0, height / 2)),)) if task in PEOPLE else source


def numbers(result: Result) -> NDArray[np.generic]:
    return NUMBERS[type(result)](result)


def check(result: Result, size_hw: tuple[int, int]) -> None:
    """Of the picture's size, finite, and whole in JSON; shapes and places were checked when it was made."""
    assert result.size_hw == size_hw  # type: ignore[attr-defined]
    assert np.isfinite(numbers(result).astype(np.float64)).all()
    assert json.loads(result.to_json()) == result.to_dict()


@pytest.mark.parametrize(("one", "task"), STILL)
def test_odd_pictures_are_answered_in_their_own_pixels(one: Card, task: str) -> None:
    pictures = list(odd_pictures().values())
    answers = model(one.name).run([item_for(task, data) for data in pictures], ask_for(one, task))
    assert len(answers) == len(pictures)
    for data, answer in zip(pictures, answers, strict=True):
        check(answer, read(data).shape[:2])


@pytest.mark.parametrize(("one", "task"), STILL)
def test_a_turned_picture_is_turned_back(one: Card, task: str) -> None:
    with pillow.open(io.BytesIO(rotated())) as stored:
        upright = np.ascontiguousarray(np.rot90(np.asarray(stored), k=-1))
    both = [item_for(task, source) for source in (rotated(), upright)]
    lying, standing = model(one.name).run(both, ask_for(one, task))
    np.testing.assert_allclose(numbers(lying), numbers(standing), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("one", "task"), STILL)
def test_a_batch_equals_its_parts_in_any_order(one: Card, task: str) -> None:
    pictures = [picture(size, seed) for seed, size in enumerate(((61, 83), (96, 96), (40, 30), (1, 1), (61, 83)))]
    five, ask = [item_for(task, image) for image in pictures], ask_for(one, task)
    alone = [model(one.name).run([item], ask)[0] for item in five]
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        together = model(one.name).run([five[i] for i in order], ask)
        for i, answer in zip(order, together, strict=True):
            wanted = numbers(alone[i]).astype(np.float64)
            # Places are in pixels of up to 96, so 1e-5 of the canvas is 1e-3 of a pixel.
            np.testing.assert_allclose(numbers(answer).astype(np.float64), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("one", "task"), STILL)
def test_two_loads_agree_and_seeds_differ(one: Card, task: str) -> None:
    item, ask = item_for(task, picture((61, 83), 3)), ask_for(one, task)
    first, again, other = (m.run([item], ask)[0] for m in (model(one.name), tiny(one.name, 0), tiny(one.name, 1)))
    np.testing.assert_array_equal(numbers(first), numbers(again))
    is_same = numbers(first).shape == numbers(other).shape and np.array_equal(numbers(first), numbers(other))
    assert is_same == (one.family == "fake")


@pytest.mark.parametrize(("one", "task"), STILL)
def test_a_state_answers_as_its_picture_does_and_only_to_its_maker(one: Card, task: str) -> None:
    image, loaded = picture((61, 83), 1), model(one.name)
    [state] = loaded.encode([image])
    assert state.nbytes > 0
    assert all(not array.flags.writeable for array in state.maps.values())
    boxes = ((0.0, 0.0, 83.0, 30.5),)
    pair = [Prompted(one, boxes=boxes) if task in PEOPLE else one for one in (image, state)]
    direct, later = (loaded.run([item], ask_for(one, task))[0] for item in pair)
    np.testing.assert_array_equal(numbers(direct), numbers(later))
    with pytest.raises(WrongState, match="encode it again"):
        loaded.run([Encoded("another@1#0/float32", state.maps, state.frame)], ask_for(one, task))


def takes_prompts(one: Card) -> bool:
    return "segment" in one.tasks and one.code.partition(":")[0] != "sam3"


PROMPTED = [pytest.param(one, id=one.name) for one in FIRST if takes_prompts(one)]


@pytest.mark.parametrize("one", PROMPTED)
def test_what_is_pointed_at_is_answered_object_by_object(one: Card) -> None:
    image, loaded = picture((61, 83), 1), model(one.name)
    [state] = loaded.encode([image])
    guess = loaded.run([Prompted(state, points=((40, 30, 1),))], Segment())[0].rles[0]
    prompts = [
        Prompted(state, points=((40.0, 30.0, 1), (3.0, 3.0, 0))),
        Prompted(state, boxes=((10.0, 10.0, 40.0, 40.0), (30.5, 20.0, 83.0, 61.0))),
        Prompted(state, points=((40.0, 30.0, 1),), boxes=((10.0, 10.0, 70.0, 50.0),)),
        Prompted(state, mask=guess),
    ]
    answers = loaded.run(prompts, Segment())
    assert [len(answer) for answer in answers] == [1, 2, 1, 1]
    assert [len(answer) for answer in loaded.run(prompts[:2], Segment(candidates=3))] == [3, 6]
    for prompt, answer in zip(prompts, answers, strict=True):
        check(answer, (61, 83))
        assert answer.labels == ()
        [direct] = loaded.run([Prompted(image, prompt.points, prompt.boxes, prompt.mask)], Segment())
        np.testing.assert_allclose(numbers(direct), numbers(answer), rtol=0, atol=1e-5)
    with pytest.raises(BadRequest, match="outside the picture of 83 x 61"):
        loaded.run([Prompted(state, points=((83.5, 3.0, 1),))], Segment())
    with pytest.raises(BadRequest, match="outside the picture"):
        loaded.run([Prompted(state, boxes=((90.0, 3.0, 95.0, 9.0),))], Segment())


def moving(count: int = 4) -> list[NDArray[np.uint8]]:
    """A red and a green square that walk apart over grey."""
    stills = []
    for step in range(count):
        image = np.full((48, 64, 3), 128, np.uint8)
        image[10:20, 24 - 4 * step : 34 - 4 * step] = (255, 0, 0)
        image[30:40, 20 + 5 * step : 30 + 5 * step] = (0, 255, 0)
        stills.append(image)
    return stills


@pytest.mark.parametrize("one", FOLLOWERS)
def test_objects_are_followed_frame_by_frame(one: Card) -> None:
    cues = (Cue(0, 1, points=((28.0, 15.0, 1),)), Cue(0, 7, box=(20.0, 30.0, 30.0, 40.0)))
    takes_words = one.code.partition(":")[0] in ("grounded", "sam3_video")
    ask = Track(LABELS if takes_words else None, threshold=0.0, every=2)
    clip = Clip(moving(), cues=() if takes_words else cues)
    pieces = list(model(one.name).stream(clip, ask))
    assert [piece.frame for piece in pieces] == [0, 1, 2, 3]
    for piece in pieces:
        assert isinstance(piece, Tracked)
        assert piece.masks.size_hw == (48, 64)
        assert np.isfinite(piece.masks.scores).all()
        assert takes_words or piece.ids.tolist() == [1, 7]
        assert json.loads(piece.to_json()) == piece.to_dict()
    [whole] = model(one.name).run([clip], ask)
    assert isinstance(whole, Tracks)
    for piece, again in zip(pieces, whole.frames, strict=True):
        assert piece.masks.rles == again.masks.rles
    if not takes_words:
        with pytest.raises(BadRequest, match="cue at frame 9: the clip was read up to frame 3"):
            model(one.name).run([Clip(moving(), cues=(*cues, Cue(9, 1, points=((1, 1, 1),))))], ask)


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in ALL])
def test_every_card_answers_at_toy_size(one: Card) -> None:
    image = picture((61, 83), 2)
    for task in set(one.tasks) & set(PLACED) - {"track"}:
        [answer] = model(one.name).run([item_for(task, image)], ask_for(one, task))
        check(answer, (61, 83))
    assert model(one.name).memory_bytes > 0
    assert one.verified.tiny


def test_a_clip_is_for_those_who_follow() -> None:
    with pytest.raises(BadRequest, match="track takes a clip"):
        model("fake-places").run([picture((8, 8), 0)], Track())
    with pytest.raises(BadRequest, match="followed or streamed"):
        model("fake-places").run([Clip(moving())], Depth())
    with pytest.raises(Unsupported, match="does not track"):
        next(model("fake").stream(Clip(moving()), Track()))
    depths = list(model("fake-places").stream(Clip(moving(2)), Depth()))
    assert [depth.size_hw for depth in depths] == [(48, 64), (48, 64)]


def test_the_battery_has_every_placed_architecture() -> None:
    assert {"/".join(architecture(one)) for one in FIRST} == {
        "depth-anything-3/depth_anything3:DepthAnything3/anyview",
        "depth-anything-3/depth_anything3:DepthAnything3/metric",
        "depth-anything-3/depth_anything3:DepthAnything3/mono",
        "depth-anything-v2/depth_anything:DepthAnything/metric",
        "depth-anything-v2/depth_anything:DepthAnything/relative",
        "dfine/detr:Detr/d_fine",
        "edgetam/sam2:Sam2/edgetam",
        "fake/fake_places:FakePlaces/places",
        "fake/grounded:Grounded/grounded",
        "florence2/florence2:Florence2/davit",
        "grounded/grounded:Grounded/edgetam",
        "grounded/grounded:Grounded/sam",
        "grounded/grounded:Grounded/sam2",
        "grounding-dino/grounding_dino:GroundingDino/grounding_dino",
        "mm-grounding-dino/grounding_dino:GroundingDino/mm_grounding_dino",
        "moondream/moondream:Moondream/2b",
        "moondream/moondream:Moondream/bundle",
        "owlv2/owlv2:Owlv2/vit",
        "rfdetr/detr:Detr/rf_detr",
        "rtdetr/detr:Detr/rt_detr_v2",
        "sam/sam:Sam/vit",
        "sam2/sam2:Sam2/sam2",
        "sam2/sam2:Sam2/sam2.1",
        "sam3/sam3:Sam3/sam3",
        "samurai/samurai:Samurai/motion",
        "sapiens/sapiens:SapiensMaps/depth",
        "sapiens/sapiens:SapiensMaps/normals",
        "sapiens/sapiens:SapiensMaps/parts",
        "sapiens/sapiens:SapiensPose/pose133",
        "sapiens/sapiens:SapiensPose/pose17",
        "sapiens/sapiens:SapiensPose/pose308",
        "sapiens2/sapiens2:Sapiens2Maps/matting",
        "sapiens2/sapiens2:Sapiens2Maps/normals",
        "sapiens2/sapiens2:Sapiens2Maps/parts",
        "sapiens2/sapiens2:Sapiens2Maps/pointmap",
        "sapiens2/sapiens2:Sapiens2Pose/pose",
        "vitpose/vitpose:VitPose/classic",
        "vitpose/vitpose:VitPose/plus",
        "vitpose/vitpose:VitPose/simple",
    }
