"""A clip followed into lines and drawn into a clip: killed, gone on with, damaged, cut, and of any length."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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
from anmok.load import tiny
from anmok.results import Tracked
from anmok.tasks import Track
from scenes import film, save, scene, square_mask, walk

FAKE, GROUNDED = tiny("fake-places"), tiny("fake-grounded")
BOTH = (Cue(0, 1, points=((9, 10, 1),)), Cue(0, 2, box=(49, 29, 61, 41)))


def rows(lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def frames(lines: Path) -> list[dict[str, Any]]:
    return [row for row in rows(lines) if "frame" in row]


def seen(lines: Path) -> list[dict[int, str]]:
    """Per frame what is in sight: the label by the number."""
    return [{one["id"]: one.get("label", "") for one in row["objects"] if one["area"]} for row in frames(lines)]


def cut(lines: Path, keep: int, letters: int = 0) -> None:
    """As a killed run leaves it: so many whole lines, and letters of the next."""
    whole = lines.read_text(encoding="utf-8").splitlines(keepends=True)
    lines.write_text("".join(whole[:keep]) + whole[keep][:letters], encoding="utf-8")


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


@pytest.mark.parametrize("letters", [0, 1, 40, 10_000])
@pytest.mark.parametrize("keep", [2, 5, 10, 11])
@pytest.mark.parametrize("fps", [None, 10.0])
def test_a_killed_run_ends_as_an_undisturbed_one(keep: int, letters: int, fps: float | None, tmp_path: Path) -> None:
    cues = (*BOTH, Cue(8, 3, points=((50, 2, 1),)))  # the ground, from the eighth frame on
    clip = Clip(film(tmp_path / "c.mov", walk(25)), fps, 0.0 if fps is None else 0.1, None, cues)
    lines = tmp_path / "c.jsonl"
    calm = follow(FAKE, clip, Track(), lines)
    wanted = frames(lines)
    if keep >= len(rows(lines)) - 1:
        return
    cut(lines, keep, letters)
    counts: list[int] = []
    done = follow(FAKE, clip, Track(), lines, progress=counts.append)
    got = frames(lines)
    assert [row.pop("seconds") for row in got] == pytest.approx([row.pop("seconds") for row in wanted], abs=2e-6)
    assert got == wanted
    went_on = keep - 2 + (letters == 10_000)
    assert done == Followed(calm.frames, calm.objects, (), went_on)
    assert [row["resumed_at"] for row in rows(lines) if "resumed_at" in row] == [went_on]
    assert counts[0] == went_on + 2  # frames count from one
    assert counts[-1] == calm.frames


def test_a_folder_and_a_clip_with_gaps_are_gone_on_with_too(tmp_path: Path) -> None:
    for index, image in enumerate(walk(9)):
        save(tmp_path / "stills" / f"{index}.png", image)
    (tmp_path / "stills" / "6.png").write_bytes(b"no picture")
    uneven = film(tmp_path / "c.mov", walk(9), [0, 40, 200, 240, 280, 320, 1000, 1040, 1080], broken=(6,))
    for source in (tmp_path / "stills", uneven):
        clip, lines = Clip(source, cues=BOTH), tmp_path / "c.jsonl"
        calm = follow(FAKE, clip, Track(), lines)
        assert calm == Followed(8, (1, 2), (6,))
        wanted = frames(lines)
        assert [row["frame"] for row in wanted] == [0, 1, 2, 3, 4, 5, 7, 8]
        cut(lines, 4, 30)  # before the broken frame
        assert follow(FAKE, clip, Track(), lines) == Followed(8, (1, 2), (6,), 2)
        assert frames(lines) == wanted
        cut(lines, 10, 30)  # after it
        assert follow(FAKE, clip, Track(), lines) == Followed(8, (1, 2), (6,), 7)
        assert frames(lines) == wanted
        lines.unlink()


def test_a_followed_clip_is_not_followed_again(tmp_path: Path) -> None:
    clip, lines = Clip(film(tmp_path / "c.mov", walk(5)), cues=BOTH), tmp_path / "c.jsonl"
    follow(FAKE, clip, Track(), lines)
    before = lines.read_bytes()
    assert follow(FAKE, clip, Track(), lines) == Followed(5, (1, 2), (), is_old=True)
    assert lines.read_bytes() == before
    cut(lines, 3)
    assert follow(FAKE, clip, Track(), lines, is_fresh=True) == Followed(5, (1, 2), ())
    assert lines.read_bytes() == before


def test_another_question_is_refused(tmp_path: Path) -> None:
    source, lines = film(tmp_path / "c.mov", walk(5)), tmp_path / "c.jsonl"
    clip = Clip(source, cues=BOTH)
    follow(FAKE, clip, Track(), lines)
    cut(lines, 3)
    before = lines.read_bytes()
    others: list[Callable[[], Any]] = [
        lambda: follow(GROUNDED, clip, Track(), lines),
        lambda: follow(FAKE, Clip(source, cues=BOTH[:1]), Track(), lines),
        lambda: follow(FAKE, Clip(source, 5.0, cues=BOTH), Track(), lines),
        lambda: follow(FAKE, clip, Track(threshold=0.5), lines),
        lambda: follow(FAKE, clip, Track(("red",)), lines),
        lambda: follow(FAKE, Clip(film(tmp_path / "d.mov", walk(5)), cues=BOTH), Track(), lines),
    ]
    for other in others:
        with pytest.raises(BadRequest, match="another clip, model or question: choose another name"):
            other()
    os.utime(source, (1, 1))  # the clip was exchanged
    with pytest.raises(BadRequest, match="another clip, model or question"):
        follow(FAKE, clip, Track(), lines)
    assert lines.read_bytes() == before


@pytest.mark.parametrize("content", ['{"mine": 1}\n', "my notes\n", '{"anmok": "track"', "[]\n", "\n"])
def test_a_file_of_somebody_else_is_not_written_over(content: str, tmp_path: Path) -> None:
    clip, lines = Clip(film(tmp_path / "c.mov", walk(2)), cues=BOTH), tmp_path / "c.jsonl"
    lines.write_text(content)
    with pytest.raises(BadRequest, match="choose another name, or write over it by --fresh"):
        follow(FAKE, clip, Track(), lines)
    assert lines.read_text() == content
    lines.write_text("")
    assert follow(FAKE, clip, Track(), lines).frames == 2


def test_text_goes_on_with_the_same_numbers_and_names(tmp_path: Path) -> None:
    """It goes on from a frame in which the clip was searched, so that later searches fall as they would have."""
    stills = [scene(("blue", 40, 30), ("red", 4 + t, 5), *([("red", 40, 5)] if t > 14 else [])) for t in range(25)]
    clip, ask, lines = (
        Clip(film(tmp_path / "c.mov", stills)),
        Track(("빨강 red", "blue"), every=5),
        tmp_path / "c.jsonl",
    )
    for model in (GROUNDED, FAKE):
        follow(model, clip, ask, lines)
        wanted = frames(lines)
        names = {1: "빨강 red", 2: "blue"}
        assert seen(lines) == [names] * 15 + [{**names, 3: "빨강 red"}] * 10
        cut(lines, 15, 9)
        assert follow(model, clip, ask, lines).resumed_at == 10
        assert frames(lines) == wanted
        lines.unlink()


def test_a_newcomer_does_not_take_the_number_of_one_who_is_gone(tmp_path: Path) -> None:
    """Blue is number 2 and leaves; the run is killed; yellow comes."""
    stills = [
        scene(("red", 4, 5), *([("blue", 40, 30)] if t < 6 else []), *([("yellow", 40, 5)] if t >= 15 else []))
        for t in range(20)
    ]
    clip, ask, lines = (
        Clip(film(tmp_path / "c.mov", stills)),
        Track(("red", "blue", "yellow"), every=5),
        tmp_path / "c.jsonl",
    )
    follow(GROUNDED, clip, ask, lines)
    cut(lines, 14)
    done = follow(GROUNDED, clip, ask, lines)
    assert (done.resumed_at, done.objects) == (10, (1, 2, 3))
    assert seen(lines)[4:6] == [{1: "red", 2: "blue"}] * 2
    assert seen(lines)[-1] == {1: "red", 3: "yellow"}


def test_killed_after_the_last_frame_it_only_says_so(tmp_path: Path) -> None:
    clip, lines = Clip(film(tmp_path / "c.mov", walk(5)), cues=BOTH), tmp_path / "c.jsonl"
    follow(FAKE, clip, Track(), lines)
    wanted = frames(lines)
    cut(lines, 6)
    assert follow(FAKE, clip, Track(), lines) == Followed(5, (1, 2), (), 4)
    assert frames(lines) == wanted
    assert rows(lines)[-1] == {"done": True, "frames": 5, "broken": []}


class OneOrTheOther:
    """As models that follow either what was named or what was pointed at."""

    maker = "one or the other"

    def stream(self, clip: Clip, ask: Track, *, on_broken: Any = None) -> Any:
        if clip.cues and ask.labels:
            raise BadRequest("labels or cues, not both")
        return FAKE.stream(clip, ask, on_broken=on_broken)


def test_a_model_that_takes_no_masks_beside_labels_begins_anew(tmp_path: Path) -> None:
    clip, ask = Clip(film(tmp_path / "c.mov", walk(12), broken=(2,))), Track(("red",), every=3)
    model: Any = OneOrTheOther()
    lines = tmp_path / "c.jsonl"
    calm = follow(model, clip, ask, lines)
    wanted = rows(lines)
    cut(lines, 10)
    assert follow(model, clip, ask, lines) == calm
    assert rows(lines) == wanted


def test_with_nothing_in_sight_it_begins_anew(tmp_path: Path) -> None:
    stills = [scene(*([("red", 4, 5)] if t >= 5 else [])) for t in range(9)]
    clip, ask, lines = Clip(film(tmp_path / "c.mov", stills)), Track(("red",), every=1), tmp_path / "c.jsonl"
    follow(GROUNDED, clip, ask, lines)
    wanted = rows(lines)
    cut(lines, 3)
    assert follow(GROUNDED, clip, ask, lines).resumed_at is None
    assert rows(lines) == wanted


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


def test_a_real_kill(tmp_path: Path) -> None:
    """SIGKILL in the middle of a clip, and the same command again."""
    film(tmp_path / "c.mov", walk(400))
    words = ["track", "c.mov", "--point", "9,10@0", "--box", "2:49,29,61,41", "--model", "fake-places", "-o", "c.jsonl"]
    command = [sys.executable, "-m", "anmok", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    lines = tmp_path / "c.jsonl"
    until = time.monotonic() + 60
    while (not lines.exists() or lines.read_bytes().count(b"\n") < 60) and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    reached = lines.read_bytes().count(b"\n") - 2  # the number of the last whole frame
    assert 50 < reached < 399
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "")
    assert f"went on after frame {reached}, from its masks" in ran.stderr
    got = frames(lines)
    follow(FAKE, Clip(tmp_path / "c.mov", cues=BOTH), Track(), tmp_path / "calm.jsonl")
    assert got == frames(tmp_path / "calm.jsonl")
    assert len(got) == 400


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
