"""A head that has a name: what `anmok ladder` wrote, under a card of its own (``anmok card new --folder``).

It answers as the model that ``load`` makes of the folder's path does, and can be a part, a name on a server or the
start of another climb like any other model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.catalogue.local import MANIFEST
from anmok.errors import BadWeights, Unsupported
from anmok.geometry import View
from anmok.inputs import Encoded, Text
from anmok.load.adapter import MANIFEST as TOML
from anmok.load.adapter import Adapter
from anmok.load.closely import Closely
from anmok.load.tuned import tuned
from anmok.pairing import score_row
from anmok.results import Embedding, Scores
from anmok.tasks import Classifies, Classify, Embed, Setup
from anmok.weights.cache import sha256_of

BASE = "base"  # the part's role in the card


class Adapted:
    """The states are those of the base. Its own labels, or some of them, are answered by the head; others by the
    base's text tower, where it has one."""

    def __init__(self, setup: Setup, adapter: Adapter) -> None:
        self._setup = setup
        self._base: Any = setup.parts[BASE]
        self._adapter = adapter
        self._eye: Any = self._base
        if adapter.tiling is not None:
            self._eye = Closely(setup.name, self._base, adapter.tiling, setup.pixels)

    @classmethod
    def from_files(cls, setup: Setup) -> Adapted:
        """Raises:
        BadWeights: a file is not the one that was copied when the card was made.
        WrongState: the base, its revision or its preprocessing is another than the head was trained on.
        """
        folder = setup.files[TOML].parent
        try:
            digests: dict[str, str] = json.loads(setup.files[MANIFEST].read_text(encoding="utf-8"))["sha256"]
            changed = [name for name, wanted in digests.items() if sha256_of(folder / name) != wanted]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadWeights(f"{folder} is damaged ({error}); make the card again with `anmok card new`") from None
        if changed:
            raise BadWeights(f"{folder / changed[0]} is not what its card was made of; `anmok card new` makes another")
        adapter = Adapter.read(folder)
        adapter.check(adapter.base, setup.revision)  # a card without a revision of its own has that of its part
        if adapter.change is not None:
            whole = tuned(setup.parts[BASE], setup.name, adapter.change)
            setup = replace(setup, parts={**setup.parts, BASE: whole})
        return cls(setup, adapter)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Adapted:
        raise Unsupported(f"{setup.name}: a head of your own has no toy size; load it")

    @property
    def nbytes(self) -> int:
        head = self._adapter.head
        return int(self._base.nbytes) + (0 if head is None else head.nbytes)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._adapter.labels

    def prepare(self, image: NDArray[np.uint8]) -> View:
        view: View = self._eye.prepare(image)
        return view

    def encode(self, batch: NDArray[Any]) -> Mapping[str, NDArray[np.generic]]:
        maps: Mapping[str, NDArray[np.generic]] = self._eye.encode(batch)
        return maps

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]:
        """Raises:
        Unsupported: a label that the head does not have, and no text tower that could read it.
        """
        labels, own, head = ask.labels or (), self._adapter.labels, self._adapter.head
        if labels == own:
            ask = self._adapter.complete(ask)
        if head is not None and set(labels) <= set(own):
            places = [own.index(label) for label in labels]
            rows = head.logits(self._adapter.rows(states))[:, places]  # (B, K)
            if labels == own:
                return [self._adapter.scored(row, ask) for row in rows]
            return [score_row(row / self._adapter.temperature, ask, "softmax") for row in rows]
        if not isinstance(self._base, Classifies):
            unknown = ", ".join(label for label in labels if label not in own)
            raise Unsupported(f"{self._setup.name} was not trained on {unknown}; it knows {', '.join(own[:5])}")
        plain = (
            ask if ask.descriptions is not None else replace(ask, templates=ask.templates or self._adapter.templates)
        )
        answers: list[Scores] = self._base.classify(states, plain)
        return [self._adapter.settled(one, plain) for one in answers] if labels == own else answers

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        answers: list[Embedding] = self._base.embed(states, ask)
        return answers
