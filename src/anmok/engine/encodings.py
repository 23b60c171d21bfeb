"""Pictures, clips and sounds that were asked about before are encoded once: by their hash and the model's maker."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from anmok.inputs import Clip, Conversation, Encoded, Frames, Item, Prompted, Sound
from anmok.load import Model
from anmok.load.watching import check_shown
from anmok.tasks import Encoder, Hears

_Key: TypeAlias = tuple[str, bytes]  # maker, sha256
_State: TypeAlias = Encoded | Frames | Sound  # of a picture, of a clip, of a sound


class Encodings:
    """The most recently used states, up to so many bytes. Safe to share between threads.

    Only pictures that came as ``bytes`` (alone, in a ``Prompted`` or in a ``Conversation``), and a conversation's clips
    and sounds that did, are looked up: what a path or an open file holds may change.
    """

    def __init__(self, nbytes: int) -> None:
        self._limit = nbytes
        self._lock = threading.Lock()
        self._states: OrderedDict[_Key, _State] = OrderedDict()
        self.nbytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._states)

    def states(self, model: Model, items: Sequence[Item]) -> list[Item]:
        """The items, with states in place of their pictures."""
        if not self._limit or not isinstance(model.kind, Encoder | Hears):
            return list(items)
        for item in items:
            if isinstance(item, Conversation):
                check_shown(model.card.name, model.kind, item)
        shown = [one for item in items for one in _shown(item)]
        keys = [None if (digest := _digest(one)) is None else (model.maker, digest) for one in shown]
        found = self._found([key for key in keys if key is not None])
        fresh = {key: one for key, one in zip(keys, shown, strict=True) if key is not None and key not in found}
        made = _made(model, fresh)
        self._keep(made)
        found |= made
        known = (None if key is None else found[key] for key in keys)
        return [_with(item, [next(known) for _ in _shown(item)]) for item in items]

    def _found(self, keys: Sequence[_Key]) -> dict[_Key, _State]:
        with self._lock:
            found = {}
            for key in keys:
                if key in self._states:
                    self._states.move_to_end(key)
                    found[key] = self._states[key]
            self.hits += sum(key in found for key in keys)
            self.misses += sum(key not in found for key in keys)
            return found

    def _keep(self, states: dict[_Key, _State]) -> None:
        with self._lock:
            for key, state in states.items():
                if key not in self._states and state.nbytes <= self._limit:
                    self._states[key] = state
                    self.nbytes += state.nbytes
            while self.nbytes > self._limit:
                _, oldest = self._states.popitem(last=False)
                self.nbytes -= oldest.nbytes


def _shown(item: Item) -> Sequence[Item | Frames | Sound]:
    """What may be looked up of an item. A clip by itself is followed, not encoded."""
    if isinstance(item, Conversation):
        return item.shown
    return [] if isinstance(item, Clip) else [item.image if isinstance(item, Prompted) else item]


def _digest(shown: object) -> bytes | None:
    """Of a picture's bytes, or of a clip's or sound's with what is cut out of it; None of what is not looked up."""
    if isinstance(shown, bytes):
        return hashlib.sha256(shown).digest()
    if isinstance(shown, Sound):
        told = repr(("sound", shown.start, shown.end)).encode()
        return hashlib.sha256(told + shown.source).digest() if isinstance(shown.source, bytes) else None
    if not isinstance(shown, Clip):
        return None
    told = repr((isinstance(shown.source, bytes), shown.fps, shown.start, shown.end, shown.has_sound)).encode()
    files: Any = [shown.source] if isinstance(shown.source, bytes) else shown.source
    if not isinstance(files, list | tuple) or not all(isinstance(one, bytes) for one in files):
        return None
    return hashlib.sha256(told + b"".join(hashlib.sha256(one).digest() for one in files)).digest()


def _made(model: Model, fresh: dict[_Key, Any]) -> dict[_Key, _State]:
    """Pictures together, clips and sounds one by one."""
    pictures = {key: one for key, one in fresh.items() if not isinstance(one, Clip | Sound)}
    states = model.encode(list(pictures.values()))
    made: dict[_Key, _State] = {key: _own(state) for key, state in zip(pictures, states, strict=True)}
    made |= {key: model.listen(one) for key, one in fresh.items() if isinstance(one, Sound)}
    return made | {key: model.watch(one) for key, one in fresh.items() if isinstance(one, Clip)}


def _with(item: Item, states: Sequence[_State | None]) -> Item:
    """The item with states where there are any."""
    if not any(states):
        return item
    if isinstance(item, Conversation):
        return item.with_shown([state or one for state, one in zip(states, item.shown, strict=True)])
    [state] = states
    assert isinstance(state, Encoded)
    return dataclasses.replace(item, image=state) if isinstance(item, Prompted) else state


def _own(state: Encoded) -> Encoded:
    """A state of its own memory: as it comes it is a slice of its batch, and would keep all of it alive."""
    maps = {name: np.array(array) for name, array in state.maps.items()}
    for array in maps.values():
        array.flags.writeable = False
    return Encoded(state.maker, maps, state.frame)
