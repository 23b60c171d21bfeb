"""What a lean language model has read: keys and values, in one array that at least doubles when it grows."""

from __future__ import annotations

import copy
from collections import deque
from typing import Final

import torch
from torch import Tensor

from anmok.errors import BadRequest, TooMuch
from anmok.nets.lean_layers import Sizes

_FIRST_ROOM: Final = 256  # tokens that a fresh memory holds
_MOST_SPARE: Final = 2**26  # bytes that are kept for the next conversation


class Spare:
    """The array of a conversation that is over, for the next: what the system hands out anew, it has to clear page by
    page while a prompt is read."""

    def __init__(self) -> None:
        self._kept: deque[Tensor] = deque(maxlen=1)
        self._most = _MOST_SPARE  # where the interpreter ends, names of modules go before what they made

    def take(self) -> Tensor | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def give(self, rows: Tensor | None) -> None:
        """Kept, unless it is large."""
        if rows is not None and rows.nbytes <= self._most:
            self._kept.append(rows)


class Memory:
    """Keys and values of what was read, float32 (L, 2 * kv heads, room, head). One conversation, one user."""

    def __init__(self, layers: int, sizes: Sizes, spare: Spare) -> None:
        self._most = sizes.context
        self._spare = spare
        kept = spare.take()
        room = min(_FIRST_ROOM, sizes.context)
        self._rows = torch.empty(layers, 2 * sizes.kv_heads, room, sizes.head) if kept is None else kept
        self.length = 0

    def __del__(self) -> None:
        self._spare.give(getattr(self, "_rows", None))  # there may have been no room for any

    @property
    def nbytes(self) -> int:
        return self._rows.numel() * self._rows.element_size()

    def get_seq_length(self) -> int:
        """``length``, by the name that transformers' caches give it."""
        return self.length

    def crop(self, count: int) -> None:
        """Forgets the last ``-count`` tokens, as transformers' caches do; 0 forgets nothing.

        Raises:
            BadRequest: the count is positive, or larger than what was read.
        """
        if not 0 <= -count <= self.length:
            raise BadRequest(f"memory: cannot forget {-count} of {self.length} tokens; give 0 or a negative count")
        self.length += count

    def beside(self) -> Memory:
        """Another one that holds the same, from where both go on by themselves."""
        rows = self._rows.clone()  # which may fail, and before there is another that holds ours
        other = copy.copy(self)
        other._rows = rows
        return other

    def room(self, count: int) -> Tensor:
        """The array (L, 2 * kv heads, room, head), grown to hold ``count`` tokens more.

        Raises:
            TooMuch: the conversation is longer than the model was made for.
        """
        wanted, there = self.length + count, self._rows.shape[2]
        if wanted > self._most:
            raise TooMuch(f"the conversation has {wanted} tokens and the model reads {self._most}; shorten it")
        if wanted > there:
            layers, both, _, head = self._rows.shape
            larger = self._rows.new_empty(layers, both, min(self._most, max(2 * there, wanted + wanted // 2)), head)
            larger[:, :, : self.length] = self._rows[:, :, : self.length]
            self._rows = larger
        return self._rows
