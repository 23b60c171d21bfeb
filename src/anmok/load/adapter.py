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

from anmok.errors import BadData, BadWeights, WrongState
from anmok.files import write_beside
from anmok.pairing import product, score_row
from anmok.results import Scores
from anmok.tasks import Classify

FORMAT = 1
MANIFEST, TENSORS = "anmok.toml", "head.safetensors"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """features (N, F) to logits (N, K), in this order, each step only where it is given:

    subtract ``mean`` (F,), divide by ``scale`` (F,), multiply by ``projection`` (F, D), bring to unit length,
    multiply by ``weight`` (K, D or F) transposed, add ``bias`` (K,), divide by ``temperature``.
    """

    weight: Array
    bias: Array
    mean: Array | None = None
    scale: Array | None = None
    projection: Array | None = None
    is_normalised: bool = False
    temperature: float = 1.0

    def logits(self, features: Array) -> Array:
        """(N, F) to (N, K)."""
        rows = features
        if self.mean is not None:
            rows = rows - self.mean
        if self.scale is not None:
            rows = rows / self.scale
        if self.projection is not None:
            rows = product(rows, self.projection)  # (N, D)
        if self.is_normalised:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return np.asarray((product(rows, self.weight.T) + self.bias) / self.temperature, np.float32)  # (N, K)

    def tensors(self) -> dict[str, Array]:
        named = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        named["projection"] = self.projection
        return {name: np.ascontiguousarray(array) for name, array in named.items() if array is not None}

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.tensors().values())


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
    head: Head | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, str] = field(default_factory=dict)

    def check(self, base: str, maker: str) -> None:
        """Refuses a base other than the one it was trained on."""
        if (base, maker) != (self.base, self.maker):
            raise WrongState(f"this adapter was trained on {self.maker}, not on {maker}; run `anmok ladder` again")

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

    def classify(self, features: Array, ask: Classify) -> list[Scores]:
        """(N, F) to one result per row."""
        assert self.head is not None
        return [score_row(row, ask, "softmax") for row in self.head.logits(features)]

    def write(self, folder: Path) -> None:
        """The folder as a whole or not at all."""
        with write_beside(folder, is_folder=True) as beside:
            (beside / MANIFEST).write_text(_to_toml(self), encoding="utf-8")
            if self.head is not None:
                from safetensors.numpy import save_file

                save_file(self.head.tensors(), beside / TENSORS)

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
    )


def _read_head(path: Path, settings: dict[str, Any]) -> Head:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        head = Head(
            weight=tensors.pop("weight"),
            bias=tensors.pop("bias"),
            mean=tensors.pop("mean", None),
            scale=tensors.pop("scale", None),
            projection=tensors.pop("projection", None),
            is_normalised=bool(settings["is_normalised"]),
            temperature=float(settings["temperature"]),
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise BadWeights(f"{path}: the head cannot be read ({error})") from None
    width = head.weight.shape[1] if head.projection is None else head.projection.shape[1]
    if head.weight.shape != (len(head.bias), width):
        raise BadWeights(f"{path}: weight {head.weight.shape} and bias {head.bias.shape} do not fit")
    return head


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
    if adapter.templates is not None:
        plain["templates"] = list(adapter.templates)
    if adapter.descriptions is not None:
        plain["descriptions"] = [list(group) for group in adapter.descriptions]
    lines += [f"{key} = {_value(value)}" for key, value in plain.items()]
    tables: dict[str, Mapping[str, Any]] = {"licences": adapter.licences, "ledger": adapter.ledger}
    if adapter.head is not None:
        tables["head"] = {
            "is_normalised": adapter.head.is_normalised,
            "temperature": adapter.head.temperature,
        }
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{_value(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
