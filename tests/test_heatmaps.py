"""Cuts of pictures and peaks of heat maps: there and back, and places between pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from anmok.nets import heatmaps
from anmok.nets.heatmaps import Cut, cut_around, kernel_for, merged, peaks, sampled

SIZE_HW = (256, 192)
GRID_HW = (64, 48)


def bump(at_xy: tuple[float, float], grid_hw: tuple[int, int], width: float) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : grid_hw[0], 0 : grid_hw[1]]
    return np.exp(-((x - at_xy[0]) ** 2 + (y - at_xy[1]) ** 2) / (2 * width**2)).astype(np.float32)


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3): red counts columns, green counts rows, both below 256."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.full_like(x, 9)], -1).astype(np.uint8)


sides = st.floats(1, 5000)
corners = st.floats(-2000, 5000)


@given(corners, corners, sides, sides, st.floats(0, 191), st.floats(0, 255))
@settings(max_examples=100)
def test_there_and_back_through_the_matrix(
    left: float, top: float, width: float, height: float, x: float, y: float
) -> None:
    cut = cut_around(np.asarray((left, top, left + width, top + height)), SIZE_HW)
    place = cut.to_image(np.asarray((x, y)), SIZE_HW).astype(np.float64)
    back = cut.matrix(SIZE_HW) @ np.asarray((*place, 1.0))
    # to_image is float32: half a unit in its last place, up to 5e-4 at 5,000 pixels, times the scale of the cut.
    slack = 1e-4 + 6e-8 * np.abs(place).max() * 255 / min(cut.span_xy)
    np.testing.assert_allclose(back, (x, y), rtol=0, atol=slack)


@given(corners, corners, sides, sides)
@settings(max_examples=100)
def test_a_cut_holds_its_box_in_the_middle_and_has_the_shape_of_the_canvas(
    left: float, top: float, width: float, height: float
) -> None:
    box = np.asarray((left, top, left + width, top + height))
    cut = cut_around(box, SIZE_HW)
    start, span = np.asarray(cut.start_xy), np.asarray(cut.span_xy)
    assert span[0] / span[1] == pytest.approx(192 / 256)
    np.testing.assert_allclose(start + span / 2, (box[:2] + box[2:]) / 2, atol=1e-6)
    # A quarter larger, on the side that decides.
    assert min(span[0] / width, span[1] / height) == pytest.approx(1.25)


def test_the_grid_of_a_heat_map_ends_where_the_canvas_ends() -> None:
    cut = cut_around(np.asarray((10.0, 20.0, 40.0, 90.0)), SIZE_HW)
    for grid in (SIZE_HW, GRID_HW):
        ends = np.asarray([(0, 0), (grid[1] - 1, grid[0] - 1)])
        wanted = [cut.start_xy, np.add(cut.start_xy, cut.span_xy)]
        np.testing.assert_allclose(cut.to_image(ends, grid), wanted, rtol=0, atol=1e-4)


@given(st.floats(6, 41), st.floats(6, 57), st.floats(1.5, 6))
@settings(max_examples=100)
def test_a_peak_between_pixels_is_found(x: float, y: float, width: float) -> None:
    places, heights = peaks(torch.from_numpy(bump((x, y), GRID_HW, width))[None, None])
    np.testing.assert_allclose(places[0, 0], (x, y), rtol=0, atol=0.1)
    assert 0.8 < heights[0, 0] <= 1


@given(st.floats(4, 43), st.floats(4, 59))
@settings(max_examples=50)
def test_a_peak_between_pixels_is_found_with_mirrored_edges(x: float, y: float) -> None:
    places, _ = peaks(torch.from_numpy(bump((x, y), GRID_HW, 2.0))[None, None], 11, 0.8)
    np.testing.assert_allclose(places[0, 0], (x, y), rtol=0, atol=0.1)


@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9))
@settings(max_examples=30)
def test_a_point_of_the_picture_comes_back_through_the_heat_map(across: float, down: float) -> None:
    """The whole way: a place in the box, drawn where a net would draw it, returns within a tenth of a pixel of the
    map: here 0.1 * 137.5 / 63 pixels of the picture."""
    box = np.asarray((31.0, 47.5, 120.25, 157.5))
    cut = cut_around(box, SIZE_HW)
    place = box[:2] + np.asarray((across, down)) * (box[2:] - box[:2])
    x, y = cut.matrix(GRID_HW) @ np.asarray((*place, 1.0))
    found, _ = peaks(torch.from_numpy(bump((x, y), GRID_HW, 2.0))[None, None])
    np.testing.assert_allclose(cut.to_image(found[0, 0], GRID_HW), place, rtol=0, atol=0.1 * 137.5 / 63)


def test_a_ramp_is_sampled_at_the_places_of_the_matrix() -> None:
    """The colour of a ramp is the place that was sampled."""
    cut = Cut((20.25, 31.5), (90.0, 120.0))
    seen = sampled(ramp(200, 180), cut, (17, 13))
    assert seen.shape == (17, 13, 3)
    assert seen.dtype == np.float32
    y, x = np.mgrid[0:17, 0:13]
    wanted = cut.to_image(np.stack([x, y], -1), (17, 13))
    np.testing.assert_allclose(seen[..., :2], wanted, rtol=0, atol=1e-4)
    np.testing.assert_allclose(seen[..., 2], 9, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kernel", "theirs"), [("linear", "bilinear"), ("cubic", "bicubic")])
def test_samples_equal_those_of_torch(kernel: heatmaps.Kernel, theirs: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 29, 3), dtype=np.uint8)
    cut = Cut((-4.3, 2.7), (25.0, 41.0))
    y, x = np.mgrid[0:50, 0:40]
    places = cut.to_image(np.stack([x, y], -1), (50, 40))
    grid = torch.from_numpy(2 * places / np.asarray((28, 36)) - 1).float()[None]
    pixels = torch.from_numpy(image).float().permute(2, 0, 1)[None]
    wanted = functional.grid_sample(pixels, grid, theirs, "zeros", align_corners=True)[0].permute(1, 2, 0)
    # Torch reads its places from float32 in [-1, 1]: 2e-6 of a pixel here, times a slope of up to 400.
    np.testing.assert_allclose(sampled(image, cut, (50, 40), kernel), wanted, rtol=0, atol=2e-3)


def test_a_picture_over_its_own_pixels_is_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    for kernel in ("linear", "cubic"):
        seen = sampled(image, Cut((0.0, 0.0), (30.0, 22.0)), (23, 31), kernel)  # type: ignore[arg-type]
        np.testing.assert_allclose(seen, image, rtol=0, atol=1e-3)


def test_outside_of_the_picture_all_is_black() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    cut = Cut((-10.5, -10.5), (30.0, 30.0))  # one sample a pixel, half a pixel off
    soft, sharp = (sampled(white, cut, (31, 31), "linear", edge) for edge in ("fade", "cut"))
    line = np.zeros(31)
    line[11:20] = 255
    np.testing.assert_allclose(sharp[15, :, 0], line, atol=1e-4)
    line[[10, 20]] = 127.5  # half a pixel beyond the outermost centres
    np.testing.assert_allclose(soft[15, :, 0], line, atol=1e-4)
    assert (sampled(white, cut, (31, 31), "linear", "hold") == 255).all()
    nowhere = sampled(white, Cut((500.0, 500.0), (30.0, 30.0)), (8, 6))
    assert (nowhere == 0).all()


def test_the_whole_picture_is_resized_corner_on_corner() -> None:
    image = np.random.default_rng(4).integers(0, 256, (37, 29, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).float().permute(2, 0, 1)[None]
    for size in ((64, 48), (20, 15), (37, 29)):
        wanted = functional.interpolate(pixels, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
        seen = sampled(image, heatmaps.whole((37, 29), size), size, "linear", "hold")
        np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-3)  # float32 weights times 255, twice


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2)])
def test_small_pictures_are_cut(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    box = np.asarray((0.0, 0.0, size[1], size[0]))
    for kernel in ("linear", "cubic"):
        seen = sampled(image, cut_around(box, SIZE_HW), SIZE_HW, kernel)  # type: ignore[arg-type]
        assert np.isfinite(seen).all()
        assert seen.max() > 100


def test_a_box_without_area_is_a_pixel() -> None:
    cut = cut_around(np.asarray((7.0, 9.0, 7.0, 9.0)), SIZE_HW)
    assert cut.span_xy == pytest.approx((1.25, 1.25 * 256 / 192))


def test_cuts_that_grow_are_cubic() -> None:
    assert kernel_for(Cut((0, 0), (100.0, 133.3)), SIZE_HW) == "cubic"
    assert kernel_for(Cut((0, 0), (400.0, 533.3)), SIZE_HW) == "linear"


def test_the_flip_test_turns_back_and_swaps_sides() -> None:
    maps = torch.from_numpy(np.stack([bump((5, 8), (16, 12), 1.0), bump((9, 3), (16, 12), 1.0)]))[None]  # left, right
    mirrored = maps[:, [1, 0]].flip(-1)  # a perfect net on the mirrored picture: sides swapped, columns turned
    np.testing.assert_array_equal(merged(maps, mirrored, np.asarray([1, 0])), maps)
    assert not np.array_equal(merged(maps, mirrored, np.asarray([0, 1])), maps)


@pytest.mark.parametrize("sigma", [None, 0.8])
def test_maps_without_a_peak_answer_their_highest_pixel(sigma: float | None) -> None:
    maps = np.zeros((1, 5, *GRID_HW), np.float32)
    maps[0, 1] = -1.0
    maps[0, 2, :, 20] = 1.0  # a ridge: no top along it
    maps[0, 3] = np.random.default_rng(0).standard_normal(GRID_HW)
    maps[0, 4, 63, 47] = 1.0  # in the corner
    places, heights = peaks(torch.from_numpy(maps), 11, sigma)
    assert np.isfinite(places).all()
    np.testing.assert_array_equal(heights[0], maps[0].max((1, 2)))
    np.testing.assert_array_equal(places[0, :2], 0)
    assert places[0, 2] == pytest.approx((20, 0), abs=0.5)
    row, column = np.unravel_index(maps[0, 3].argmax(), GRID_HW)
    assert np.abs(places[0, 3] - (column, row)).max() <= 5
    assert places[0, 4] == pytest.approx((47, 63), abs=1)


def test_a_map_does_not_see_its_neighbours() -> None:
    maps = torch.from_numpy(np.random.default_rng(2).random((3, 4, *GRID_HW), np.float32))
    together, _ = peaks(maps)
    alone = np.concatenate([peaks(maps[i : i + 1])[0] for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


def test_of_two_equal_pixels_the_first_is_taken() -> None:
    maps = torch.zeros(1, 1, *GRID_HW)
    maps[0, 0, 10, 10] = maps[0, 0, 50, 40] = 1.0
    places, _ = peaks(maps)
    assert places[0, 0] == pytest.approx((10, 10), abs=1e-3)


def test_people_are_located_in_parts_of_the_net() -> None:
    """A net that answers its own green channel finds the brightest green in each box, whatever the batch."""
    rng = np.random.default_rng(5)
    people, wanted = [], []
    for _ in range(5):
        image = np.zeros((90, 110, 3), np.uint8)
        x, y = rng.uniform(30, 80), rng.uniform(20, 70)
        image[..., 1] = np.round(250 * bump((x, y), (90, 110), 3.0))
        people.append((image, np.asarray((x - 20, y - 15, x + 14, y + 17))))
        wanted.append((x, y))
    style = heatmaps.Style(GRID_HW, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    sizes = []

    def net(batch: NDArray[np.float32]) -> torch.Tensor:
        sizes.append(len(batch))
        return torch.from_numpy(batch[:, 1:2])

    places, scores = heatmaps.located(people, style, net, part=2)
    assert sizes == [2, 2, 1]
    # A tenth of a pixel of the canvas, whose 48 columns lie over up to 53 pixels of the picture.
    np.testing.assert_allclose(places[:, 0], wanted, rtol=0, atol=0.12)
    np.testing.assert_allclose(scores, 250 / 255, rtol=0, atol=0.05)
    alone, _ = heatmaps.located(people[3:4], style, net)
    np.testing.assert_array_equal(alone[0], places[3])


def test_what_a_net_sees_is_normalised_and_whole() -> None:
    image = np.random.default_rng(6).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    style = heatmaps.Style((16, 12), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    seen = heatmaps.seen_by(image, cut_around(np.asarray((3.0, 2.0, 17.0, 19.0)), (16, 12)), style)
    assert seen.shape == (3, 16, 12)
    steps = (seen * np.asarray(style.std)[:, None, None] + np.asarray(style.mean)[:, None, None]) * 255
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert steps.max() > 100


def test_no_person_makes_no_peaks() -> None:
    places, heights = peaks(torch.zeros(0, 17, *GRID_HW))
    assert places.shape == (0, 17, 2)
    assert heights.shape == (0, 17)
