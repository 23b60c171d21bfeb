"""Models in processes of their own say the same as here, to the last bit; and what is left behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import scenes
from anmok.errors import AnmokError, BadMedia, BadRequest, Closing, UnknownModel, Unsupported, WrongState
from anmok.geometry import Rle
from anmok.inputs import Clip, Cue, Prompted, Text
from anmok.isolation import Apart, Bounds
from anmok.load import Adapter, Model, load
from anmok.results import Masks, Tracks
from anmok.tasks import (
    Ask,
    Classify,
    Depth,
    Detect,
    Embed,
    Gaze,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)
from apart_values import SCENE, same, until

PLACES = (
    Detect(("red", "blue")),
    Pointing(("red", "blue")),
    Segment(("red",)),
    Segment(),
    Depth(),
    Pose(),
    Gaze(),
    Parse(),
    Normals(),
    Matting(),
)


def png(image: Any = SCENE) -> bytes:
    target = io.BytesIO()
    pillow.fromarray(image).save(target, "PNG")
    return target.getvalue()


def is_gone(pid: int) -> bool:
    """Ended; what is left of a process that nobody has asked after counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """A process for the three fakes together, and one for whatever else is loaded."""
    group = dict.fromkeys(("fake", "fake-places", "fake-grounded"), "fakes")
    with Apart(device="cpu", groups=group) as found:
        yield found


@pytest.fixture(scope="module")
def places(apart: Apart) -> Iterator[Model]:
    with apart("fake-places") as model:
        yield model


@pytest.fixture(scope="module")
def fake(apart: Apart) -> Iterator[Model]:
    with apart("fake") as model:
        yield model


@pytest.mark.parametrize("ask", PLACES, ids=lambda one: one.task)
def test_every_kind_of_answer_is_the_same_to_the_last_bit(places: Model, ask: Ask[Any, Any]) -> None:
    here = load("fake-places", device="cpu")
    other = scenes.scene(("green", 1, 2), size_hw=(37, 41))
    items = [png(), SCENE, png(other), SCENE]
    assert same(places.run(items, ask), here.run(items, ask))


def test_every_kind_of_item_can_be_sent(places: Model, tmp_path: Path) -> None:
    here = load("fake-places", device="cpu")
    path = scenes.save(tmp_path / "scene.png", SCENE)
    box = (4.0, 5.0, 16.0, 17.0)
    items = [
        path,
        str(path),
        png(),
        pillow.fromarray(SCENE),
        SCENE[::-1],
        Prompted(png(), points=((8, 9, 1),)),
        Prompted(SCENE, boxes=(box, box)),
        Prompted(path, mask=Rle.of(scenes.square_mask(5, 6))),
        Prompted(pillow.fromarray(SCENE), points=((8, 9, 1), (40, 40, 0))),
    ]
    assert same(places.run(items, Segment()), here.run(items, Segment()))
    assert same(places.run([io.BytesIO(png())], Depth()), here.run([SCENE], Depth()))
    assert same(places.run([SCENE.astype(np.uint16) * 257], Depth()), here.run([SCENE], Depth()))
    assert places.run([], Depth()) == []


def test_vectors_scores_and_states_are_the_same(fake: Model) -> None:
    here = load("fake", device="cpu")
    items = [png(), Text("red"), SCENE]
    assert same(fake.run(items, Embed()), here.run(items, Embed()))
    assert same(fake.run([png()] * 40, Classify(("red", "blue"))), here.run([png()] * 40, Classify(("red", "blue"))))
    states = fake.encode([png(), SCENE])
    assert same(states, here.encode([png(), SCENE]))
    assert same(fake.run(states, Embed("features")), here.run(states, Embed("features")))
    assert fake.maker == here.maker
    assert fake.memory_bytes == here.memory_bytes
    assert fake.card is here.card


def test_the_shortcuts_of_a_model_work(fake: Model, places: Model) -> None:
    assert fake.classify(scenes.scene(ground="red"), ["red", "blue"]).label == "red"
    assert places.detect(SCENE, ["red"]).xyxy.tolist() == [[5, 6, 15, 16]]


def test_a_clip_is_followed_as_here(places: Model, tmp_path: Path) -> None:
    here = load("fake-places", device="cpu")
    film = scenes.film(tmp_path / "walk.mov", scenes.walk(8), broken=(3,))
    clip = Clip(film, cues=(Cue(0, 1, points=((8, 9, 1),)),))
    heard: list[tuple[int, str]] = []
    seen: list[tuple[int, str]] = []
    pieces = list(places.stream(clip, Track(), on_broken=lambda frame, why: heard.append((frame, str(why)))))
    assert same(pieces, list(here.stream(clip, Track(), on_broken=lambda frame, why: seen.append((frame, str(why))))))
    assert [frame for frame, _ in heard] == [3]
    assert heard == seen
    [whole] = places.run([clip], Track(("blue",)))
    assert isinstance(whole, Tracks)
    assert same(whole, here.run([clip], Track(("blue",)))[0])
    stills = Clip(scenes.walk(3))
    assert same(list(places.stream(stills, Depth())), list(here.stream(stills, Depth())))


def test_a_stream_can_be_left_and_others_go_on_beside_it(apart: Apart) -> None:
    with apart("fake-grounded") as grounded:
        clip = Clip(scenes.walk(30))
        one, other = (iter(grounded.stream(clip, Track(("red",)))) for _ in range(2))
        first = next(one)
        assert same(first.masks, next(other).masks)
        del other  # as an engine lets go of it
        assert len(grounded.run([SCENE], Segment(("blue",)))[0]) == 1
        assert next(one).frame == 1
        one.close()  # type: ignore[attr-defined]
        with pytest.raises(StopIteration):
            next(one)


def told(action: Callable[[], object]) -> tuple[type, str]:
    with pytest.raises(AnmokError) as caught:
        action()
    return caught.type, str(caught.value)


def test_errors_are_those_of_the_model(places: Model, fake: Model) -> None:
    here, near = load("fake-places", device="cpu"), load("fake", device="cpu")
    state = near.encode([SCENE])[0]
    cases: list[tuple[type[AnmokError], Callable[[Model], object]]] = [
        (BadMedia, lambda model: model.run([b"no picture"], Depth())),
        (BadMedia, lambda model: model.run(["/nowhere.png"], Depth())),
        (BadMedia, lambda model: model.run([np.zeros((2, 2), object)], Depth())),
        (BadRequest, lambda model: model.run([SCENE], Detect())),
        (BadRequest, lambda model: model.run([Text("red")], Depth())),
        (Unsupported, lambda model: model.run([SCENE], Classify(("red",)))),
        (WrongState, lambda model: model.run([state], Depth())),
        (BadRequest, lambda model: model.stream(SCENE, Depth())),  # type: ignore[arg-type]
        (BadRequest, lambda model: model.stream(Clip([SCENE], cues=(Cue(0, points=((1, 1, 1),)),)), Depth())),
        (BadMedia, lambda model: list(model.stream(Clip(b"no clip"), Track(("red",))))),
    ]
    for kind, action in cases:
        found = told(partial(action, places))
        assert found == told(partial(action, here))
        assert found[0] is kind
    assert told(lambda: fake.run([SCENE], Classify()))[0] is BadRequest


def test_what_needs_the_net_here_is_refused(fake: Model) -> None:
    adapter = Adapter("fake", fake.maker, ("red",), "zero-shot")
    for action in (lambda: fake.towers, lambda: list(fake.map([SCENE], Embed())), lambda: fake.with_adapter(adapter)):
        kind, message = told(action)
        assert kind is Unsupported
        assert "process of its own" in message


def test_an_adapted_model_brings_its_labels(apart: Apart, tmp_path: Path) -> None:
    near = load("fake", device="cpu")
    Adapter("fake", near.maker, ("red", "blue"), "zero-shot", threshold=0.6).write(tmp_path / "best")
    name = str(tmp_path / "best")
    with apart(name) as model:
        assert model.adapter is not None
        assert model.adapter.labels == ("red", "blue")
        assert same(model.run([SCENE], Classify()), load(name, device="cpu").run([SCENE], Classify()))


def test_a_misspelt_name_starts_no_process() -> None:
    with Apart(device="cpu") as apart:
        with pytest.raises(UnknownModel):
            apart("fak")
        assert apart.status() == ()


def test_a_load_that_fails_says_why_and_leaves_no_process() -> None:
    with Apart(device="teapot") as apart:
        with pytest.raises(Unsupported, match="teapot"):
            apart("fake")
        until(lambda: apart.status() == ())


def test_groups_share_a_process_which_goes_with_its_last_model() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with Apart(device="cpu", groups={"fake": "a", "fake-sigmoid": "a"}) as apart:
        one, other, alone = apart("fake"), apart("fake-sigmoid"), apart("fake-places")
        [shared, single] = apart.status()
        assert (shared.name, shared.models, single.models) == ("a", ("fake", "fake-sigmoid"), ("fake-places",))
        assert shared.pid is not None
        assert single.pid is not None
        assert shared.pid != single.pid
        assert shared.resident_bytes > 10**7
        alone.close()
        assert is_gone(single.pid)
        one.close()
        one.close()
        assert len(other.run([SCENE], Embed())) == 1
        assert [status.models for status in apart.status()] == [("fake-sigmoid",)]
        with pytest.raises(BadRequest, match="closed"):
            one.run([SCENE], Embed())
    assert is_gone(shared.pid)
    with pytest.raises(Closing):
        other.run([SCENE], Embed())
    with pytest.raises(Closing):
        apart("fake")
    until(lambda: {thread.name for thread in threading.enumerate()} <= before)


def test_calls_of_several_threads_do_not_mix(places: Model) -> None:
    pictures = [scenes.scene(("red", x, 3), size_hw=(30, 40 + x)) for x in range(12)]
    here = load("fake-places", device="cpu")
    wanted = here.run(pictures, Detect(("red",)))
    found: dict[int, Any] = {}

    def ask(index: int) -> None:
        for _ in range(5):
            [found[index]] = places.run([pictures[index]], Detect(("red",)))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same([found[index] for index in range(12)], wanted)


def open_and_mapped() -> tuple[int, int]:
    """Descriptors and segments of this process."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return len(list(Path("/proc/self/fd").iterdir())), maps.count("memfd:anmok")


def named_segments() -> list[Path]:
    """What would outlive all processes."""
    return [path for path in Path("/dev/shm").iterdir() if "anmok" in path.name]


def test_nothing_is_left_open() -> None:
    before = open_and_mapped()
    with Apart(device="cpu") as apart, apart("fake-places") as model:
        [mask] = model.run([SCENE], Segment(("red",)))
        assert isinstance(mask, Masks)
        next(iter(model.stream(Clip(scenes.walk(3)), Track(("red",)))))
        [status] = apart.status()
        maps = Path(f"/proc/{status.pid}/maps").read_text(encoding="utf-8")
        assert "memfd:anmok (deleted)" in maps  # it has memory in common with this one, which has no name anywhere
    assert open_and_mapped() == before
    assert named_segments() == []


PARENT = """
import time
from anmok.isolation import Apart
from anmok.tasks import Embed
apart = Apart(device="cpu")
model = apart("fake")
model.run([b"P6 1 1 255 abc"], Embed())
print(apart.status()[0].pid, flush=True)
time.sleep(60)
"""


def test_a_process_ends_when_its_parent_is_killed_and_not_when_it_is_interrupted() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        time.sleep(0.1)
        assert not is_gone(pid)
        parent.kill()
    until(lambda: is_gone(pid), 5.0)
    assert named_segments() == []


def test_threads_are_shared_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert Bounds(processes=1).environment()["OMP_NUM_THREADS"] == str(cores)
    assert Bounds(processes=1000).environment()["OMP_NUM_THREADS"] == "1"
    assert Bounds(threads=3, processes=9).environment()["MKL_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Bounds().environment()["OMP_NUM_THREADS"] == "7"
    assert Bounds(threads=2).environment()["OMP_NUM_THREADS"] == "2"


def test_bounds_are_checked_and_pauses_double() -> None:
    assert [Bounds().pause(deaths) for deaths in (1, 2, 3, 9, 10, 1000)] == [0.1, 0.2, 0.4, 25.6, 30.0, 30.0]
    for wrong in ({"threads": 0}, {"processes": 0}, {"memory_bytes": -1}, {"first_pause": 0.0}, {"longest_pause": 0.0}):
        with pytest.raises(BadRequest):
            Bounds(**wrong)  # type: ignore[arg-type]
