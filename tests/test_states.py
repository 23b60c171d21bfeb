"""States and the model that made them: closed, shared between threads, and what they keep in memory."""

from __future__ import annotations

import io
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadRequest
from anmok.inputs import Clip, Cue, Encoded, Prompted
from anmok.load import load, tiny
from anmok.tasks import Detect, Segment, Track

IMAGE = np.zeros((20, 30, 3), np.uint8)
IMAGE[5:15, 5:15] = (255, 0, 0)


def test_a_closed_model_says_so_whatever_it_is_asked() -> None:
    model = tiny("fake-places")
    [state] = model.encode([IMAGE])
    begun = model.stream(Clip([IMAGE] * 3), Track(("red",)))
    assert next(begun).frame == 0
    unbegun = model.stream(Clip([IMAGE] * 3), Track(("red",)))
    mapped = model.map([state], Segment())
    late = model.stream(Clip([IMAGE] * 3), Detect(("red",)))
    model.close()
    for use in (
        lambda: model.encode([IMAGE]),
        lambda: model.run([state], Segment()),
        lambda: next(mapped),
        lambda: model.stream(Clip([IMAGE]), Track(("red",))),
        lambda: next(unbegun),
        lambda: next(late),
        lambda: model.towers,
        lambda: model.memory_bytes,
    ):
        with pytest.raises(BadRequest, match="fake-places was closed; load it again"):
            use()
    assert next(begun).ids.tolist() == [1]  # what had begun goes on: it holds the net itself
    model.close()  # twice is once


@pytest.mark.parametrize("name", ["fake-grounded", "owlv2-b16", "samurai-small"])
def test_closing_lets_go_of_the_weights_and_of_those_of_the_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["anmok.load.model"], "_LARGE", 0)  # as for weights of full size
    model = tiny(name)
    held = [weakref.ref(model.kind)]
    held += [weakref.ref(part) for part in model._setup.parts.values()]
    model.close()
    assert [one() for one in held] == [None] * len(held)


def test_a_model_that_is_closed_by_another_thread_ends_what_it_began() -> None:
    model = tiny("fake-places")
    kind = model.kind
    encode = kind.encode

    def closing(batch: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        model.close()  # as another thread may, at the worst moment
        found: dict[str, NDArray[np.generic]] = encode(batch)
        return found

    kind.encode = closing
    assert len(model.run([IMAGE] * 20, Detect(("red",)))) == 20
    with pytest.raises(BadRequest, match="was closed"):
        model.run([IMAGE], Detect(("red",)))


def test_closing_a_map_reads_no_further_pictures() -> None:
    png = io.BytesIO()
    pillow.fromarray(IMAGE).save(png, "PNG")
    opened: list[int] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            opened.append(1)
            time.sleep(0.005)
            return super().read(size)

    answers = tiny("fake-places").map((Slow(png.getvalue()) for _ in range(1000)), Detect(("red",)))
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    assert 16 <= len(opened) < 24  # the first batch, and what was under way of the second, not all 16 of it


def test_a_state_keeps_itself_in_memory_and_not_the_batch_it_was_made_in() -> None:
    state: Encoded = tiny("fake-places").encode([IMAGE] * 8)[3]
    for array in state.maps.values():
        root = array if array.base is None else array.base
        assert root.nbytes == array.nbytes
        assert not array.flags.writeable
    assert state.nbytes == 20 * 30 * 5  # a byte of colour and four of grey for each pixel


def test_two_threads_ask_one_state_and_agree() -> None:
    model = tiny("sam2.1-tiny")
    [state] = model.encode([IMAGE])
    prompts = [Prompted(state, points=((4.0 * i, 3.0 * i, 1),)) for i in range(6)]
    alone = [model.run([one], Segment())[0] for one in prompts]
    found: dict[int, list[object]] = {}

    def work(number: int) -> None:
        found[number] = [model.run([one], Segment())[0].rles for one in prompts]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == {number: [one.rles for one in alone] for number in range(2)}


def test_a_failure_does_not_keep_the_file_that_failed() -> None:
    class Broken(io.BytesIO):
        pass

    held: list[weakref.ref[Broken]] = []

    def files() -> Iterator[Broken]:
        for _ in range(3):
            broken = Broken(b"no picture")
            held.append(weakref.ref(broken))
            yield broken

    answers = tiny("fake-places").map(files(), Detect(("red",)))
    failures = list(answers)
    assert [type(one).__name__ for one in failures] == ["Failure"] * 3
    assert [one() for one in held] == [None] * 3


def test_two_clips_through_one_model_at_once_are_followed_as_alone() -> None:
    model = tiny("sam2.1-tiny")
    rng = np.random.default_rng(1)
    stills = [rng.integers(0, 256, (30, 40, 3), np.uint8) for _ in range(6)]
    sought = [Clip(stills, cues=(Cue(0, number, box=(2.0, 2.0, 20.0 + 9 * number, 25.0)),)) for number in range(2)]
    alone = [[piece.to_json() for piece in model.stream(clip, Track())] for clip in sought]
    mixed: list[list[str]] = [[], []]
    streams = [model.stream(clip, Track()) for clip in sought]
    for _ in stills:
        for pieces, out in zip(streams, mixed, strict=True):
            out.append(next(pieces).to_json())
    assert mixed == alone


def test_an_adapted_model_takes_no_other_revision_or_parts(tmp_path: Path) -> None:
    for other in ({"revision": "main"}, {"parts": {"detector": "owlv2-b16"}}):
        with pytest.raises(BadRequest, match="an adapted model brings its own"):
            load(f"{tmp_path}/best", **other)
