"""A clip is seen once and read once for many questions, and no more of them is kept than promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anmok import Clip
from anmok.errors import WrongState
from anmok.inputs import Frames
from anmok.nets.eyes.reels import LastReels
from battery import picture
from shown_clips import FILM, TIMES, TOGETHER, film
from toy_talkers import SHORT, about, model, script


@pytest.mark.parametrize("kind", TOGETHER)
def test_a_clip_is_seen_once_and_read_once_for_many_questions(kind: str) -> None:
    talker = model(kind)
    talks: Any = talker.kind
    talks._speaker._memory.clear()
    talks._frames._seen = LastReels()
    calls: list[int] = []
    tower = talks._net.model.vision_model if kind == "video_llama_3" else talks._net.model.visual
    hook = tower.register_forward_hook(lambda *_: calls.append(1))
    watched = talker.watch(Clip(list(FILM), fps=2.0))
    assert calls == []  # until it is known beside which others they stand
    [first] = talker.run([about(watched, question="What?")], SHORT)
    seen, read = len(calls), []
    reading = talks._speaker._reading
    whole = reading.read
    reading.read = lambda batch, rows, cache: (read.append(rows.shape[1]), whole(batch, rows, cache))[1]
    try:
        [other] = talker.run([about(watched, question="How?")], SHORT)
    finally:
        del reading.read
        hook.remove()
    assert seen > 0
    assert len(calls) == seen
    assert first.frames == other.frames == (TIMES,)
    if kind != "exaone4_5":  # whose window is full
        assert read[0] == len("How?$\n^assistant")
    talks._speaker._memory.clear()
    [again] = talker.run([about(watched, question="How?")], SHORT)
    assert (again.text, again.tokens_in) == (other.text, other.tokens_in)


def test_no_more_than_two_clips_are_kept_as_they_were_seen() -> None:
    seen: LastReels[int] = LastReels()
    one, two, three = (np.full((3, 2, 2), level, np.uint8) for level in (1, 2, 3))
    made: list[int] = []

    def look(number: int) -> int:
        made.append(number)
        return number

    for number, frames in ((1, [one]), (2, [two]), (1, [one]), (3, [three]), (1, [one]), (2, [two])):
        assert seen.of(frames, (0.0,), lambda number=number: look(number)) == number
    assert made == [1, 2, 3, 2]
    assert seen.of([one], (0.5,), lambda: look(4)) == 4  # at another time
    assert seen.of([one.reshape(3, 4, 1)], (0.0,), lambda: look(5)) == 5  # of another shape


def test_of_two_large_clips_the_last_alone_is_kept() -> None:
    seen: LastReels[tuple[str, tuple[tuple[Tensor, int], ...]]] = LastReels()
    one, two = (np.full((3, 2, 2), level, np.uint8) for level in (1, 2))
    made: list[int] = []

    def look(number: int, count: int) -> tuple[str, tuple[tuple[Tensor, int], ...]]:
        made.append(number)
        return "", ((torch.empty(count, device="meta"), number),)

    for count in (2**27, 2**27 + 1):  # of 4 bytes: 2**30 both, and 8 more
        for number, frames in ((1, [one]), (2, [two]), (1, [one])):
            seen.of(frames, (float(count),), lambda number=number, count=count: look(number, count))
    assert made == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("kind", TOGETHER)
def test_states_of_frames_and_of_pictures_are_told_apart(kind: str) -> None:
    talker = model(kind)
    frame = talker.watch(Clip(list(FILM), fps=2.0)).pictures[0]
    with pytest.raises(WrongState, match="this state is of a frame, to be seen beside the others of its clip"):
        talker.run([about(frame)], SHORT)
    [alone] = talker.encode([FILM[0]])
    with pytest.raises(WrongState, match="a state among these frames is of a picture by itself"):
        talker.run([about(Frames((frame, alone), (0.0, 1.0)))], SHORT)


@pytest.mark.parametrize("kind", TOGETHER)
def test_states_of_frames_stand_in_other_clips(kind: str) -> None:
    """With as many tokens as these have. They are read as if they had been watched by themselves, but by VideoLLaMA3,
    which kept them smaller beside the others."""
    talker = model(kind)
    watched = talker.watch(Clip(list(FILM), fps=2.0))
    part = Frames(watched.pictures[1:4], watched.seconds[1:4])
    anew = Frames(FILM[1:4], TIMES[1:4])
    first, second = (script(talker, about(one)) for one in (part, anew))
    assert first.ids == second.ids
    is_same = [torch.equal(one.rows, other.rows) for one, other in zip(first.seen, second.seen, strict=True)]
    assert all(is_same) if kind != "video_llama_3" else not any(is_same)


def test_frames_of_other_shapes_are_shown_in_that_of_the_first() -> None:
    odd = Frames((FILM[0], picture((52, 30), 2), picture((90, 160), 4)), TIMES[:3])
    for kind in TOGETHER:
        first, plain = (script(model(kind), about(one)).seen for one in (odd, film(3)))
        assert [one.size_hw for one in first] == [one.size_hw for one in plain]
        assert sum(len(one.rows) for one in first) == sum(len(one.rows) for one in plain) > 3
