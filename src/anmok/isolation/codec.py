"""Asks, items, answers and errors as JSON beside a block of bytes, exact to the last bit. Nothing is pickled.

A value is itself where JSON has it (None, bool, number, text, list), and an object with one key otherwise:

=====  ==================================================================================
``t``  a tuple, its values
``m``  a mapping of texts, its pairs
``b``  bytes: ``[start, length]`` in the block
``a``  an array: ``[dtype, shape, start]`` in the block, rows last
``p``  a path
``d``  a dataclass: ``[name, values]``, of those in ``KINDS`` and no others
=====  ==================================================================================

A dataclass is made by its constructor, which checks shapes and ranges as it does for whoever makes a result.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok import results
from anmok.errors import AnmokError, Refused
from anmok.geometry import Frame, Rle
from anmok.inputs import Clip, Conversation, Cue, Encoded, Frames, Prompted, Sound, Text, Turn
from anmok.results import Failure, Result
from anmok.tasks import Everything
from anmok.wire import ASKS
from anmok.wire.refusals import error_of, public_class

Tree: TypeAlias = Any  # JSON values

_ALIGNMENT = 64  # bytes, of a cache line: arrays of any dtype may start there
_NUMBERS = "biufc"  # kinds of dtype that are plain values
_ANSWERS = [getattr(results, name) for name in results.__all__]
KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(kind for kind in _ANSWERS if kind not in (Result, Failure)),
        *(Clip, Conversation, Cue, Encoded, Everything, Frame, Frames, Prompted, Rle, Sound, Text, Turn),
        *ASKS.values(),
    )
}


@dataclass(slots=True)
class Parcel:
    """A value on its way: the tree, and the blocks of bytes with the places where they belong."""

    tree: Tree = None
    blocks: list[tuple[int, memoryview]] = field(default_factory=list)
    nbytes: int = 0

    def add(self, data: memoryview) -> int:
        """Where the bytes will stand."""
        start = -(-self.nbytes // _ALIGNMENT) * _ALIGNMENT
        if data.nbytes:
            self.blocks.append((start, data))
            self.nbytes = start + data.nbytes
        return start


def packed(value: object) -> Parcel:
    """A value and all that is in it.

    Raises:
        TypeError: something in it is none of the above.
    """
    parcel = Parcel()
    parcel.tree = _packed(value, parcel)
    return parcel


def unpacked(tree: Tree, memory: memoryview, *, is_copied: bool) -> Any:
    """The inverse of ``packed``. Without ``is_copied`` bare arrays are views of ``memory``, which may be written to
    by the next message; those of results are copies in any case.

    Raises:
        LookupError, TypeError, ValueError, AnmokError: it was not made by ``packed``.
    """
    if not isinstance(tree, dict):
        return [unpacked(one, memory, is_copied=is_copied) for one in tree] if isinstance(tree, list) else tree
    [(tag, content)] = tree.items()
    if tag == "t":
        return tuple(unpacked(one, memory, is_copied=is_copied) for one in content)
    if tag == "m":
        return {key: unpacked(one, memory, is_copied=is_copied) for key, one in content}
    if tag == "b":
        return bytes(_block(memory, *content))
    if tag == "a":
        return _array(memory, content, is_copied)
    if tag == "p":
        return Path(content)
    if tag == "d":
        name, values = content
        return _made(KINDS[name], [unpacked(one, memory, is_copied=is_copied) for one in values])
    raise ValueError(f"a tag {tag!r} that means nothing")


def error_to_tree(error: BaseException, trace: str) -> Tree:
    """An error as plain values. ``trace`` is for the log, of an error that is not ours."""
    if isinstance(error, AnmokError):
        after = error.retry_after if isinstance(error, Refused) else None
        return {"class": public_class(error), "message": str(error), "retry_after": after}
    kind = next(one.__name__ for one in type(error).__mro__ if getattr(builtins, one.__name__, None) is one)
    return {"builtin": kind, "class": type(error).__name__, "message": str(error), "trace": trace}


def error_from_tree(tree: Tree) -> Exception:
    """The same error, of the same class where that is ours or Python's own.

    Raises:
        LookupError, TypeError: no error.
    """
    message = str(tree["message"])
    if "builtin" not in tree:
        error = error_of(tree["class"], message)
        if isinstance(error, Refused) and tree["retry_after"] is not None:
            error.retry_after = float(tree["retry_after"])
        return error
    kind = getattr(builtins, tree["builtin"])
    is_plain = isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError)
    failed: Exception = kind(message) if is_plain else RuntimeError(f"{tree['class']}: {message}")
    failed.add_note(f"In the process of the model:\n{tree['trace']}")
    return failed


def _packed(value: Any, parcel: Parcel) -> Tree:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_packed(one, parcel) for one in value]
    if isinstance(value, tuple):
        return {"t": [_packed(one, parcel) for one in value]}
    if isinstance(value, bytes):
        return {"b": [parcel.add(memoryview(value)), len(value)]}
    if isinstance(value, np.ndarray):
        return {"a": _packed_array(value, parcel)}
    if KINDS.get(type(value).__name__) is type(value):
        return {"d": [type(value).__name__, [_packed(getattr(value, one.name), parcel) for one in fields(value)]]}
    if isinstance(value, Mapping):
        return {"m": [[str(key), _packed(one, parcel)] for key, one in value.items()]}
    if isinstance(value, np.generic):
        return _packed(value.item(), parcel)
    if isinstance(value, Path):
        return {"p": str(value)}
    raise TypeError(f"{type(value).__name__}: has no form in which it could go to another process")


def _packed_array(array: NDArray[Any], parcel: Parcel) -> Tree:
    if array.dtype.kind not in _NUMBERS:
        raise TypeError(f"array of dtype {array.dtype}: want plain numbers")
    rows = np.ascontiguousarray(array)
    data = rows.reshape(-1).view(np.uint8).data if rows.size else memoryview(b"")
    return [array.dtype.str, list(array.shape), parcel.add(data)]


def _array(memory: memoryview, content: Tree, is_copied: bool) -> NDArray[Any]:
    name, shape, start = content
    dtype = np.dtype(name)
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"array of dtype {dtype}: want plain numbers")
    count = math.prod(shape)
    view = np.frombuffer(_block(memory, start, count * dtype.itemsize), dtype).reshape(shape)
    return np.array(view) if is_copied else view


def _block(memory: memoryview, start: int, length: int) -> memoryview:
    if length and not 0 <= start <= start + length <= len(memory):
        raise ValueError(f"bytes {start} to {start + length} of a block of {len(memory)}")
    return memory[start : start + length] if length else memoryview(b"")


def _made(kind: type[Any], values: list[Any]) -> Any:
    if len(values) != len(fields(kind)):
        raise ValueError(f"{len(values)} values for a {kind.__name__}")
    made = kind(*values)
    if isinstance(made, Encoded):
        for array in made.maps.values():
            array.flags.writeable = False  # as the model's own
    return made
