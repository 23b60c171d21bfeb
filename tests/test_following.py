"""A clip followed into lines and drawn into a clip: with frames that are broken, cut, and of any length."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anmok import clips, draw
from anmok.draw.colours import colour
from anmok.errors import BadData, BadMedia, BadRequest, CannotWrite
from anmok.gallery.following import Followed, follow, read, render
from anmok.inputs import Clip, Cue
from anmok.results import Tracked
from anmok.tasks import Track
from followed_lines import BOTH, FAKE, cut, frames, rows, seen
from scenes import film, scene, square_mask, walk


def test_lines_say_where_everything_is(tmp_path: Path) -> None:
    clip = Clip(film(tmp_path / "c.mov", walk(6)), cues=BOTH)
    done = follow(FAKE, clip, Track(), tmp_path / "c.jsonl")
    assert done == Followed(6, (1, 2), ())
    head, *body, last = rows(tmp_path / "c.jsonl")
    assert (head["anmok"], head["model"], head["labels"]) == ("track", FAKE.maker, None)
    assert last == {"done": True, "frames": 6, "broken": []}
    assert [row["frame"] for row in body] == list(range(6))
    assert [row["seconds"] for row in body] == [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert [[one["box"] for one in row["objects"]] for row in body] == [
        [[4 + 2 * t, 5, 14 + 2 * t, 15], [50 - 2 * t, 30, 60 - 2 * t, 40]] for t in range(6)
    ]
    for piece, row in zip(read(tmp_path / "c.jsonl"), body, strict=True):
        assert piece.to_dict() == row
        np.testing.assert_array_equal(piece.masks.rles[0].mask(), square_mask(4 + 2 * piece.frame, 5))


def test_an_object_that_leaves_and_returns_keeps_its_number(tmp_path: Path) -> None:
    there = [t not in (3, 4, 5) for t in range(9)]
    stills = [scene(("blue", 40, 30), *([("red", 4 + t, 5)] if here else [])) for t, here in enumerate(there)]
    clip, lines = Clip(film(tmp_path / "c.mov", stills), cues=BOTH), tmp_path / "c.jsonl"
    follow(FAKE, clip, Track(), lines)
    assert [1 in one for one in seen(lines)] == there
    assert [row["objects"][0]["area"] for row in frames(lines)[3:6]] == [0, 0, 0]
    assert render(lines, clip, tmp_path / "c.mp4") == 9
    cut(lines, 6)  # killed while it is away: then it is not taken along, and nobody else gets its number
    follow(FAKE, clip, Track(), lines)
    assert all(set(one) <= {1, 2} for one in seen(lines))


def test_broken_frames_are_told_of_and_keep_their_numbers(tmp_path: Path) -> None:
    clip = Clip(film(tmp_path / "c.mov", walk(8), broken=(0, 3, 4)), cues=(Cue(1, 1, points=((11, 10, 1),)),))
    lines = tmp_path / "c.jsonl"
    assert follow(FAKE, clip, Track(), lines) == Followed(5, (1,), (0, 3, 4))
    assert [row["frame"] for row in frames(lines)] == [1, 2, 5, 6, 7]
    assert [row["objects"][0]["box"][0] for row in frames(lines)] == [4 + 2 * t for t in (1, 2, 5, 6, 7)]
    assert [row["broken"] for row in rows(lines) if "broken" in row] == [0, 3, 4, [0, 3, 4]]  # and again at the end
    assert render(lines, clip, tmp_path / "c.mp4") == 5
    assert [still.seconds for still in clips.frames(tmp_path / "c.mp4")] == pytest.approx(
        [0, 0.04, 0.16, 0.2, 0.24], abs=1e-4
    )


def test_a_cue_later_in_the_clip_and_one_that_corrects(tmp_path: Path) -> None:
    cues = (Cue(2, 1, points=((9, 10, 1),)), Cue(4, 1, points=((45, 35, 1),)))
    stills = [scene(("red", 4, 5), ("blue", 40, 30))] * 6
    lines = tmp_path / "c.jsonl"
    follow(FAKE, Clip(film(tmp_path / "c.mov", stills), cues=cues), Track(), lines)
    lefts = [[one["box"][0] for one in row["objects"]] for row in frames(lines)]
    assert lefts == [[], [], [4], [4], [40], [40]]
    with pytest.raises(BadRequest, match="cue at frame 9: the clip was read up to frame 5"):
        follow(FAKE, Clip(tmp_path / "c.mov", cues=(Cue(9, 1, points=((1, 1, 1),)),)), Track(), tmp_path / "d.jsonl")


@pytest.mark.parametrize(
    ("span", "lefts"),
    [
        ((None, 0.08, None), [8, 10, 12, 14, 16, 18, 20, 22]),
        ((None, 0.08, 0.2), [8, 10, 12]),
        ((12.5, 0.0, None), [4, 8, 12, 16, 20]),
        ((12.5, 0.04, 0.3), [6, 10, 14, 18]),
        ((50.0, 0.0, 0.1), [4, 4, 6, 6, 8]),
    ],
)
def test_rate_and_span(span: tuple[Any, Any, Any], lefts: list[int], tmp_path: Path) -> None:
    stills = walk(10)
    first = (lefts[0] + 5.0, 10.0)
    clip = Clip(film(tmp_path / "c.mov", stills), *span, cues=(Cue(0, 1, points=((*first, 1),)),))
    lines, output = tmp_path / "c.jsonl", tmp_path / "c.mp4"
    follow(FAKE, clip, Track(), lines)
    assert [row["objects"][0]["box"][0] for row in frames(lines)] == lefts
    assert render(lines, clip, output) == len(lefts)
    got = [still.seconds for still in clips.frames(output)]
    assert got == pytest.approx([k / (span[0] or 25) for k in range(len(lefts))], abs=1e-4)  # a tick, twice


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_what_the_lines_say_is_drawn(suffix: str, tmp_path: Path) -> None:
    """Sixteen times as large, so that flat colours survive the codec."""
    stills = [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in walk(4, step=4)]
    cues = (Cue(0, 3, box=(30.0, 38.0, 115.0, 122.0)),)
    clip, lines = Clip(film(tmp_path / "c.mov", stills), cues=cues), tmp_path / "c.jsonl"
    follow(FAKE, clip, Track(), lines)
    assert render(lines, clip, tmp_path / f"o{suffix}") == 4
    for still, piece, image in zip(clips.frames(tmp_path / f"o{suffix}"), read(lines), stills, strict=True):
        left = 8 * (4 + 4 * still.index)
        wanted = np.asarray(draw.plot(piece, image)).astype(int)
        inside = wanted[80, left + 40]
        assert tuple(inside) != (255, 0, 0)
        # A coloured red inside the square, grey outside, as drawn: within a few levels of what the codec keeps.
        assert np.abs(still.image[80, left + 40] - inside).max() <= 12
        assert np.abs(still.image[300, 20].astype(int) - 128).max() <= 6
    assert colour(3) != (255, 0, 0)


def test_lines_of_another_clip_are_not_drawn_on_this_one(tmp_path: Path) -> None:
    clip, lines = Clip(film(tmp_path / "c.mov", walk(4)), cues=BOTH), tmp_path / "c.jsonl"
    follow(FAKE, clip, Track(), lines)
    other = Clip(film(tmp_path / "d.mov", [scene(size_hw=(24, 32))] * 4))
    with pytest.raises(BadRequest, match="of a picture of 64 x 48 pixels, not of 32 x 24"):
        render(lines, other, tmp_path / "d.mp4")
    assert not (tmp_path / "d.mp4").exists()


def test_damaged_lines_are_told_of(tmp_path: Path) -> None:
    clip, lines = Clip(film(tmp_path / "c.mov", walk(6)), cues=BOTH), tmp_path / "c.jsonl"
    follow(FAKE, clip, Track(), lines)
    cut(lines, 4, 50)
    assert render(lines, clip, tmp_path / "c.mp4") == 3  # the last line of a killed run
    whole = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join([*whole[:2], "x" * 20 + "\n", *whole[2:]]))
    with pytest.raises(BadData, match="line 3: not a file that `anmok track` wrote, or damaged"):
        render(lines, clip, tmp_path / "d.mp4")
    with pytest.raises(BadRequest, match="no file that `anmok track` wrote"):
        follow(FAKE, clip, Track(), lines)
    lines.write_text(whole[0])
    with pytest.raises(BadMedia, match="no frames to draw"):
        render(lines, clip, tmp_path / "d.mp4")
    with pytest.raises(BadData, match="cannot be read"):
        list(read(tmp_path / "none.jsonl"))
    follow(FAKE, clip, Track(), tmp_path / "e.jsonl")
    with pytest.raises(BadRequest, match="clips are written as"):
        render(tmp_path / "e.jsonl", clip, tmp_path / "d.gif")
    assert list(tmp_path.glob("d.*")) == []


def test_what_cannot_be_followed_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no clip")
    (tmp_path / "empty").mkdir()
    short = film(tmp_path / "c.mov", walk(3))
    lines = tmp_path / "c.jsonl"
    for clip, kind, says in [
        (Clip(tmp_path / "no.mp4", cues=BOTH), BadMedia, "no.mp4"),
        (Clip(tmp_path / "empty", cues=BOTH), BadMedia, "empty"),
        (Clip(tmp_path / "none.mp4", cues=BOTH), BadRequest, "none.mp4: no such file or folder"),
        (Clip(short, start=60.0, cues=()), BadMedia, "no frame in it from 60 s to its end"),
        (Clip(short, start=0.01, end=0.03, cues=()), BadMedia, "no frame in it from 0.01 s to 0.03 s"),
        (Clip([scene()]), BadRequest, "the clip must be a file or a folder"),
        (Clip(short, cues=(Cue(0, 1, points=((70, 10, 1),)),)), BadRequest, "outside the picture of 64 x 48"),
    ]:
        with pytest.raises(kind, match=says):
            follow(FAKE, clip, Track(), lines)
        assert not lines.exists()
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "c.jsonl", Path("/proc/c.jsonl")):
        with pytest.raises(CannotWrite, match=r"c\.jsonl"):
            follow(FAKE, Clip(short, cues=BOTH), Track(), place)


@pytest.mark.parametrize("work", ["follow", "resume", "render"])
def test_memory_does_not_grow_with_the_clip(work: str, tmp_path: Path) -> None:
    """Ten times the frames, less than half a picture more (a picture here is 300 kB)."""
    peaks = []
    for count in (50, 500):
        still = [np.kron(one, np.ones((4, 4, 1), np.uint8)) for one in walk(20)]
        source = film(tmp_path / f"{count}.mov", [still[t % 20] for t in range(count)])
        clip, lines = Clip(source, cues=(Cue(0, 1, box=(15.0, 19.0, 57.0, 61.0)),)), tmp_path / f"{count}.jsonl"
        if work != "follow":
            follow(Seen(), clip, Track(), lines)
        if work == "resume":
            cut(lines, count - 5)
        run: Callable[[], Any] = lambda: follow(Seen(), clip, Track(), lines)  # noqa: B023, E731
        if work == "render":
            run = lambda: render(lines, clip, tmp_path / "o.mp4", codec="mpeg4")  # noqa: B023, E731
        tracemalloc.start()
        run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 150_000


class Seen:
    """A model that answers at once: the same mask in every frame."""

    maker = "seen"

    def stream(self, clip: Clip, ask: Track, *, on_broken: Any = None) -> Any:
        del ask
        first = None
        for still in clips.frames(clip.source, start=clip.start, on_broken=on_broken):
            first = first or FAKE.track(Clip([still.image], cues=clip.cues)).frames[0]
            yield Tracked(still.index, still.seconds, first.ids, first.masks)
