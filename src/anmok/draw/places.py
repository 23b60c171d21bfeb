"""Boxes, points, masks, tracks, joints and gazes drawn on their picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageDraw

from anmok.draw.colours import Colour, colour, ink_on
from anmok.draw.fonts import font
from anmok.geometry import Rle
from anmok.media import Image
from anmok.results import Detections, Gazes, Keypoints, Masks, Points, Tracked

_OPACITY = 115  # of 255, of a mask's colour over its pixels
Box = tuple[float, float, float, float]


def detections(result: Detections, image: Image, *, is_numbered: bool = False) -> pillow.Image:
    """Each class in its own colour."""
    picture = pillow.fromarray(image)
    boxes(picture, result.xyxy, _tags(result, is_numbered), [colour(i) for i in result.class_ids.tolist()])
    return picture


def points(result: Points, image: Image) -> pillow.Image:
    """Each class in its own colour, and each point with its number in its class, as one counts."""
    picture = pillow.fromarray(image)
    pen = ImageDraw.Draw(picture)
    radius = 2 * _line_width(picture)
    counts: Counter[str] = Counter()
    tags = []
    for name in result.names:
        counts[name] += 1
        tags.append(f"{name} {counts[name]}" if len(result.labels) > 1 else f"{counts[name]}")
    rows = zip(result.xy.tolist(), tags, result.class_ids.tolist(), strict=True)
    for (x, y), tag, number in reversed(list(rows)):  # the last one at the bottom, so that the best stays readable
        ink = colour(number)
        _dot(pen, (x, y), radius, ink)
        _tag(pen, picture.size, (x + radius, y - radius), tag, ink)
    return picture


def gazes(result: Gazes, image: Image) -> pillow.Image:
    """Each person in one colour: the face, and a line from the eye to a dot where it looks. Of who looks out of the
    picture the eye is a ring."""
    picture = pillow.fromarray(image)
    inks = [colour(i) for i in range(len(result))]
    boxes(picture, result.faces, [""] * len(result.faces), inks[: len(result.faces)])
    pen = ImageDraw.Draw(picture)
    width = _line_width(picture)
    rows = zip(result.eyes.tolist(), result.targets.tolist(), result.is_inside.tolist(), inks, strict=True)
    for (x, y), target, is_inside, ink in rows:
        if is_inside:
            pen.line((x, y, *target), fill=ink, width=width)
            _dot(pen, (x, y), width, ink)
            _dot(pen, (target[0], target[1]), 3 * width, ink)
        else:
            pen.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), outline=ink, width=width)
    return picture


def masks(result: Masks, image: Image, *, is_numbered: bool = False) -> pillow.Image:
    """With names each class in its own colour, without each mask. What is empty has no box."""
    has_names = bool(result.labels)
    colours = [colour(i) for i in (result.class_ids.tolist() if has_names else range(len(result)))]
    picture = filled(image, result.rles, colours)
    if has_names or is_numbered:
        tags, shown = _tags(result, is_numbered), [i for i, rle in enumerate(result.rles) if rle.counts]
        boxes(picture, result.xyxy[shown], [tags[i] for i in shown], [colours[i] for i in shown])
    return picture


def tracked(result: Tracked, image: Image) -> pillow.Image:
    """Each object in the colour of its number, which it keeps through the clip."""
    numbers = result.ids.tolist()
    colours = [colour(number) for number in numbers]
    tags = [f"{number} {name}".strip() for number, name in zip(numbers, result.masks.names, strict=True)]
    picture = filled(image, result.masks.rles, colours)
    is_seen = [bool(rle.counts) for rle in result.masks.rles]
    seen = np.flatnonzero(is_seen)
    boxes(picture, result.masks.xyxy[seen], [tags[i] for i in seen], [colours[i] for i in seen])
    return picture


def keypoints(result: Keypoints, image: Image) -> pillow.Image:
    """Each person in one colour: the joints that the model is sure of, and what joins two such."""
    picture = pillow.fromarray(image)
    pen = ImageDraw.Draw(picture)
    width = _line_width(picture)
    for index in range(len(result)):
        ink = colour(index)
        places = [tuple(point) for point in result.xy[index].tolist()]
        is_shown = result.is_visible[index]
        for start, end in result.edges:
            if is_shown[start] and is_shown[end]:
                pen.line((*places[start], *places[end]), fill=ink, width=width)
        for (x, y), shown in zip(places, is_shown.tolist(), strict=True):
            if shown:
                _dot(pen, (x, y), width, ink)
    return picture


def filled(image: Image, rles: Sequence[Rle], colours: Sequence[Colour]) -> pillow.Image:
    """The picture with every mask's pixels coloured and its edge drawn, the large ones first."""
    picture = pillow.fromarray(image)
    for index in sorted(range(len(rles)), key=lambda i: -rles[i].area):
        if not rles[index].counts:
            continue
        mask = rles[index].crop()  # (h, w)
        opacity = mask.view(np.uint8) * np.uint8(_OPACITY)
        opacity[_edge(mask)] = 255
        left, top, _, _ = rles[index].box_xywh
        picture.paste(colours[index], (left, top, left + mask.shape[1], top + mask.shape[0]), pillow.fromarray(opacity))
    return picture


def boxes(picture: pillow.Image, xyxy: NDArray[np.float32], tags: Sequence[str], colours: Sequence[Colour]) -> None:
    """Outlines with a tag each, the last one at the bottom so that the best stays readable."""
    pen = ImageDraw.Draw(picture)
    width = _line_width(picture)
    for box, tag, ink in reversed(list(zip(xyxy.tolist(), tags, colours, strict=True))):
        left, top, right, bottom = box
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=ink, width=width)
        if tag:
            _tag(pen, picture.size, (left, top), tag, ink)


def _dot(pen: ImageDraw.ImageDraw, place: tuple[float, float], radius: int, ink: Colour) -> None:
    x, y = place
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink, outline=ink_on(ink))


def _tags(result: Detections | Masks, is_numbered: bool) -> list[str]:
    rows = zip(result.names, result.scores.tolist(), strict=True)
    plain = [f"{name} {score:.2f}".strip() for name, score in rows]
    return [f"{i}: {tag}" for i, tag in enumerate(plain)] if is_numbered else plain


def _tag(pen: ImageDraw.ImageDraw, size: tuple[int, int], corner: tuple[float, float], text: str, ink: Colour) -> None:
    """Above the corner, or below it where the picture ends; moved where it would leave the picture."""
    letters = font(max(11, max(size) // 60))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=letters)
    wide, high = right - left + 6, bottom - top + 4
    x = max(0.0, min(corner[0], size[0] - wide - 1))
    y = corner[1] - high if corner[1] >= high else max(0.0, min(corner[1], size[1] - high - 1))
    pen.rectangle((x, y, x + wide, y + high), fill=ink)
    pen.text((x + 3 - left, y + 2 - top), text, fill=ink_on(ink), font=letters)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's pixels with a neighbour outside it (h, w); beyond the crop all is outside."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask & ~inner


def _line_width(picture: pillow.Image) -> int:
    return max(1, round(max(picture.size) / 400))
