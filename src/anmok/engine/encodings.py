"""Pictures that were asked about before are encoded once: states by the hash of the bytes and the model's maker."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from anmok.inputs import Conversation, Encoded, Item, Prompted
from anmok.load import Model
from anmok.tasks import Encoder

_Key: TypeAlias = tuple[str, bytes]  # maker, sha256


class Encodings:
    """The most recently used states, up to so many bytes. Safe to share between threads.

    Only pictures that came as ``bytes`` (alone, in a ``Prompted`` or in a ``Conversation``) are looked up: what a path
    or an open file holds may change.
    """

    def __init__(self, nbytes: int) -> None:
        self._limit = nbytes
        self._lock = threading.Lock()
        self._states: OrderedDict[_Key, Encoded] = OrderedDict()
        self.nbytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._states)

    def states(self, model: Model, items: Sequence[Item]) -> list[Item]:
        """The items, with states in place of their pictures."""
        if not self._limit or not isinstance(model.kind, Encoder):
            return list(items)
        pictures = [picture for item in items for picture in _pictures(item)]
        keys = [None if data is None else (model.maker, hashlib.sha256(data).digest()) for data in pictures]
        found = self._found([key for key in keys if key is not None])
        fresh = {key: data for key, data in zip(keys, pictures, strict=True) if key is not None and key not in found}
        states = model.encode([data for data in fresh.values() if data is not None])
        made = {key: _own(state) for key, state in zip(fresh, states, strict=True) if key is not None}
        self._keep(made)
        found |= made
        known = (None if key is None else found[key] for key in keys)
        return [_with(item, [next(known) for _ in _pictures(item)]) for item in items]

    def _found(self, keys: Sequence[_Key]) -> dict[_Key, Encoded]:
        with self._lock:
            found = {}
            for key in keys:
                if key in self._states:
                    self._states.move_to_end(key)
                    found[key] = self._states[key]
            self.hits += sum(key in found for key in keys)
            self.misses += sum(key not in found for key in keys)
            return found

    def _keep(self, states: dict[_Key, Encoded]) -> None:
        with self._lock:
            for key, state in states.items():
                if key not in self._states and state.nbytes <= self._limit:
                    self._states[key] = state
                    self.nbytes += state.nbytes
            while self.nbytes > self._limit:
                _, oldest = self._states.popitem(last=False)
                self.nbytes -= oldest.nbytes


def _pictures(item: Item) -> list[bytes | None]:
    """Those of an item, each as its bytes, or None where it is not looked up."""
    images = item.pictures if isinstance(item, Conversation) else [item.image if isinstance(item, Prompted) else item]
    return [image if isinstance(image, bytes) else None for image in images]


def _with(item: Item, states: Sequence[Encoded | None]) -> Item:
    """The item with states where there are any."""
    if not any(states):
        return item
    if isinstance(item, Conversation):
        return item.with_pictures([state or picture for state, picture in zip(states, item.pictures, strict=True)])
    [state] = states
    assert state is not None
    return dataclasses.replace(item, image=state) if isinstance(item, Prompted) else state


def _own(state: Encoded) -> Encoded:
    """A state of its own memory: as it comes it is a slice of its batch, and would keep all of it alive."""
    maps = {name: np.array(array) for name, array in state.maps.items()}
    for array in maps.values():
        array.flags.writeable = False
    return Encoded(state.maker, maps, state.frame)
