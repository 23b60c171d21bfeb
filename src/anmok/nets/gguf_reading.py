"""GGUF files, opened by the package ``gguf``, and faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

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
        """Slices a plain array over the mapped file. The package slices the map itself, several times for each word of
        a vocabulary, and at each slice numpy asks whether memory is shared, which takes most of the time. Where the
        package is built otherwise one day, this changes nothing but the time."""

        def _get(self, offset: int, *rest: Any, **named: Any) -> Any:
            if isinstance(self.data, np.memmap):
                plain: Any = self.data.view(np.ndarray)
                self.data = plain
            return super()._get(offset, *rest, **named)

    return Plain(path)
