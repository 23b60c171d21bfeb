"""Objects cut out by their masks and pasted elsewhere, and backgrounds exchanged behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as pillow

from anmok.errors import BadRequest
from anmok.geometry import Rle
from anmok.media import Image
from anmok.results import Masks
from anmok.synth import filters
from anmok.synth.filters import Mask
from anmok.synth.pictures import Good, Made, Provenance
from anmok.synth.recipes import Pasting

_PASTE, _SWAP = 11, 12  # streams of random numbers
_TRIES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An object: its window uint8 (h, w, 3), its mask in it bool (h, w), its label, and the SHA-256 of its picture."""

    image: Image
    mask: Mask
    label: str
    group: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    mask: Mask  # (H, W), what of it is seen
    whole: int  # pixels of it before anything covered it
    label: str


def cut(picture: Good, masks: Masks) -> tuple[Cutout, ...]:
    """Every object of a picture; masks without a pixel are left out.

    Raises:
        BadRequest: the masks are of a picture of another size.
        BadMedia: the picture cannot be read.
    """
    image, group = picture.read()
    _check_size(image, masks)
    found = []
    for rle, name in zip(masks.rles, masks.names, strict=True):
        left, top, width, height = rle.box_xywh
        if rle.area:
            found.append(Cutout(image[top : top + height, left : left + width].copy(), rle.crop(), name, group))
    return tuple(found)


def paste(
    ground: Good, objects: Sequence[Cutout], pasting: Pasting, seed: int, index: int, *, there: Masks | None = None
) -> Made:
    """Some of the objects, scaled and mirrored at random, on a picture, with masks of what stays in sight.

    What is pasted later lies in front. ``there`` are objects that the picture has already: they are covered like the
    others. An object of which less than ``least_left`` is seen is dropped from the masks, and stays in the picture.
    The label is that of the largest pasted object. Source: simple copy-paste (Ghiasi et al. 2021), without its
    blur of the edge at full width.

    Raises:
        BadRequest: no objects, or ``there`` is of a picture of another size.
        BadMedia: the picture cannot be read.
    """
    if not objects:
        raise BadRequest("no objects to paste: cut some first")
    image, group = ground.read()
    rng = np.random.default_rng([seed, _PASTE, index])
    layers = [] if there is None else _layers(image, there)
    image, first, also = image.copy(), len(layers), [group]
    for _ in range(int(rng.integers(pasting.count[0], pasting.count[1] + 1))):
        one = objects[int(rng.integers(len(objects)))]
        placed = _placed(one, image.shape[:2], pasting, rng)
        if placed is None:
            continue
        cover, pixels = placed
        image = _over(image, pixels, cover, pasting.edge)
        layers = [_Layer(layer.mask & ~cover, layer.whole, layer.label) for layer in layers]
        layers.append(_Layer(cover, int(cover.sum()), one.label))
        also.append(one.group)
    kept = [layer for layer in layers if layer.mask.sum() >= max(pasting.least_left * layer.whole, 1)]
    pasted = [layer for layer in layers[first:] if layer in kept]
    label = max(pasted, key=lambda layer: int(layer.mask.sum())).label if pasted else "background"
    masks = _masks(kept, image.shape[:2])
    others = tuple(dict.fromkeys(sha for sha in also[1:] if sha))
    provenance = Provenance(pasting.digest, seed, index, ground.name, group, licence=pasting.licence, also=others)
    return Made(image, masks, label, -1, provenance)


def swap_background(
    picture: Good, masks: Masks, ground: Good, *, pasting: Pasting | None = None, seed: int = 0, index: int = 0
) -> Made:
    """The objects of a picture where they are, before another background; masks and boxes stay as they were.

    ``ground`` is cut to the picture's shape and resized; where in it is drawn from seed and index. Of ``pasting``
    edge and licence are used.

    Raises:
        BadRequest: there are no masks, or they are of a picture of another size.
        BadMedia: one of the pictures cannot be read.
    """
    image, group = picture.read()
    _check_size(image, masks)
    if not len(masks) or not any(rle.area for rle in masks.rles):
        raise BadRequest(f"{picture.name}: no masks, so nothing would be left of it")
    rng = np.random.default_rng([seed, _SWAP, index])
    pasting = Pasting() if pasting is None else pasting
    other, other_group = ground.read()
    behind = _filled(other, image.shape[:2], rng)
    cover = np.asarray(masks.dense().any(axis=0), np.bool_)  # (H, W)
    mixed = _over(behind, image, cover, pasting.edge)
    areas = [rle.area for rle in masks.rles]
    label = masks.names[int(np.argmax(areas))]
    provenance = Provenance(
        f"swap-{pasting.digest}", seed, index, picture.name, group, licence=pasting.licence, also=(other_group,)
    )
    return Made(mixed, masks, label, -1, provenance)


def _layers(image: Image, masks: Masks) -> list[_Layer]:
    _check_size(image, masks)
    return [_Layer(rle.mask(), rle.area, name) for rle, name in zip(masks.rles, masks.names, strict=True)]


def _check_size(image: Image, masks: Masks) -> None:
    if masks.size_hw != image.shape[:2]:
        raise BadRequest(f"masks of a picture {masks.size_hw}, the picture is {image.shape[:2]} (height, width)")


def _placed(
    one: Cutout, size_hw: tuple[int, ...], pasting: Pasting, rng: np.random.Generator
) -> tuple[Mask, Image] | None:
    """The object on an empty canvas: its mask bool (H, W) and its pixels uint8 (H, W, 3); None where it never fits."""
    for _ in range(_TRIES):
        mask, pixels = _scaled(one, rng.uniform(*pasting.scale))
        if pasting.is_flipped and rng.random() < 0.5:
            mask, pixels = mask[:, ::-1], pixels[:, ::-1]
        whole = int(mask.sum())
        # Its middle lies in the picture, so that a part of it may be cut off.
        top, left = (int(rng.integers(0, side)) - size // 2 for side, size in zip(size_hw, mask.shape, strict=True))
        rows = slice(max(top, 0), min(top + mask.shape[0], size_hw[0]))
        columns = slice(max(left, 0), min(left + mask.shape[1], size_hw[1]))
        inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        cover = np.zeros(size_hw, np.bool_)
        cover[rows, columns] = mask[inner]
        if whole and cover.sum() >= 0.5 * whole:
            canvas = np.zeros((*size_hw, 3), np.uint8)
            canvas[rows, columns] = pixels[inner]
            return cover, canvas
    return None


def _scaled(one: Cutout, scale: float) -> tuple[Mask, Image]:
    height, width = (max(round(side * scale), 1) for side in one.mask.shape)
    pixels = pillow.fromarray(one.image).resize((width, height), pillow.Resampling.BICUBIC)
    cover = pillow.fromarray(one.mask.astype(np.uint8) * 255).resize((width, height), pillow.Resampling.BILINEAR)
    return np.asarray(cover) > 127, np.asarray(pixels)


def _over(behind: Image, front: Image, cover: Mask, edge: float) -> Image:
    """``front`` over ``behind`` under the mask, its rim softened inwards: no pixel outside of the mask changes."""
    alpha = cover.astype(np.float32)
    if edge > 0:
        alpha = np.clip(filters.soft(alpha, edge) * 2 - 1, 0, 1) * 0.7 + 0.3
        alpha = np.where(cover, alpha, 0).astype(np.float32)
    mixed = behind + alpha[..., None] * (front.astype(np.float32) - behind)  # (H, W, 3)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def _filled(image: Image, size_hw: tuple[int, ...], rng: np.random.Generator) -> Image:
    """The largest cut of that shape, at a random place, resized: (H, W, 3)."""
    height, width = image.shape[:2]
    scale = min(height / size_hw[0], width / size_hw[1])
    tall, wide = max(int(size_hw[0] * scale), 1), max(int(size_hw[1] * scale), 1)
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    piece = pillow.fromarray(image[top : top + tall, left : left + wide])
    return np.asarray(piece.resize((size_hw[1], size_hw[0]), pillow.Resampling.BICUBIC))


def _masks(layers: Sequence[_Layer], size_hw: tuple[int, ...]) -> Masks:
    labels = tuple(dict.fromkeys(layer.label for layer in layers))
    ids = np.asarray([labels.index(layer.label) for layer in layers], np.int64)
    rles = tuple(Rle.of(layer.mask) for layer in layers)
    return Masks(rles, np.ones(len(rles), np.float32), ids, labels, (size_hw[0], size_hw[1]))
