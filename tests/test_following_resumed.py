"""A clip that was followed in part is gone on with; one that cannot be is begun anew or refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anmok.errors import BadRequest
from anmok.gallery.following import Followed, follow
from anmok.inputs import Clip, Cue
from anmok.tasks import Track
from followed_lines import BOTH, FAKE, GROUNDED, cut, frames, rows, seen
from scenes import film, save, scene, walk


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
