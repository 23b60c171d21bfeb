"""Masks brought from a net's grid to a picture: as torch does it whole, but only where there is something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anmok import geometry
from anmok.geometry import Frame, Pixels, Rle
from anmok.nets import masks
from anmok.nets.masks import Enlarger
from anmok.tasks import Everything

GRID, CANVAS = (64, 64), (256, 256)
SIZES = [(61, 83), (1, 1), (7, 301), (203, 5), (480, 640), (64, 64)]


def padded_frame(size_hw: tuple[int, int]) -> Frame:
    pixels = Pixels(CANVAS[0], "pad", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return geometry.fit(np.zeros((*size_hw, 3), np.uint8), pixels)[1]


def logits(count: int, seed: int = 0) -> Tensor:
    """Smooth hills and valleys (N, h, w), and on top of them noise."""
    noise = torch.randn(count, *GRID, generator=torch.Generator().manual_seed(seed))
    return 20 * functional.avg_pool2d(noise, 9, 1, 4) + noise


def two_steps(values: Tensor, frame: Frame) -> Tensor:
    """As segment-anything does it: to the canvas, cut, to the picture."""
    used = (round(frame.scale_xy[1] * frame.size_hw[0]), round(frame.scale_xy[0] * frame.size_hw[1]))
    whole = functional.interpolate(values[:, None], CANVAS, mode="bilinear", align_corners=False)
    cut = whole[..., : used[0], : used[1]]
    return functional.interpolate(cut, frame.size_hw, mode="bilinear", align_corners=False)[:, 0]


def settled(rles: tuple[Rle, ...], wanted: Tensor, cut: float) -> bool:
    """The same masks, but for pixels that lie within rounding of the threshold."""
    got = torch.from_numpy(np.stack([one.mask() for one in rles]))
    return bool(((got == (wanted > cut)) | ((wanted - cut).abs() < 1e-4)).all())


@pytest.mark.parametrize("size_hw", SIZES)
def test_a_padded_canvas_is_left_as_segment_anything_does(size_hw: tuple[int, int]) -> None:
    frame, values = padded_frame(size_hw), logits(3)
    enlarger = Enlarger.padded(GRID, CANVAS, frame)
    wanted = two_steps(values, frame)
    assert enlarger.size_hw == size_hw
    # Weights of up to 3 cells a direction, multiplied in another order: the last digits of logits of about 20.
    torch.testing.assert_close(masks.in_picture(values, enlarger), wanted, rtol=1e-5, atol=1e-4)
    assert settled(masks.rles(values, enlarger), wanted, 0.0)
    assert settled(masks.rles(values, enlarger, 2.5), wanted, 2.5)


@pytest.mark.parametrize("size_hw", SIZES)
def test_a_grid_over_the_whole_picture_is_interpolated(size_hw: tuple[int, int]) -> None:
    values, enlarger = logits(3, 1).sigmoid(), Enlarger.direct(GRID, size_hw)
    wanted = functional.interpolate(values[:, None], size_hw, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(masks.in_picture(values, enlarger), wanted, rtol=1e-5, atol=1e-6)
    assert settled(masks.rles(values, enlarger, 0.5), wanted, 0.5)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.booleans(),
    st.integers(0, 63),
    st.integers(0, 63),
    st.integers(1, 20),
    st.floats(-3, 3),
)
@settings(max_examples=60)
def test_the_window_around_a_mask_leaves_nothing_out(
    height: int, width: int, is_padded: bool, top: int, left: int, side: int, cut: float
) -> None:
    """A patch of hills in a plain: wherever it lies, what is computed equals what torch makes of the whole."""
    values = torch.full((1, *GRID), -9.0)
    patch = values[0, top : top + side, left : left + side]
    patch += 18 * torch.rand(patch.shape, generator=torch.Generator().manual_seed(side))
    frame = padded_frame((height, width))
    enlarger = Enlarger.padded(GRID, CANVAS, frame) if is_padded else Enlarger.direct(GRID, (height, width))
    whole = functional.interpolate(values[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
    wanted = two_steps(values, frame) if is_padded else whole
    found = masks.rles(values, enlarger, cut)
    assert settled(found, wanted, cut)
    assert found[0] == Rle.of(found[0].mask())  # the box is the smallest one


def test_a_shape_lands_where_it_was_drawn() -> None:
    """A rectangle on the grid, in a picture of 960 x 540 on a canvas of 256: 3.75 pixels a canvas pixel."""
    frame = padded_frame((540, 960))
    values = torch.full((1, *GRID), -5.0)
    values[0, 8:20, 16:40] = 5.0
    [rle] = masks.rles(values, Enlarger.padded(GRID, CANVAS, frame))
    wanted = np.asarray((16, 8, 40, 20)) * 4 * 3.75
    # A cell is 15 pixels wide; the zero between two cells of +5 and -5 lies half-way, on the edge.
    np.testing.assert_allclose(rle.xyxy, wanted, rtol=0, atol=0.5)


def test_stability_is_the_iou_of_two_cuts() -> None:
    frame, values = padded_frame((120, 90)), logits(6, 2)
    values[5] = -20.0  # nowhere
    seen = two_steps(values, frame)
    low, high = ((seen > level).flatten(1).sum(1).numpy() for level in (-1.0, 1.0))
    wanted = np.where(low > 0, high / np.maximum(low, 1), 0.0)
    got = masks.stabilities(values, Enlarger.padded(GRID, CANVAS, frame))
    assert 0 < wanted[:5].min() < wanted[:5].max() < 1
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)  # a pixel at the threshold, of some thousand


def test_nothing_is_a_mask_too() -> None:
    enlarger = Enlarger.direct(GRID, (30, 40))
    assert masks.rles(torch.zeros(0, *GRID), enlarger) == ()
    assert masks.rles(torch.full((1, *GRID), -3.0), enlarger) == (Rle.of(np.zeros((30, 40), bool)),)
    assert masks.stabilities(torch.zeros(0, *GRID), enlarger).shape == (0,)
    assert masks.in_picture(torch.zeros(0, *GRID), enlarger).shape == (0, 30, 40)


def test_half_precision_is_enlarged_in_full() -> None:
    enlarger, values = Enlarger.direct(GRID, (90, 31)), logits(2).bfloat16()
    assert masks.rles(values, enlarger) == masks.rles(values.float(), enlarger)


@pytest.mark.parametrize("size_hw", [(120, 90), (61, 83), (480, 640)])
def test_a_prompt_leads_back_to_its_mask(size_hw: tuple[int, int]) -> None:
    frame = padded_frame(size_hw)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    mask = ((x - size_hw[1] / 2) / size_hw[1]) ** 2 + ((y - size_hw[0] / 2) / size_hw[0]) ** 2 < 0.09
    prompt = masks.as_prompt(torch.from_numpy(mask), frame, CANVAS, GRID)
    assert prompt.shape == GRID
    assert prompt.abs().max() == pytest.approx(masks.SURE)
    [back] = masks.rles(prompt[None], Enlarger.padded(GRID, CANVAS, frame))
    assert back.iou(Rle.of(mask)) > 0.95  # the grid has at most 64 cells for the longer side
    # What lies beside the picture on the canvas is not the object.
    assert (prompt[round(frame.scale_xy[1] * size_hw[0] / 4) + 2 :] == -masks.SURE).all()


def test_a_thousand_masks_of_a_large_picture_are_small() -> None:
    """Objects of 300 pixels in a picture of 1920 x 1080; whole, their masks would be two gigabytes."""
    rng = np.random.default_rng(0)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    enlarger = Enlarger.direct(GRID, (1080, 1920))
    values = torch.stack([5 - torch.hypot(x - a, y - b) for a, b in rng.uniform(5, 58, (50, 2))])
    found = masks.rles(values, enlarger)
    assert sum(len(one.counts) for one in found) * 20 < 5_000_000  # of a thousand


def test_everything_in_a_picture_of_one_pixel_is_one_mask() -> None:
    """However many points of the grid find it."""
    frame = padded_frame((1, 1))

    def decode(points: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        assert (points >= 0).all()
        assert (points <= CANVAS[0]).all()
        return torch.full((len(points), 3, *GRID), 9.0), torch.tensor([[0.9, 0.95, 0.5]]).expand(len(points), -1)

    found, scores = masks.everything(decode, Everything(), Enlarger.padded(GRID, CANVAS, frame), frame)
    assert found == (Rle.of(np.ones((1, 1), bool)),)
    assert scores == pytest.approx([0.95])


def test_everything_finds_discs_once() -> None:
    """A net that answers each point with the disc that it lies in, and is unsure beside them."""
    frame = padded_frame((120, 160))
    centres, radius = np.asarray([(30, 30), (100, 40), (60, 90)]), 18
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    discs = []
    for centre in frame.to_canvas(centres):
        away = torch.hypot(4 * x + 2 - centre[0], 4 * y + 2 - centre[1])
        discs.append(5 * (radius * frame.scale_xy[0] - away))  # so steep that a logit of 1 is nothing

    def decode(points: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        places = frame.to_image(points)
        distance = np.linalg.norm(places[:, None] - centres, axis=-1)  # (P, 3)
        nearest = distance.argmin(1)
        logits = torch.stack([discs[i] for i in nearest])[:, None]  # (P, 1, h, w)
        return logits, torch.from_numpy(np.where(distance.min(1) < radius, 0.99 - distance.min(1) / 1000, 0.1))[:, None]

    found, scores = masks.everything(decode, Everything(), Enlarger.padded(GRID, CANVAS, frame), frame)
    assert len(found) == 3
    assert (np.diff(scores) <= 0).all()
    middles = np.asarray([(left + right, top + bottom) for left, top, right, bottom in (one.xyxy for one in found)]) / 2
    order = np.lexsort(middles.T)
    np.testing.assert_allclose(middles[order], centres[np.lexsort(centres.T)], rtol=0, atol=0.5)
    for one in found:
        assert one.area == pytest.approx(np.pi * radius**2, rel=0.03)
