"""Results as pictures: which pixels change, which do not, and where what is written stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageFont

from anmok import draw
from anmok.draw import fonts
from anmok.draw.colours import colour, ink_on
from anmok.errors import BadRequest, Unsupported
from anmok.geometry import Rle
from anmok.results import (
    DepthMap,
    Detections,
    Embedding,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Result,
    Scores,
    Tracked,
)
from scenes import scene, square_mask

ORANGE, SKY = colour(0), colour(1)
GREY = (128, 128, 128)


def detections(
    *boxes: tuple[float, ...], labels: tuple[str, ...] = ("cat", "dog"), size: Any = (240, 320)
) -> Detections:
    count = len(boxes)
    kinds = np.arange(count) % len(labels)
    return Detections(np.asarray(boxes, np.float32).reshape(-1, 4), np.full(count, 0.9), kinds, labels, size)


def masks(*places: tuple[int, int], labels: tuple[str, ...] = ()) -> Masks:
    kinds = np.arange(len(places)) if labels else np.full(len(places), -1)
    rles = tuple(Rle.of(square_mask(*place)) for place in places)
    return Masks(rles, np.full(len(places), 0.9), kinds, labels, (48, 64))


def drawn(result: Result, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = draw.plot(result, image)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def changed(after: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (after != before).any(-1)


def test_a_mask_colours_its_pixels_and_no_others() -> None:
    image = scene()
    after = drawn(masks((5, 5), (30, 20)), image)
    first, second = square_mask(5, 5), square_mask(30, 20)
    np.testing.assert_array_equal(changed(after, image), first | second)
    assert tuple(after[5, 5]) == ORANGE  # the edge in full colour
    assert tuple(after[20, 30]) == SKY
    # Inside, 115 parts of 255 are the colour; Pillow rounds to the nearest level.
    np.testing.assert_allclose(after[10, 10], np.asarray(GREY) + (np.asarray(ORANGE) - GREY) * 115 / 255, atol=1)


def test_the_smaller_mask_lies_on_top_whatever_the_order() -> None:
    whole = np.zeros((48, 64), np.bool_)
    whole[:30, :30] = True
    small = square_mask(8, 8)
    for order in ([whole, small], [small, whole]):
        result = Masks(tuple(Rle.of(one) for one in order), np.ones(2), np.full(2, -1), (), (48, 64))
        ink = colour([one is small for one in order].index(True))
        assert tuple(drawn(result, scene())[8, 8]) == ink


def test_boxes_are_where_they_are() -> None:
    image = np.full((240, 320, 3), GREY, np.uint8)
    after = drawn(detections((40, 100, 120, 180), (200, 60, 260, 90)), image)
    for (left, top, right, bottom), ink in (((40, 100, 120, 180), ORANGE), ((200, 60, 260, 90), SKY)):
        for x, y in ((left, bottom - 1), (right - 1, top), (right - 1, bottom - 1), (left, (top + bottom) // 2)):
            assert tuple(after[y, x]) == ink
        inside = after[top + 2 : bottom - 2, left + 2 : right - 2]
        assert (inside == GREY).all()
        assert not changed(after, image)[bottom : bottom + 5, left:right].any()  # right and lower edge are exclusive
        assert not changed(after, image)[top:bottom, right : right + 5].any()


@pytest.mark.parametrize("labels", [("cat",), ("고양이",), ("a very long label " * 5,)])
@pytest.mark.parametrize(
    "box", [(0, 0, 20, 20), (300, 0, 320, 10), (310, 230, 320, 240), (0, 235, 320, 240), (320, 240, 320, 240)]
)
def test_tags_stay_inside_the_picture(box: tuple[float, ...], labels: tuple[str, ...]) -> None:
    """The tag's ground has the box's colour; of it as much is seen at the border as in the middle of a big picture."""
    image = np.full((240, 320, 3), GREY, np.uint8)
    plain, tagged = (drawn(detections(box, labels=one), image) for one in (("",), labels))
    tag = changed(tagged, plain)
    rows, columns = np.flatnonzero(tag.any(1)), np.flatnonzero(tag.any(0))
    assert rows[-1] - rows[0] >= 8  # a whole line of letters, nothing cut off at the lower edge
    assert rows[-1] < 240
    width = fonts.font(11).getlength(f"{labels[0]} 0.90")
    assert columns[-1] - columns[0] + 1 >= min(318, width - 2)  # the box's own line is no change


def test_hangul_is_drawn_where_a_font_is_there() -> None:
    """Without such a font every syllable is the same empty box."""
    image = np.full((240, 320, 3), GREY, np.uint8)
    one, other = (drawn(detections((50, 50, 150, 150), labels=(word,)), image) for word in ("가", "힣"))
    assert changed(one, other).any() == (draw.hangul_font() is not None)


def test_a_font_is_found_by_its_name_or_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_FONT", str(tmp_path / "none.ttf"))
    for cached in (fonts.hangul_font, fonts.font):
        cached.cache_clear()
    try:
        with pytest.raises(BadRequest, match="none.ttf: no font that can be read"):
            draw.plot(detections((50, 50, 150, 150)), np.zeros((240, 320, 3), np.uint8))
        monkeypatch.setattr(fonts, "_FOLDERS", (str(tmp_path),))
        monkeypatch.delenv("ANMOK_FONT")
        fonts.hangul_font.cache_clear()
        assert fonts.hangul_font() is None
        assert isinstance(fonts.font(12), ImageFont.FreeTypeFont | ImageFont.ImageFont)
        (tmp_path / "NanumGothic-Bold.ttf").write_bytes(b"")
        fonts.hangul_font.cache_clear()
        assert fonts.hangul_font() == tmp_path / "NanumGothic-Bold.ttf"
    finally:
        for cached in (fonts.hangul_font, fonts.font):
            cached.cache_clear()


def test_finds_can_be_numbered_for_a_table() -> None:
    image = np.full((240, 320, 3), GREY, np.uint8)
    found = detections((40, 100, 120, 180), (200, 60, 260, 90))
    plain, told = draw.plot(found, image), draw.numbered(found, image)
    assert changed(np.asarray(plain), np.asarray(told)).any()
    nameless = masks((5, 5))
    assert not changed(np.asarray(draw.plot(nameless, scene())), scene())[:5].any()
    assert changed(np.asarray(draw.numbered(nameless, scene())), scene())[16:].any()  # the tag, below the mask's corner


def test_what_is_hidden_is_not_drawn() -> None:
    rles = (Rle.of(square_mask(5, 5)), Rle.of(np.zeros((48, 64), np.bool_)))
    result = Tracked(3, 0.1, np.asarray([4, 9]), Masks(rles, np.ones(2), np.asarray([0, 1]), ("a", "b"), (48, 64)))
    image = scene()
    after = drawn(result, image)
    assert tuple(after[14, 14]) == colour(4)  # an object's colour is its number's
    assert not changed(after, image)[40:].any()
    labelled = Masks(rles, np.ones(2), np.asarray([0, 1]), ("a", "b"), (48, 64))
    assert tuple(drawn(labelled, image)[0, 0]) != colour(1)


def test_an_object_keeps_its_colour_through_a_clip() -> None:
    for place in ((10, 25), (30, 30)):  # low enough for the tag to stand above it
        pair = Masks((Rle.of(square_mask(*place)),), np.ones(1), np.asarray([-1]), (), (48, 64))
        after = drawn(Tracked(0, 0.0, np.asarray([12]), pair), scene())
        assert tuple(after[place[1] + 9, place[0] + 9]) == colour(12)


def test_joints_and_bones_are_drawn_where_the_model_is_sure() -> None:
    image = np.full((240, 320, 3), GREY, np.uint8)
    xy = np.asarray([[[50, 50], [150, 50], [150, 200]]], np.float32)
    scores = np.asarray([[0.9, 0.8, 0.1]], np.float32)
    box = np.asarray([[40, 40, 160, 210]], np.float32)
    names, edges = ("head", "hand", "foot"), ((0, 1), (1, 2))
    after = drawn(Keypoints(xy, scores, box, np.ones(1), names, edges, (240, 320)), image)
    assert tuple(after[50, 50]) == tuple(after[50, 150]) == ORANGE
    assert tuple(after[50, 100]) == ORANGE  # the bone
    assert not changed(after, image)[60:].any()  # neither the unsure foot nor the bone to it


def test_near_is_bright_for_every_kind_of_depth() -> None:
    ramp = np.tile(np.linspace(1, 5, 64, dtype=np.float32), (48, 1))  # nearest at the left
    image = scene()
    for result in (DepthMap(ramp, "metric"), DepthMap(ramp, "depth"), DepthMap(6 - ramp, "disparity")):
        light = drawn(result, image).astype(int).sum(-1)
        assert light[0, 0] > light[0, 32] > light[0, 63]
    flat = drawn(DepthMap(np.full((48, 64), 3.0, np.float32), "metric"), image)
    assert (flat == flat[0, 0]).all()


def test_directions_are_colours() -> None:
    normals = np.zeros((48, 64, 3), np.float32)
    normals[:, :20], normals[:, 20:40] = (1, 0, 0), (0, 0, 1)
    after = drawn(NormalMap(normals), scene())
    assert [tuple(after[0, x]) for x in (0, 20, 63)] == [(255, 128, 128), (128, 128, 255), GREY]


def test_parts_are_coloured_and_the_rest_is_the_picture() -> None:
    parts = square_mask(5, 5).astype(np.int16) * 2
    image = scene()
    after = drawn(PartMap(parts, ("nothing", "arm", "leg")), image)
    np.testing.assert_array_equal(changed(after, image), parts > 0)
    np.testing.assert_allclose(after[10, 10], np.asarray(GREY) * 0.4 + np.asarray(SKY) * 0.6, atol=1)  # truncated


def test_a_matte_lets_the_chequered_ground_through() -> None:
    image = scene()
    alpha = np.zeros((48, 64), np.float32)
    alpha[:, :32], alpha[:, 32:40] = 1, 0.5
    after = drawn(Matte(alpha), image)
    assert (after[:, :32] == image[:, :32]).all()
    assert {tuple(one) for one in after[:, 40:].reshape(-1, 3).tolist()} == {(204, 204, 204), (153, 153, 153)}
    assert tuple(after[0, 36]) == (166, 166, 166)  # half of 128 and 204


def test_scores_stand_below_their_picture() -> None:
    image = scene()
    picture = draw.plot(Scores(("cat", "고양이"), np.asarray([0.25, 0.75]), "softmax"), image)
    after = np.asarray(picture)
    assert after.shape[1:] == (64, 3)
    assert after.shape[0] > 48
    np.testing.assert_array_equal(after[:48], image)
    assert (after[48:] != 255).any()


def test_a_one_pixel_picture_takes_every_result() -> None:
    dot = np.full((1, 1, 3), 9, np.uint8)
    mask = Rle.of(np.ones((1, 1), np.bool_))
    one = np.ones(1, np.float32)
    box = np.asarray([[0, 0, 1, 1]], np.float32)
    results: list[Result] = [
        Detections(box, one, np.zeros(1, np.int64), ("고양이",), (1, 1)),
        Masks((mask,), one, np.zeros(1, np.int64), ("고양이",), (1, 1)),
        Keypoints(np.zeros((1, 1, 2)), np.ones((1, 1)), box, one, ("head",), (), (1, 1)),
        DepthMap(np.ones((1, 1)), "metric"),
        NormalMap(np.zeros((1, 1, 3))),
        PartMap(np.zeros((1, 1), np.int16), ("none",)),
        Matte(np.ones((1, 1))),
    ]
    for result in results:
        assert draw.plot(result, dot).size == (1, 1)


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    image = scene()
    for result in (Detections.none(("a",), (48, 64)), Masks.none((), (48, 64))):
        np.testing.assert_array_equal(drawn(result, image), image)


def test_a_result_of_another_picture_is_refused() -> None:
    with pytest.raises(BadRequest, match="of a picture of 64 x 48 pixels, not of 48 x 64"):
        draw.plot(masks((5, 5)), np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(BadRequest, match="of a picture of 320 x 240"):
        draw.numbered(detections((0, 0, 9, 9)), scene())
    with pytest.raises(Unsupported, match="Embedding has no picture"):
        draw.plot(Embedding(np.ones(3, np.float32), "image"), scene())


def test_the_callers_picture_is_not_written_to() -> None:
    image = scene()
    for result in (masks((5, 5)), PartMap(square_mask(5, 5).astype(np.int16), ("none", "arm"))):
        draw.plot(result, image)
        np.testing.assert_array_equal(image, scene())


def test_colours_tell_things_apart_and_ink_reads_on_them() -> None:
    first = [colour(i) for i in range(30)]
    assert len(set(first)) == 30
    for ground in first:
        light = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in (ground, ink_on(ground))]
        assert abs(light[0] - light[1]) > 80


def cells(count: int, size: tuple[int, int] = (60, 30)) -> list[tuple[str, pillow.Image]]:
    return [(f"{i}.png", pillow.new("RGB", size, colour(i))) for i in range(count)]


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (100, 10, 10)])
def test_a_contact_sheet_is_about_as_wide_as_high(count: int, columns: int, rows: int) -> None:
    sheet = draw.contact_sheet(cells(count), cell=60)
    assert sheet.size == (columns * 68 + 8, rows * (30 + 22 + 8) + 8)
    pixels = np.asarray(sheet)
    last, row = (count - 1) % columns, (count - 1) // columns
    assert tuple(pixels[8 + row * 60 + 15, 8 + last * 68 + 30]) == colour(count - 1)


def test_a_contact_sheet_shrinks_what_is_large_and_never_enlarges() -> None:
    sheet = draw.contact_sheet([("wide", pillow.new("RGB", (600, 30))), ("small", pillow.new("L", (4, 4)))], cell=60)
    dark = np.argwhere(np.asarray(sheet)[:20].sum(-1) == 0)
    wide = dark[dark[:, 1] < 70]
    assert (wide.max(0) - wide.min(0) + 1).tolist() == [3, 60]
    small = dark[dark[:, 1] > 70]
    assert (small.max(0) - small.min(0) + 1).tolist() == [4, 4]


def test_a_long_caption_is_cut_in_its_middle() -> None:
    named = [("a" * 200 + ".png", pillow.new("RGB", (60, 30)))]
    sheet = np.asarray(draw.contact_sheet(named, cell=60))
    ink = np.flatnonzero((sheet[40:] < 200).any((0, 2)))
    assert ink.size
    assert ink[-1] < 68 + 2  # as wide as its picture, give or take a letter's overhang


@pytest.mark.parametrize("count", [0, 101])
def test_a_contact_sheet_has_its_limits(count: int) -> None:
    with pytest.raises(BadRequest, match=f"takes 1 to 100 pictures, not {count}"):
        draw.contact_sheet(cells(count))
