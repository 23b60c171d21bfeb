"""Clips: every frame at its own time, at a rate of the caller's, in part; their facts, and pictures as a clip."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import clips
from anmok.errors import BadMedia, BadRequest
from filmed_clips import KINDS, MILLISECOND, SHELF, TICK, Film, coloured, never, number, numbered, remade


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One clip of 30 frames at 30 frames a second in each container."""
    folder = tmp_path_factory.mktemp("shelf")
    return {name: numbered(folder / name, how=how) for name, (how, _) in KINDS.items()}


# --- every frame at its own time -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELF)
def test_every_frame_comes_once_at_its_own_time(name: str, shelf: dict[str, Path]) -> None:
    stills = list(clips.frames(shelf[name], on_broken=never))
    assert [number(still.image) for still in stills] == list(range(30))
    assert [still.index for still in stills] == list(range(30))
    assert [still.seconds for still in stills] == pytest.approx([k / 30 for k in range(30)], abs=KINDS[name][1])


def test_a_picture_is_eight_bit_rgb_and_cannot_be_written_to(shelf: dict[str, Path]) -> None:
    image = next(clips.frames(shelf["a.mp4"])).image
    assert (image.dtype, image.shape) == (np.uint8, (64, 64, 3))
    assert image.flags.c_contiguous
    assert not image.flags.writeable


def test_bytes_and_open_files_are_clips_too(shelf: dict[str, Path]) -> None:
    data = shelf["a.mp4"].read_bytes()
    assert [number(still.image) for still in clips.frames(data)] == list(range(30))
    file = io.BytesIO(b"before" + data)
    file.seek(6)  # the clip begins where the file stands
    assert number(next(clips.frames(str(shelf["a.mkv"]), start=0.5)).image) == 15
    with shelf["a.ts"].open("rb") as opened:
        assert len(list(clips.frames(opened))) == 30
        assert not opened.closed


def test_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = (0, 40, 55, 300, 310, 900)
    path = numbered(tmp_path / "v.mp4", 6, Film(times=times))
    stills = list(clips.frames(path))
    assert [number(still.image) for still in stills] == list(range(6))
    assert [still.seconds for still in stills] == pytest.approx([time / 1000 for time in times], abs=TICK)


def test_hidden_frames_of_vp8_are_no_damage(shelf: dict[str, Path], tmp_path: Path) -> None:
    """Encoders send frames ahead that are never shown, in packets of their own: one bit says so (RFC 6386, 9.1)."""
    hide = lambda data: bytes([data[0] & ~0x10]) + data[1:]  # noqa: E731
    path = remade(shelf["a8.webm"], tmp_path / "h.webm", (7, 29), hide)
    stills = list(clips.frames(path, on_broken=never))
    assert [number(still.image) for still in stills] == [k for k in range(30) if k not in (7, 29)]
    assert [still.index for still in stills] == list(range(28))
    assert clips.probe(path).frames == 28


# --- at a rate of the caller's -------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [0.5, 1, 7, 10, 15, 24, 29.97, 30, 60, 100])
def test_resampling_gives_the_last_frame_at_or_before_each_time(fps: float, shelf: dict[str, Path]) -> None:
    stills = list(clips.frames(shelf["a.mp4"], fps=fps))
    count = int(np.ceil(fps - 1e-6))  # the clip lasts one second
    assert [still.index for still in stills] == list(range(count))
    assert [still.seconds for still in stills] == pytest.approx([k / fps for k in range(count)], abs=TICK)
    assert [number(still.image) for still in stills] == [int(k / fps * 30 + 1e-6) for k in range(count)]


@pytest.mark.parametrize("fps", [3, 10, 20, 50])
def test_resampling_a_variable_rate_goes_by_time(fps: float, tmp_path: Path) -> None:
    times = np.array([0, 40, 55, 300, 310, 900])
    path = numbered(tmp_path / "v.mkv", 6, Film(times=tuple(times)))
    stills = list(clips.frames(path, fps=fps, end=0.95))
    assert len(stills) == int(np.ceil(0.95 * fps - 1e-6)) or stills[-1].seconds >= 0.9
    for still in stills:
        assert number(still.image) == int(np.searchsorted(times, still.seconds * 1000 + 1e-3, side="right")) - 1


def test_resampling_paints_a_repeated_frame_once(shelf: dict[str, Path]) -> None:
    images = [still.image for still in clips.frames(shelf["a.mp4"], fps=300, end=0.1)]
    assert len(images) == 30
    assert len({id(image) for image in images}) == 3


# --- a part of the clip --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELF)
@pytest.mark.parametrize(("first", "last"), [(0, 5), (1, 2), (7, 23), (10, 11), (19, 30), (29, 30)])
def test_a_part_is_a_slice_of_the_whole(name: str, first: int, last: int, shelf: dict[str, Path]) -> None:
    shy = 1 / 60  # half a frame early, since Matroska rounds
    stills = list(clips.frames(shelf[name], start=max(first / 30 - shy, 0), end=last / 30 - shy, on_broken=never))
    assert [number(still.image) for still in stills] == list(range(first, last))
    assert [still.index for still in stills] == list(range(last - first))
    assert stills[0].seconds == pytest.approx(first / 30, abs=KINDS[name][1])


def test_the_end_is_left_out_and_the_start_is_not(shelf: dict[str, Path]) -> None:
    assert [number(still.image) for still in clips.frames(shelf["a.mp4"], start=0.1, end=0.2)] == [3, 4, 5]


def test_resampling_counts_from_the_start(shelf: dict[str, Path]) -> None:
    stills = list(clips.frames(shelf["a.mp4"], fps=10, start=0.25, end=0.6))
    assert [still.seconds for still in stills] == pytest.approx([0.25, 0.35, 0.45, 0.55], abs=TICK)
    assert [number(still.image) for still in stills] == [7, 10, 13, 16]


@pytest.mark.parametrize("fps", [None, 10])
def test_a_start_behind_the_end_gives_nothing(fps: float | None, shelf: dict[str, Path]) -> None:
    for name in SHELF:
        assert list(clips.frames(shelf[name], start=5, fps=fps)) == []


@pytest.mark.parametrize(
    "times",
    [
        *({"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"fps": 1e9}, {"start": -1}, {"start": float("nan")}),
        *({"start": 2, "end": 2}, {"end": float("nan")}, {"start": float("inf")}),
    ],
)
def test_times_that_make_no_sense_are_refused_at_once(times: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="fps|start"):
        clips.frames(tmp_path / "not there.mp4", **times)


# --- facts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELF)
def test_the_facts_of_each_container(name: str, shelf: dict[str, Path]) -> None:
    facts = clips.probe(shelf[name])
    assert (facts.width, facts.height, facts.frames, facts.rotation) == (64, 64, 30, 0)
    assert facts.seconds == pytest.approx(1, abs=2 * MILLISECOND)
    assert facts.fps == pytest.approx(30, abs=1e-3)  # a ratio of whole numbers, in Matroska of milliseconds
    assert not facts.is_variable_rate


def test_a_variable_rate_is_seen(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        path = numbered(tmp_path / f"v{suffix}", 6, Film(times=(0, 40, 55, 300, 310, 900)))
        assert clips.probe(path).is_variable_rate
        path = numbered(tmp_path / f"j{suffix}", 6, Film(times=(0, 40, 81, 120, 160, 201)))  # a camera's jitter
        assert not clips.probe(path).is_variable_rate


def test_the_facts_of_pictures(tmp_path: Path) -> None:
    pillow.fromarray(coloured(0, 5, 7)).save(tmp_path / "1.png")
    assert clips.probe(tmp_path, fps=10) == clips.ClipFacts(7, 5, 1, 0.1, 10, False, "images", 0)
    assert clips.probe(np.zeros((50, 3, 4, 3), np.uint8)) == clips.ClipFacts(4, 3, 50, 2, 25, False, "images", 0)
    with pytest.raises(BadRequest, match="read only once"):
        clips.probe(iter([coloured(0)]))


# --- pictures as a clip --------------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for index in range(12):
        pillow.fromarray(coloured(index, 4, 6)).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    stills = list(clips.frames(tmp_path, fps=4, start=0.5, end=2.5))
    assert [number(still.image) for still in stills] == list(range(2, 10))
    assert [still.index for still in stills] == list(range(8))
    assert [still.seconds for still in stills] == [k / 4 for k in range(2, 10)]
    assert [still.seconds for still in clips.frames(str(tmp_path))][:3] == [0, 0.04, 0.08]


def test_pictures_come_from_an_iterator_that_reuses_its_buffer() -> None:
    buffer = np.zeros((4, 4, 3), np.uint8)

    def camera() -> Iterator[NDArray[np.uint8]]:
        for index in range(5):
            buffer[:] = coloured(index, 4, 4)
            yield buffer

    stills = list(clips.frames(camera(), fps=10))
    assert [number(still.image) for still in stills] == list(range(5))
    assert not stills[0].image.flags.writeable
    assert buffer.flags.writeable


def test_a_picture_that_is_damaged_or_of_another_size_is_left_out(tmp_path: Path) -> None:
    pictures: list[Any] = [coloured(0, 4, 6), b"no picture", coloured(2, 5, 6), coloured(3, 4, 6)]
    told: list[tuple[int, str]] = []
    stills = list(clips.frames(pictures, on_broken=lambda index, error: told.append((index, str(error)))))
    assert [(still.index, number(still.image)) for still in stills] == [(0, 0), (3, 3)]
    assert [index for index, _ in told] == [1, 2]
    assert told[1][1] == "pictures: frame 2 (0.080 s): 6 x 5, and the clip is 6 x 4"


@pytest.mark.parametrize("pictures", [[], [b"x", b"y"], np.zeros((0, 4, 4, 3), np.uint8)])
def test_no_picture_at_all(pictures: Any) -> None:
    with pytest.raises(BadMedia, match="not one frame in it can be decoded"):
        list(clips.frames(pictures))
