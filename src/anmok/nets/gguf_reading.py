"""GGUF files, opened by the package ``gguf``, and faster."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import MissingDependency


def reading(path: Path, name: str, extra: str = "models") -> Any:
    """A ``gguf.GGUFReader`` of the file; ``name`` is the card's, for messages, and ``extra`` brings the package.

    Raises:
        MissingDependency: gguf is not installed.
        OSError, ValueError, IndexError, KeyError: no GGUF file, or one that is cut off.
    """
    try:
        import gguf
    except ImportError:
        raise MissingDependency(f"{name}: GGUF files need the package gguf: pip install 'anmok[{extra}]'") from None

    class Plain(gguf.GGUFReader):
        """Slices a plain array over the mapped file, and takes lists as a whole. The package slices the map itself,
        several times for each word of a vocabulary, and at each slice numpy asks whether memory is shared, which takes
        most of the time. Where the package is built otherwise one day, this changes nothing but the time."""

        def _get(self, offset: int, *rest: Any, **named: Any) -> Any:
            if isinstance(self.data, np.memmap):
                plain: Any = self.data.view(np.ndarray)
                self.data = plain
            return super()._get(offset, *rest, **named)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if int(raw_type) != gguf.GGUFValueType.ARRAY or self.byte_order != "I" or sys.byteorder != "little":
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            held, start = gguf.GGUFValueType(int(kind[0])), orig_offs + 12
            number = self.gguf_scalar_to_np.get(held)
            if number is not None:
                whole = self._get(start, number, int(count[0]))
                parts, end = list(whole.reshape(-1, 1)), start + whole.nbytes
                places = list(range(2, 2 + len(parts)))
            elif held == gguf.GGUFValueType.STRING:
                parts, end = _words(self.data, start, int(count[0]))
                places = list(range(3, 2 + len(parts), 2))
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            return end - orig_offs, [kind, count, *parts], places, [gguf.GGUFValueType.ARRAY, held]

    return Plain(path)


def _words(data: NDArray[np.uint8], start: int, count: int) -> tuple[list[NDArray[Any]], int]:
    """The length and the letters of each word, as the package lays them down, and where the last of them ends.

    Raises:
        IndexError: the file is over before.
    """
    parts: list[NDArray[Any]] = []
    lengths = struct.Struct("<Q")
    for _ in range(count):
        if start + 8 > len(data):
            raise IndexError("a list of words is cut off")
        first, end = start + 8, start + 8 + lengths.unpack_from(data.data, start)[0]
        if end > len(data):
            raise IndexError("a word is cut off")
        parts += (data[start:first].view(np.uint64), data[first:end])
        start = end
    return parts, start
