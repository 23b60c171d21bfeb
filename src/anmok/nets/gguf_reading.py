"""GGUF files, opened by the package ``gguf``, in a third of its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anmok.errors import MissingDependency


def reading(path: Path, name: str) -> Any:
    """A ``gguf.GGUFReader`` of the file; ``name`` is the card's, for messages.

    Raises:
        MissingDependency: gguf is not installed.
        OSError, ValueError, IndexError, KeyError: no GGUF file, or one that is cut off.
    """
    try:
        import gguf
    except ImportError:
        raise MissingDependency(f"{name}: GGUF files need the package gguf: pip install 'anmok[models]'") from None

    class Plain(gguf.GGUFReader):
        """Slices a plain array over the mapped file. The package slices the map itself, and numpy asks anew at each of
        half a million slices, four to a word of a vocabulary, whether their memory is shared: two thirds of the time.
        Where the package is built otherwise one day, this changes nothing but the time."""

        def _get(self, offset: int, *rest: Any, **named: Any) -> Any:
            if isinstance(self.data, np.memmap):
                plain: Any = self.data.view(np.ndarray)
                self.data = plain
            return super()._get(offset, *rest, **named)

    return Plain(path)
