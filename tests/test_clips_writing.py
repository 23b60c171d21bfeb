"""Clips that are written: what comes out can be read, and what cannot be leaves no file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import clips
from anmok.errors import BadRequest, CannotWrite
from anmok.files import write_beside
from filmed_clips import CORNERS, MILLISECOND, coloured, cornered, number


@pytest.mark.parametrize("codec", ["h264", "mpeg4", None])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(("size", "fps"), [((64, 48), 30.0), ((33, 47), 30000 / 1001), ((1, 1), 24.0), ((50, 31), 0.5)])
def test_what_is_written_can_be_read(
    codec: str | None, suffix: str, size: tuple[int, int], fps: float, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    with clips.Writer(path, size, fps, codec=codec) as clip:
        for index in range(12):
            clip.write(coloured(index, *size))
        assert clip.frames == 12
    assert clip.stored_hw == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    stills = list(clips.frames(path))
    assert [number(still.image[: size[0], : size[1]]) for still in stills] == list(range(12))
    assert [still.image.shape for still in stills] == [(*clip.stored_hw, 3)] * 12
    assert [still.seconds for still in stills] == pytest.approx([k / fps for k in range(12)], abs=MILLISECOND)
    assert clips.probe(path).fps == pytest.approx(fps, rel=1e-3)  # Matroska counts in milliseconds


def test_odd_sizes_are_padded_with_their_own_edge(tmp_path: Path) -> None:
    image = cornered(33, 47)
    with clips.Writer(tmp_path / "w.mp4", (33, 47), 30) as clip:
        clip.write(image)
    got = next(clips.frames(tmp_path / "w.mp4")).image
    assert np.abs(got[33, ::8].astype(int) - got[32, ::8]).max() <= 8  # lossy
    assert np.abs(got[4:12, 4:12].astype(int) - CORNERS[0]).max() <= 8  # nothing has moved, and BT.709 is undone


def test_times_can_be_given(tmp_path: Path) -> None:
    times = (0.0, 0.1, 0.15, 0.5, 1.0)
    with clips.Writer(tmp_path / "v.mp4", (64, 64), 30) as clip:
        for index, seconds in enumerate(times):
            clip.write(coloured(index), seconds=seconds)
    assert [still.seconds for still in clips.frames(tmp_path / "v.mp4")] == pytest.approx(times, abs=2e-5)  # a tick


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_time_goes_forward(seconds: float, tmp_path: Path) -> None:
    with clips.Writer(tmp_path / "v.mp4", (64, 64), 30) as clip:
        clip.write(coloured(0), seconds=0.0)
        with pytest.raises(BadRequest, match="does not come after|has no place"):
            clip.write(coloured(1), seconds=seconds)
    assert len(list(clips.frames(tmp_path / "v.mp4"))) == 1


@pytest.mark.parametrize(
    "image", [np.zeros((64, 63, 3), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)]
)
def test_a_picture_of_another_shape_is_refused(image: Any, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="want uint8"), clips.Writer(tmp_path / "v.mp4", (64, 64), 30) as clip:
        clip.write(image)


def test_writers_that_cannot_be(tmp_path: Path) -> None:
    for name, size, fps, codec in [
        ("a.gif", (4, 4), 30.0, None),
        ("a.mp4", (0, 4), 30.0, None),
        ("a.mp4", (4, 4), 0.0, None),
        ("a.mp4", (4, 4), float("nan"), None),
        ("a.mp4", (4, 4), 30.0, "av1"),
        ("a.mov", (4, 4), 30.0, "vp9"),
        ("a.webm", (4, 4), 30.0, "h264"),
    ]:
        with pytest.raises(BadRequest):
            clips.Writer(tmp_path / name, size, fps, codec=codec)
    with pytest.raises(BadRequest, match="with block"):
        clips.Writer(tmp_path / "a.mp4", (64, 64), 30).write(coloured(0))
    assert list(tmp_path.iterdir()) == []


def written(path: Path, images: Sequence[NDArray[np.uint8]], error: Exception | None = None) -> None:
    with write_beside(path) as beside, clips.Writer(beside, (64, 64), 30) as clip:
        for image in images:
            clip.write(image)
        if error is not None:
            raise error


def test_an_exception_or_an_empty_clip_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "w.mp4"
    with pytest.raises(KeyError):
        written(path, [coloured(0)], KeyError("the caller's own"))
    with pytest.raises(BadRequest, match="no picture was written"):
        written(path, [])
    assert list(tmp_path.iterdir()) == []
    written(path, [coloured(7)])
    assert [number(still.image) for still in clips.frames(path)] == [7]


def test_a_full_disk_is_what_write_beside_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: Full())
    with pytest.raises(CannotWrite, match="No space left"):
        written(tmp_path / "w.mp4", [coloured(index) for index in range(60)])
    with pytest.raises(CannotWrite, match="No space left"):  # found only when the file is closed
        written(tmp_path / "w.mp4", [coloured(0)])
    assert list(tmp_path.iterdir()) == []
