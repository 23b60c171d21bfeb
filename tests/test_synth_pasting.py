"""Objects pasted and backgrounds exchanged: labels say what is seen, no more and no less; pictures of generators."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadData, BadRequest
from anmok.geometry import Rle
from anmok.results import Masks
from anmok.synth import (
    Cutout,
    Generates,
    Given,
    Good,
    Pasting,
    Provenance,
    balance,
    cut,
    generated,
    paste,
    surface,
    swap_background,
    usable,
)

RED, BLUE = (250, 0, 0), (0, 0, 250)


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (60, 80)) -> NDArray[np.uint8]:
    return np.full((*size, 3), colour, np.uint8)


def square(label: str, colour: tuple[int, int, int], side: int) -> Cutout:
    return Cutout(flat(colour, (side, side)), np.ones((side, side), np.bool_), label, f"sha-{label}")


def masks_of(*masks: NDArray[np.bool_], labels: tuple[str, ...]) -> Masks:
    size = (masks[0].shape[0], masks[0].shape[1])
    ids = np.arange(len(masks)) % len(labels)
    return Masks(tuple(Rle.of(one) for one in masks), np.ones(len(masks), np.float32), ids, labels, size)


def disc(size: tuple[int, int], x: int, y: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def test_a_cutout_is_the_object_and_knows_its_picture(tmp_path: Path) -> None:
    image = surface("wood", (60, 80), 0)
    pillow.fromarray(image).save(tmp_path / "a.png")
    mask = disc((60, 80), 30, 20, 10)
    [one] = cut(Good(tmp_path / "a.png"), masks_of(mask, np.zeros((60, 80), np.bool_), labels=("nut", "none")))
    assert one.label == "nut"
    assert one.mask.sum() == mask.sum()
    assert np.array_equal(one.image, image[10:31, 20:41])
    assert one.group == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    with pytest.raises(BadRequest, match="the picture is"):
        cut(Good(tmp_path / "a.png"), masks_of(disc((20, 20), 5, 5, 3), labels=("nut",)))


def test_masks_are_what_is_seen_of_each_object() -> None:
    ground = Good(flat((100, 100, 100)))
    objects = [square("red", RED, 20), square("blue", BLUE, 26)]
    pasting = Pasting(count=(4, 4), scale=(1, 1), least_left=0.0, edge=0.0)
    hidden = 0
    for index in range(30):
        made = paste(ground, objects, pasting, 0, index)
        dense = made.masks.dense()
        assert dense.sum(axis=0).max() <= 1
        assert np.array_equal(dense.any(axis=0), (made.image != 100).any(axis=2))
        for mask, name, box in zip(dense, made.masks.names, made.boxes, strict=True):
            assert (made.image[mask] == (RED if name == "red" else BLUE)).all()
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        hidden += 4 - len(dense)
        areas = [rle.area for rle in made.masks.rles]
        assert made.label == made.masks.names[int(np.argmax(areas))]
        assert set(made.provenance.also) <= {"sha-red", "sha-blue"}
    assert hidden <= 20


def test_an_object_of_which_too_little_is_left_is_dropped() -> None:
    there = masks_of(disc((60, 80), 40, 30, 12), labels=("old",))
    ground = Good(flat((100, 100, 100)))
    kept = {0.05: 0, 0.9: 0}
    for least in kept:
        pasting = Pasting(count=(1, 1), scale=(1, 1), least_left=least, edge=0.0)
        for index in range(40):
            made = paste(ground, [square("red", RED, 24)], pasting, 1, index, there=there)
            for rle, name in zip(made.masks.rles, made.masks.names, strict=True):
                if name == "old":
                    kept[least] += 1
                    assert rle.area >= least * there.rles[0].area
    assert kept[0.9] < kept[0.05] <= 40


def test_pasting_is_seeded_and_softens_only_inwards() -> None:
    ground = Good(surface("speckle", (60, 80), 0))
    objects = [square("red", RED, 20)]
    one, two, other = (paste(ground, objects, Pasting(), 0, index) for index in (3, 3, 4))
    assert np.array_equal(one.image, two.image)
    assert not np.array_equal(one.image, other.image)
    assert isinstance(ground.image, np.ndarray)
    untouched = ~one.masks.dense().any(axis=0)
    assert np.array_equal(one.image[untouched], ground.image[untouched])
    assert one.provenance.group == hashlib.sha256(ground.image.tobytes()).hexdigest()
    with pytest.raises(BadRequest, match="no objects"):
        paste(ground, [], Pasting(), 0, 0)


def test_a_new_background_leaves_the_objects_and_their_boxes() -> None:
    image = flat(RED)
    mask = disc((60, 80), 40, 30, 15)
    masks = masks_of(mask, labels=("nut",))
    made = swap_background(Good(image), masks, Good(flat(BLUE, (200, 100))), pasting=Pasting(edge=0.0, licence="MIT"))
    assert (made.image[mask] == RED).all()
    assert (made.image[~mask] == BLUE).all()
    assert made.boxes.tolist() == [[25, 15, 56, 46]]
    assert (made.label, made.provenance.licence) == ("nut", "MIT")
    assert made.provenance.also == (hashlib.sha256(flat(BLUE, (200, 100)).tobytes()).hexdigest(),)
    with pytest.raises(BadRequest, match="nothing would be left"):
        swap_background(Good(image), Masks.none((), (60, 80)), Good(flat(BLUE)))


class _Painter:
    def __call__(self, prompt: str, seed: int) -> NDArray[np.uint8]:
        return np.full((8, 8, 3), (len(prompt), seed, 0), np.uint8)


def test_a_generator_is_asked_in_turn_and_its_pictures_carry_its_name() -> None:
    painter = _Painter()
    assert isinstance(painter, Generates)
    prompts = {"rust": ["a rusty nut", "rust"], "good": ["a nut"]}
    made = list(generated(painter, prompts, 5, 10, name="toy", licence="MIT"))
    assert [one.label for one in made] == ["rust", "good", "rust", "good", "rust"]
    assert [tuple(one.image[0, 0]) for one in made] == [(11, 10, 0), (5, 11, 0), (4, 12, 0), (5, 13, 0), (11, 14, 0)]
    one = made[0]
    assert (one.provenance.generator, one.provenance.licence, one.provenance.group) == ("toy", "MIT", "")
    assert (one.source_index, len(one.masks), one.provenance.is_synthetic) == (-1, 0, True)


def test_any_iterable_of_pictures_is_a_generator() -> None:
    pictures = [flat(RED, (4, 4)), flat(BLUE, (4, 4))]
    made = list(generated(iter(pictures), {"a": ["x"], "b": ["y"]}, 2, 0, name="given", licence="CC0-1.0"))
    assert [tuple(one.image[0, 0]) for one in made] == [RED, BLUE]
    assert isinstance(Given(pictures), Generates)
    with pytest.raises(BadData, match="no picture left"):
        list(generated(pictures, {"a": ["x"]}, 3, 0, name="given", licence="CC0-1.0"))
    with pytest.raises(BadRequest, match="no prompts"):
        generated(pictures, {"a": []}, 1, 0, name="given", licence="MIT")
    with pytest.raises(BadRequest, match="licence"):
        generated(pictures, {"a": ["x"]}, 1, 0, name="given", licence="")
    with pytest.raises(BadRequest, match="names a folder"):
        generated(pictures, {"../a": ["x"]}, 1, 0, name="given", licence="MIT")


def test_made_pictures_weigh_half_of_the_real_ones_whatever_their_number() -> None:
    real = ["good"] * 10 + ["bad"] * 4
    made = ["bad", "good"] * 100
    before: set[int] = set()
    for ratio, count in ((0.0, 0), (0.5, 7), (1.0, 14), (2.0, 28), (10.0, 140)):
        mix = balance(real, made, ratio)
        chosen = [made[index] for index in mix.indices]
        assert len(chosen) == count
        assert chosen.count("bad") == 4 * ratio
        assert before <= set(mix.indices.tolist())
        before = set(mix.indices.tolist())
        total = mix.real_weights.sum() + mix.made_weights.sum()
        assert total == pytest.approx(14 + count)
        if count:
            assert mix.made_weights.sum() / mix.real_weights.sum() == pytest.approx(0.5)
            bad = np.asarray([label == "bad" for label in chosen])
            assert mix.made_weights[bad].sum() / mix.made_weights.sum() == pytest.approx(4 / 14)


def test_a_class_without_real_pictures_counts_as_a_usual_one() -> None:
    mix = balance(["a"] * 6 + ["b"] * 10, ["c"] * 50, 1.0)
    assert len(mix.indices) == 8
    assert mix.made_weights.sum() / mix.real_weights.sum() == pytest.approx(0.5 * 8 / 16)
    assert len(balance(["a"], ["a"] * 3, 10.0).indices) == 3
    for real, ratio, weight in (([], 1.0, 0.5), (["a"], 10.5, 0.5), (["a"], 1.0, 1.5)):
        with pytest.raises(BadRequest):
            balance(real, ["a"], ratio, weight)


def test_what_was_made_of_a_held_out_picture_is_not_learned_from() -> None:
    made = [
        Provenance("r", 0, 0, group="a"),
        Provenance("r", 0, 1, group="b"),
        Provenance("r", 0, 2, group="c", also=("b", "d")),
        Provenance("r", 0, 3, generator="toy"),
        Provenance("r", 0, 4, group="c"),
    ]
    assert usable(made, {"b"}).tolist() == [0, 3, 4]
    assert usable(made, {"a", "d"}).tolist() == [1, 3, 4]
    assert usable(made, set()).tolist() == [0, 1, 2, 3, 4]
