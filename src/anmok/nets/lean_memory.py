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


class Desk:
    """Where one row after the other is worked on: made once, not anew in each layer for each token.

    ``row`` float32 (1, W); ``normed`` (1, W) by dtype; ``mixed`` float32 (1, (heads + 2 * kv heads) * head), whose
    ``pairs`` are complex64 (heads + 2 * kv heads, head / 2); ``turned`` the same, with ``queries`` (kv heads, group,
    head) and ``fresh`` keys above values (2 * kv heads, head) in it; ``made`` float32 (kv heads, group, head), which is
    ``whole`` (1, heads * head); ``attended`` the same by dtype.
    """

    def __init__(self, sizes: Sizes) -> None:
        both, dtypes = sizes.heads + 2 * sizes.kv_heads, (torch.float32, torch.bfloat16)
        # |row| and the last number make a right angle: the third side is sqrt(sum of squares + W * epsilon).
        self._longer = torch.full((1, sizes.width + 1), (sizes.width * sizes.epsilon) ** 0.5)
        self.row = self._longer[:, :-1]
        self.normed = {dtype: torch.empty(1, sizes.width, dtype=dtype) for dtype in dtypes}
        self.mixed = torch.empty(1, both * sizes.head)
        self.pairs = torch.view_as_complex(self.mixed.view(both, -1, 2))
        self.turned = torch.empty_like(self.pairs)
        rows = torch.view_as_real(self.turned).view(both, -1)  # (heads + 2 * kv heads, head)
        self.queries = rows[: sizes.heads].view(sizes.kv_heads, -1, sizes.head)
        self.fresh = rows[sizes.heads :]
        self.whole = torch.empty(1, sizes.heads * sizes.head)
        self.made = self.whole.view(self.queries.shape)
        self.attended = {dtype: torch.empty_like(self.whole, dtype=dtype) for dtype in dtypes}

    def length(self) -> Tensor:
        """What RMS norm divides the row by, but for the square root of W; (1, 1)."""
        length: Tensor = torch.linalg.vector_norm(self._longer, dim=1, keepdim=True)
        return length


class Memory:
    """Keys and values of what was read, float32 (L, 2 * kv heads, room, head). One conversation, one user."""

    def __init__(self, layers: int, sizes: Sizes, spare: Spare) -> None:
        self._most = sizes.context
        self._spare = spare
        kept = spare.take()
        room = min(_FIRST_ROOM, sizes.context)
        self._rows = torch.empty(layers, 2 * sizes.kv_heads, room, sizes.head) if kept is None else kept
        self._sizes = sizes
        self._desk: Desk | None = None
        self.length = 0

    def __del__(self) -> None:
        self._spare.give(getattr(self, "_rows", None))  # there may have been no room for any

    def __getstate__(self) -> dict[str, object]:
        """Without the desk, whose views would part from what they are views of."""
        return {**self.__dict__, "_desk": None}

    @property
    def nbytes(self) -> int:
        return self._rows.numel() * self._rows.element_size()

    @property
    def desk(self) -> Desk:
        """Made when the first row is read by itself."""
        if self._desk is None:
            self._desk = Desk(self._sizes)
        return self._desk

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
