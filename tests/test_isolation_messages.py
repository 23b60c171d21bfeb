"""Values, arrays and errors between two processes, and the channel that they travel on."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anmok import errors, results
from anmok.errors import AnmokError, Refused
from anmok.geometry import Frame, Rle
from anmok.inputs import Clip, Cue, Encoded, Prompted, Text
from anmok.isolation import channel
from anmok.isolation.channel import Channel, Garbled, Lost
from anmok.isolation.codec import KINDS, Parcel, error_from_tree, error_to_tree, packed, unpacked
from anmok.results import Failure, Result
from anmok.tasks import (
    Classify,
    Everything,
    Segment,
)
from anmok.wire import ASKS
from apart_values import SCENE, same


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def there_and_back(value: object) -> Any:
    """Through the codec, with the tree as JSON and the blocks in one piece of memory."""
    parcel = packed(value)
    memory = bytearray(parcel.nbytes)
    for start, data in parcel.blocks:
        memory[start : start + data.nbytes] = data
    return unpacked(json.loads(json.dumps(parcel.tree)), memoryview(memory), is_copied=True)


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
