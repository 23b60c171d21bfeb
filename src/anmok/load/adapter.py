"""Small trained weights over a frozen model: a folder with ``anmok.toml`` and, where something was learned, a
safetensors file. A zero-shot winner is one too: labels and templates, no tensors."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.catalogue import Card
from anmok.errors import BadData, BadWeights, WrongState
from anmok.files import write_beside
from anmok.inputs import Encoded
from anmok.load.answerers import Answerer, Tiled, built
from anmok.load.closely import TILES
from anmok.load.decision import Decision, logits_of
from anmok.pairing import score_row
from anmok.results import Scores
from anmok.tasks import Classify
from anmok.tiles import Tiling

FORMAT = 1
MANIFEST, TENSORS, CHANGE = "anmok.toml", "head.safetensors", "tower.safetensors"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What was learned, for which model exactly, under which licence, and where its numbers come from."""

    base: str
    maker: str  # card, revision, preprocessing and dtype of the features
    labels: tuple[str, ...]
    rung: str
    templates: tuple[str, ...] | None = None
    descriptions: tuple[tuple[str, ...], ...] | None = None
    threshold: float = 0.0
    head: Answerer | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, str] = field(default_factory=dict)
    change: Mapping[str, Array] | None = None  # to the picture tower, as ``nets.change.Change.tensors``
    temperature: float = 1.0  # by which the logits are divided, so that a score means what it says
    decision: Decision | None = None  # where the likeliest label is not the one to answer

    @property
    def is_plain(self) -> bool:
        """The scores of the head, or of the text tower, are answered as they are."""
        return self.temperature == 1.0 and self.decision is None

    def check(self, base: str, maker: str) -> None:
        """Refuses a base other than the one it was trained on."""
        if (base, maker) != (self.base, self.maker):
            raise WrongState(f"this adapter was trained on {self.maker}, not on {maker}; run `anmok ladder` again")

    def card_on(self, base: Card) -> Card:
        """The card of its base, which with a head classifies even where it only embeds."""
        if self.head is None or "classify" in base.tasks:
            return base
        return replace(base, tasks=(*base.tasks, "classify"))

    def complete(self, ask: Classify) -> Classify:
        """The ask with the adapter's own labels, prompts and threshold filled in."""
        return replace(
            ask,
            labels=self.labels,
            templates=ask.templates or (None if self.descriptions else self.templates),
            descriptions=self.descriptions,
            threshold=ask.threshold or self.threshold,
        )

    def owns(self, ask: Classify) -> bool:
        """Whether a trained head answers; otherwise the text tower does."""
        return self.head is not None and ask.labels == self.labels

    @property
    def tiling(self) -> Tiling | None:
        """How photos are to be looked at beside the whole, where the head was learned so."""
        return self.head.tiling if isinstance(self.head, Tiled) else None

    def rows(self, states: Sequence[Encoded]) -> Array:
        """What the head reads of these states, (N, F)."""
        name = "features" if self.tiling is None else TILES
        return np.stack([np.asarray(state.maps[name], np.float32) for state in states])  # (N, F)

    def classify(self, features: Array, ask: Classify) -> list[Scores]:
        """(N, F) to one result per row."""
        assert self.head is not None
        return [self.scored(row, ask) for row in self.head.logits(features)]

    def scored(self, logits: NDArray[np.floating], ask: Classify, read_as: Sequence[str] = ()) -> Scores:
        """(K,) for all of its own labels to a result, at its temperature and by its decision."""
        row = logits.astype(np.float64) / self.temperature  # (K,)
        scores = score_row(row, ask, "softmax", read_as)
        if self.decision is None:
            return scores
        return replace(scores, decided=self.labels[int(self.decision.answers(row[None])[0])])

    def settled(self, scores: Scores, ask: Classify) -> Scores:
        """What a text tower said of its own labels, at its temperature and by its decision."""
        return scores if self.is_plain else self.scored(logits_of(scores), ask, scores.read_as)

    def write(self, folder: Path) -> None:
        """The folder as a whole or not at all."""
        with write_beside(folder, is_folder=True) as beside:
            (beside / MANIFEST).write_text(_to_toml(self), encoding="utf-8")
            if self.head is not None:
                from safetensors.numpy import save_file

                save_file(self.head.tensors(), beside / TENSORS)
            if self.change is not None:
                from safetensors.numpy import save_file

                save_file(dict(self.change), beside / CHANGE)

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """From its folder.

        Raises:
            BadData: no such folder, or it is not an adapter.
            BadWeights: its tensors do not fit each other.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise BadData(f"{folder}: no {MANIFEST} in it; `anmok ladder` writes such a folder as report/best")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise BadData(f"{path}: format {content['format']}, but this version reads format {FORMAT}")
            return _from_content(content, folder)
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # ValueError: no UTF-8, no TOML, no number
            raise BadData(f"{path}: not an anmok adapter ({error}); let `anmok ladder` write it again") from None


def _from_content(content: dict[str, Any], folder: Path) -> Adapter:
    descriptions = content.get("descriptions")
    return Adapter(
        base=content["base"],
        maker=content["maker"],
        labels=tuple(content["labels"]),
        rung=content["rung"],
        templates=_maybe_tuple(content.get("templates")),
        descriptions=tuple(tuple(group) for group in descriptions) if descriptions else None,
        threshold=float(content.get("threshold", 0.0)),
        head=_read_head(folder / TENSORS, content["head"]) if "head" in content else None,
        licences=content.get("licences", {}),
        ledger=content.get("ledger", {}),
        change=_read_change(folder / CHANGE) if content.get("is_tuned") else None,
        temperature=_positive(content.get("temperature", 1.0)),
        decision=Decision.built(content["decision"], content["labels"]) if "decision" in content else None,
    )


def _read_head(path: Path, settings: dict[str, Any]) -> Answerer:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return built(load_file(path), settings)
    except (OSError, SafetensorError, KeyError, BadWeights) as error:
        raise BadWeights(f"{path}: the head cannot be read ({error})") from None


def _read_change(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadWeights(f"{path}: the tuned weights cannot be read ({error})") from None


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"a temperature of {temperature}")
    return float(temperature)


def _maybe_tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _to_toml(adapter: Adapter) -> str:
    """JSON strings, numbers and arrays of them are valid TOML as they stand."""
    lines = [f"format = {FORMAT}"]
    plain: dict[str, Any] = {
        "base": adapter.base,
        "maker": adapter.maker,
        "rung": adapter.rung,
        "labels": list(adapter.labels),
    }
    plain["threshold"] = adapter.threshold
    plain["temperature"] = adapter.temperature
    if adapter.change is not None:
        plain["is_tuned"] = True
    if adapter.templates is not None:
        plain["templates"] = list(adapter.templates)
    if adapter.descriptions is not None:
        plain["descriptions"] = [list(group) for group in adapter.descriptions]
    lines += [f"{key} = {_value(value)}" for key, value in plain.items()]
    tables: dict[str, Mapping[str, Any]] = {"licences": adapter.licences, "ledger": adapter.ledger}
    if adapter.head is not None:
        tables["head"] = {"kind": adapter.head.kind, **adapter.head.settings()}
    if adapter.decision is not None:
        tables["decision"] = adapter.decision.settings(adapter.labels)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{_value(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
