"""A language model at work: prompts in, one token after another out, with what it read kept for the next question.

Pictures come as the rows that stand for them, so whoever asks ten questions about one picture has it seen once; and a
conversation that begins like an earlier one is read from where the two part.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anmok.nets.eyes import Place
from anmok.nets.lean_memory import Memory

_KEPT: Final = 4  # conversations
_MOST_KEPT: Final = 2**30  # bytes of all of them


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What stands for a picture, or a clip, in a prompt: rows (M, W), and the size of what they were made of, or how
    they lie."""

    rows: Tensor
    size_hw: Place

    @property
    def mark(self) -> int:
        """The same for the same rows of the same size: all that is of one colour has the same rows, and where a row
        stands in a prompt may follow from the size."""
        data = self.rows.detach().float().cpu().numpy()
        size = ",".join(map(str, self.size_hw)).encode()
        return int.from_bytes(hashlib.blake2b(data.tobytes() + size, digest_size=6).digest())


@dataclass(frozen=True)
class Script:
    """One conversation as a net reads it: ids, of which those of ``image_ids`` stand for the rows of ``seen``. ``way``
    is by which of its adapters, where the net has several."""

    ids: tuple[int, ...]
    seen: tuple[Seen, ...] = ()
    image_ids: frozenset[int] = frozenset()
    way: str = ""

    @cached_property
    def is_picture(self) -> Tensor:
        """bool (T,)."""
        return torch.tensor([one in self.image_ids for one in self.ids], dtype=torch.bool)

    @cached_property
    def rows(self) -> Tensor | None:
        """All rows (M, W), in their order."""
        return torch.cat([one.rows for one in self.seen]) if self.seen else None

    @cached_property
    def keys(self) -> tuple[int, ...]:
        """One number a token: its id, or, negative, which row of which picture it is. What is read in another way
        begins with another number."""
        marks = iter([-(one.mark * 2**16 + 1 + i) for one in self.seen for i in range(len(one.rows))])
        keys = [next(marks) if one in self.image_ids else one for one in self.ids]
        if self.way:
            keys[0] += int.from_bytes(self.way.encode()) << 64
        return tuple(keys)


@dataclass(eq=False)
class Batch:
    """Scripts that are read together, with blanks at the left of the shorter ones, and what was answered until now.

    ``ids`` int64 (B, S) and ``is_there`` int64 (B, S) cover all that was read, what is in the cache included.
    """

    scripts: tuple[Script, ...]
    ids: Tensor
    is_there: Tensor
    steps: int = 0  # tokens of the answer that were read

    @property
    def positions(self) -> Tensor:
        """int64 (B, S): each script counts from 0."""
        return (self.is_there.cumsum(1) - 1).clamp_min(0)

    @property
    def lengths(self) -> Tensor:
        """int64 (B,): tokens of each, blanks left out."""
        return self.is_there.sum(1)


class Reading(Protocol):
    """How a family's net is called.

    ``bound`` is a number of tokens, or 0: a row that grows past it is read by other positions, and so anew from its
    first token on; what a cache holds of shorter conversations is of no use to longer ones, nor the other way round.
    """

    bound: int

    def cache(self, config: Any, count: int) -> Any:
        """An empty memory for so many scripts."""
        ...

    def embedded(self, ids: Tensor) -> Tensor:
        """int64 (..., T) to rows (..., T, W)."""
        ...

    def read(self, batch: Batch, rows: Tensor, cache: Any) -> Tensor:
        """The last ``rows`` (B, n, W) of the batch, those before being in the cache, to logits (B, V) of what
        follows. ``rows`` of pictures may be wider than the net, for layers that want more of them."""
        ...


class Run:
    """Answers being written. ``logits`` float32 (B, V) are of the next token of each."""

    def __init__(self, reading: Reading, config: Any, batch: Batch, recalled: tuple[Any, int]) -> None:
        self._reading, self._config, self._batch = reading, config, batch
        self._answered: list[int] = []  # of the first script
        self._cache, known = recalled
        if self._cache is None:
            self._cache = reading.cache(config, len(batch.scripts))
        with torch.inference_mode():
            self.logits = _plain(reading.read(batch, self._rows()[:, known:], self._cache))

    def step(self, tokens: Sequence[int]) -> None:
        """One token more of each, read."""
        fresh = torch.tensor(tokens, device=self._batch.ids.device)[:, None]  # (B, 1)
        batch = self._batch
        batch.ids = torch.cat([batch.ids, fresh], 1)  # (B, S + 1)
        batch.is_there = functional.pad(batch.is_there, (0, 1), value=1)  # (B, S + 1)
        batch.steps += 1
        self._answered.append(tokens[0])
        with torch.inference_mode():
            if self._reading.bound and bool((batch.lengths == self._reading.bound + 1).any()):
                rows, self._cache = self._rows(), self._reading.cache(self._config, len(batch.scripts))
            else:
                rows = self._reading.embedded(fresh)
            self.logits = _plain(self._reading.read(batch, rows, self._cache))

    def only(self, rows: Sequence[int]) -> None:
        """Goes on with these rows of the batch alone."""
        picked = torch.tensor(rows, device=self._batch.ids.device)
        batch = self._batch
        batch.scripts = tuple(batch.scripts[row] for row in rows)
        batch.ids, batch.is_there = batch.ids[picked], batch.is_there[picked]  # (B', S)
        if not isinstance(self._cache, Memory):
            self._cache.batch_select_indices(picked)
        elif len(rows) > 1:  # it has room for one conversation, so all is read again for several
            self._cache = self._reading.cache(self._config, len(rows))
            with torch.inference_mode():
                self._reading.read(batch, self._rows(), self._cache)

    def apart(self, rows: Sequence[int]) -> Run:
        """Another run that goes on with these rows, each as often as it is named; this one stays where it is."""
        other = copy.copy(self)
        other._batch, other._answered = replace(self._batch), [*self._answered]
        other._cache = _beside(self._cache)
        other.logits = self.logits[list(rows)]  # (B', V)
        other.only(rows)
        return other

    @property
    def nbytes(self) -> int:
        """Of what it has in memory of all that was read."""
        return _nbytes(self._cache)

    @property
    def kept(self) -> tuple[tuple[int, ...], Any]:
        """Keys of all that the cache of a single script holds, and the cache."""
        return (*self._batch.scripts[0].keys, *self._answered), self._cache

    def _rows(self) -> Tensor:
        """(B, S, W): all that was read, pictures' rows in their places, and what was answered."""
        batch = self._batch
        asked = batch.ids.shape[1] - batch.steps
        rows = torch.stack([_placed(self._reading, one, batch.ids[0, :asked]) for one in batch.scripts])
        if not batch.steps:
            return rows
        return torch.cat([rows, self._reading.embedded(batch.ids[:, asked:])], 1)  # (B, S, W)


class Speaker:
    """A net that reads scripts. Its memory holds the last few conversations that were read by themselves."""

    def __init__(self, reading: Reading, config: Any, device: str) -> None:
        self._reading, self._config, self._device = reading, config, device
        self._memory: list[tuple[tuple[int, ...], Any]] = []

    def begin(self, scripts: Sequence[Script]) -> Run:
        """Reads all of them, those that are alone from where they part with one that was read before."""
        recalled = self._recalled(scripts[0]) if len(scripts) == 1 else (None, 0)
        return Run(self._reading, self._config, self._batch(scripts), recalled)

    def remember(self, run: Run) -> None:
        """Keeps what a single conversation was read to. The run is over with it."""
        keys, cache = run.kept
        if any(_has_forgotten(layer) for layer in getattr(cache, "layers", ())):
            return
        self._memory = [*self._memory[-(_KEPT - 1) :], (keys, cache)]
        while len(self._memory) > 1 and sum(_nbytes(one) for _, one in self._memory) > _MOST_KEPT:
            del self._memory[0]

    def _recalled(self, script: Script) -> tuple[Any, int]:
        """The cache that has most of the script's beginning, cut to that, and how many tokens it has. It is taken out
        of the memory, since the run goes on in it; but where little of it is of use it stays for who comes back."""
        shared = [
            _shared(keys, script) if self._is_alike(len(keys), len(script.ids)) else 0 for keys, _ in self._memory
        ]
        if not shared or max(shared) == 0:
            return None, 0
        best = shared.index(max(shared))
        keys, cache = self._memory[best]
        if 2 * shared[best] < len(keys):
            cache = _beside(cache)
        else:
            del self._memory[best]
        cache.crop(-(len(keys) - shared[best]))
        return cache, shared[best]

    def _is_alike(self, *lengths: int) -> bool:
        """Whether conversations of these lengths are read by the same positions."""
        return len({length > self._reading.bound > 0 for length in lengths}) == 1

    def _batch(self, scripts: Sequence[Script]) -> Batch:
        longest = max(len(one.ids) for one in scripts)
        ids = [functional.pad(torch.tensor(one.ids), (longest - len(one.ids), 0)) for one in scripts]
        there = [
            functional.pad(torch.ones(len(one.ids), dtype=torch.long), (longest - len(one.ids), 0)) for one in scripts
        ]
        return Batch(tuple(scripts), torch.stack(ids).to(self._device), torch.stack(there).to(self._device))


def _placed(reading: Reading, script: Script, like: Tensor) -> Tensor:
    """(S, W): embedded tokens, rows of pictures in their places, zeros at the left, as long as ``like`` (S,) is."""
    ids = torch.tensor(script.ids, device=like.device)
    is_picture = script.is_picture.to(like.device)
    rows = reading.embedded(ids.masked_fill(is_picture, 0))  # (T, W)
    if script.rows is not None:
        rows = rows.clone()
        rows[is_picture] = script.rows.to(rows)[:, : rows.shape[1]]
    return functional.pad(rows, (0, 0, len(like) - len(rows), 0))  # (S, W)


def _shared(keys: tuple[int, ...], script: Script) -> int:
    """Tokens that both begin with: not the last of the script, which has to be read for its logits, and no picture
    in part."""
    most = min(len(keys), len(script.keys) - 1)
    count = next((i for i in range(most) if keys[i] != script.keys[i]), most)
    while 0 < count < len(script.keys) and script.keys[count - 1] < 0 and script.keys[count] < 0:
        count -= 1
    return count


def _plain(logits: Tensor) -> NDArray[np.float32]:
    plain: NDArray[np.float32] = logits.float().cpu().numpy()
    return plain


def _beside(cache: Any) -> Any:
    """Another cache of the same tokens, from where both go on by themselves. It costs nothing: layers put tensors
    together anew, and write into none."""
    if isinstance(cache, Memory):
        return cache.beside()
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) for layer in cache.layers]
    return other


def _has_forgotten(layer: Any) -> bool:
    """A window forgets the beginning of what is longer, so there is no going back in it."""
    return getattr(layer, "is_sliding", False) and layer.get_seq_length() >= layer.sliding_window


def _nbytes(cache: Any) -> int:
    if isinstance(cache, Memory):
        return cache.nbytes
    tensors = [tensor for layer in cache.layers if layer.is_initialized for tensor in (layer.keys, layer.values)]
    # Layers that take the keys of others have none.
    return sum(one.numel() * one.element_size() for one in tensors if one is not None)
