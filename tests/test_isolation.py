"""Models in processes of their own say the same as here, to the last bit; what goes over, and what is left behind."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

import scenes
from anmok import errors, results
from anmok.errors import AnmokError, BadMedia, BadRequest, Closing, Refused, UnknownModel, Unsupported, WrongState
from anmok.geometry import Frame, Rle
from anmok.inputs import Clip, Cue, Encoded, Prompted, Text
from anmok.isolation import Apart, Bounds, channel
from anmok.isolation.channel import Channel, Garbled, Lost
from anmok.isolation.codec import KINDS, Parcel, error_from_tree, error_to_tree, packed, unpacked
from anmok.load import Adapter, Model, load
from anmok.results import Failure, Masks, Result, Tracks
from anmok.tasks import (
    Ask,
    Classify,
    Depth,
    Detect,
    Embed,
    Everything,
    Gaze,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)
from anmok.wire import ASKS

SCENE = scenes.scene(("red", 5, 6), ("blue", 30, 20))
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


def same(one: Any, other: Any) -> bool:
    """Of one type, and equal to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        is_alike = one.dtype == other.dtype and one.shape == other.shape
        return is_alike and one.tobytes() == other.tobytes() and one.flags.writeable == other.flags.writeable
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return repr(one) == repr(other)  # nan is nan, and -0.0 is not 0.0


def png(image: Any = SCENE) -> bytes:
    target = io.BytesIO()
    pillow.fromarray(image).save(target, "PNG")
    return target.getvalue()


def there_and_back(value: object) -> Any:
    """Through the codec, with the tree as JSON and the blocks in one piece of memory."""
    parcel = packed(value)
    memory = bytearray(parcel.nbytes)
    for start, data in parcel.blocks:
        memory[start : start + data.nbytes] = data
    return unpacked(json.loads(json.dumps(parcel.tree)), memoryview(memory), is_copied=True)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


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


VALUES: dict[str, object] = {
    "nothing": None,
    "numbers": [True, False, 0, -(2**80), 0.1, -0.0, 1e-320, float("inf"), float("nan")],
    "texts": ("", "고양이 \u0000 \ud800", ("nested", ("deeper", []))),
    "bytes": [b"", b"\x00\xff" * 40, (b"a",)],
    "mapping": {"b": 1, "a": (1.5, b"x")},
    "path": [Path("a/b.png"), "a/b.png"],
    "ask": Segment(("red",), (("crimson", "red"),), 0.25, 3, Everything(points_per_side=8)),
    "classify": Classify(("a", "b"), descriptions=(("x",), ("y", "z")), top_k=1),
    "prompted": Prompted(b"png", points=((1.25, 2, 1),), boxes=((0, 0, 3, 4),), mask=Rle.of(SCENE[..., 0] > 200)),
    "clip": Clip([b"a", SCENE], fps=12.5, end=3.0, cues=(Cue(0, 2, box=(1, 2, 3, 4)),)),
    "text": Text("a red thing"),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_as_they_were(name: str) -> None:
    assert same(there_and_back(VALUES[name]), VALUES[name])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", ">f4", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (3,), (2, 3, 5)])
def test_arrays_come_back_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(3).integers(0, 2**14, shape), dtype)
    assert same(there_and_back([b"odd", array])[1], array)
    assert same(there_and_back(array.T), np.array(array.T, order="C"))


def test_a_state_comes_back_and_cannot_be_written_to() -> None:
    features = np.arange(6, dtype=np.float32)
    features.flags.writeable = False
    state = Encoded("fake@", {"features": features}, Frame((1.0, 0.5), (0.0, 1.5), (4, 5)))
    assert same(there_and_back(state), state)


def test_scalars_of_numpy_become_plain() -> None:
    assert same(there_and_back((np.float32(0.1), np.int64(3))), (float(np.float32(0.1)), 3))


def test_every_ask_and_every_result_has_a_form() -> None:
    made = {getattr(results, name) for name in results.__all__} - {Result, Failure}
    assert made | set(ASKS.values()) <= set(KINDS.values())


@pytest.mark.parametrize("value", [object(), {1, 2}, np.asarray([object()]), np.zeros(2, "M8[s]"), Failure])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        packed([value])


@pytest.mark.parametrize(
    "tree",
    [
        {"x": 1},
        {"t": [], "m": []},
        {"d": ["Popen", []]},
        {"d": ["Text", []]},
        {"d": ["Rle", [{"t": [2, 2]}, {"t": [0, 0, 9, 9]}, {"b": [0, 0]}]]},
        {"b": [8, 100]},
        {"b": [-8, 4]},
        {"a": ["<f4", [1000], 0]},
        {"a": ["<f4", [-1], 0]},
        {"a": ["|O", [1], 0]},
    ],
)
def test_a_tree_that_nobody_packed_is_refused(tree: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError, AnmokError)):
        unpacked(tree, memoryview(bytes(64)), is_copied=False)


def error_classes() -> list[type[AnmokError]]:
    return [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, AnmokError)]


@pytest.mark.parametrize("kind", error_classes())
def test_our_errors_keep_class_message_and_hour(kind: type[AnmokError]) -> None:
    error = kind("what was wrong", 7.5) if issubclass(kind, Refused) else kind("what was wrong")
    found = error_from_tree(json.loads(json.dumps(error_to_tree(error, ""))))
    assert type(found) is kind
    assert str(found) == "what was wrong"
    assert getattr(found, "retry_after", None) == (7.5 if issubclass(kind, Refused) else None)


class OddError(ArithmeticError):
    """Of nobody's."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no"), ValueError),
        (OddError("no"), ArithmeticError),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "no"), RuntimeError),
        (SystemExit("no"), RuntimeError),
    ],
)
def test_other_errors_come_as_python_knows_them(error: BaseException, kind: type[Exception]) -> None:
    found = error_from_tree(json.loads(json.dumps(error_to_tree(error, "its trace"))))
    assert type(found) is kind
    assert "no" in str(found)
    assert "its trace" in found.__notes__[0]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def sent(ends: tuple[Channel, Channel], value: object) -> Any:
    """A value from one end to the other."""
    thread = threading.Thread(target=ends[0].send, args=({"do": "x"}, packed(value)))
    thread.start()
    words, block = ends[1].receive()
    thread.join()
    return unpacked(words["value"], block, is_copied=True)


def test_segments_are_kept_and_grow(ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    mebi = 2**20
    monkeypatch.setattr(channel, "_KEPT", 4 * mebi)
    held = []
    for size in (10, mebi, mebi + 1, 100, 7 * mebi, 5 * mebi, 10, 0):
        value = np.resize(np.arange(251, dtype=np.uint8), size)
        assert same(sent(ends, value), value)
        assert ends[0]._ours is not None
        held.append(len(ends[0]._ours) // mebi)
    # One over what is kept goes with the first message that needs less.
    assert held == [1, 1, 2, 2, 7, 7, 1, 1]


def test_a_long_message_arrives_whole(ends: tuple[Channel, Channel]) -> None:
    value = ["고양이" * 10_000, list(range(100_000))]
    assert same(sent(ends, value), value)


def test_an_end_that_closes_or_lies_is_noticed() -> None:
    for raw, kind in [
        (b"", Lost),
        (b"\x00\x00", Lost),
        (b"\x00\x00\x00\x02" + bytes(8) + b"{]", Garbled),
        (b"\xff\xff\xff\xff" + bytes(8), Garbled),
        (b"\x00\x00\x00\x02" + bytes(7) + b"\x09{}", Garbled),
    ]:
        ours, theirs = socket.socketpair()
        theirs.sendall(raw)
        theirs.close()
        end = Channel(ours)
        with pytest.raises(kind):
            end.receive()
        with pytest.raises(Lost):
            end.send({}, Parcel())
        end.close()


def test_a_segment_that_may_shrink_is_refused() -> None:
    ours, theirs = socket.socketpair()
    descriptor = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4096)
    socket.send_fds(theirs, [b"\x00\x00\x00\x02" + bytes(7) + b"\x09{}"], [descriptor])
    os.close(descriptor)
    theirs.close()
    end = Channel(ours)
    with pytest.raises(Lost, match="shrink"):
        end.receive()
    end.close()


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
