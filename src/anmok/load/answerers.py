"""What stands on a frozen model's features and answers for the user's classes: one class for each form.

All but ``Head`` hold a ``Head`` and change what goes into its last product or what comes out. They are written as
numbers in ``anmok.toml`` (``settings``) and arrays in a safetensors file (``tensors``), and read back by ``kind``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadWeights
from anmok.pairing import product, unit
from anmok.tiles import JOINS, Tiling

Array = NDArray[np.float32]


class Answerer(Protocol):
    """features (N, F) to logits (N, K), and what has to be kept for that."""

    kind: ClassVar[str]  # the name of the form in ``anmok.toml``

    @property
    def nbytes(self) -> int: ...

    def logits(self, features: Array) -> Array:
        """(N, F) to (N, K)."""
        ...

    def tensors(self) -> dict[str, Array]:
        """Named arrays, contiguous."""
        ...

    def settings(self) -> dict[str, bool | float]:
        """The numbers beside the arrays."""
        ...


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
    kind: ClassVar[str] = "linear"

    @property
    def width(self) -> int:
        """F."""
        return int(self.weight.shape[1] if self.projection is None else self.projection.shape[0])

    def logits(self, features: Array) -> Array:
        """(N, F) to (N, K)."""
        return self.answer(self.rows(features))

    def rows(self, features: Array) -> Array:
        """(N, F) to what the weight is multiplied with, (N, D or F)."""
        rows = features
        if self.mean is not None:
            rows = rows - self.mean
        if self.scale is not None:
            rows = rows / self.scale
        if self.projection is not None:
            rows = product(rows, self.projection)  # (N, D)
        if self.is_normalised:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows

    def answer(self, rows: Array) -> Array:
        """``rows`` (N, D or F) to logits (N, K)."""
        return np.asarray((product(rows, self.weight.T) + self.bias) / self.temperature, np.float32)  # (N, K)

    def tensors(self) -> dict[str, Array]:
        named = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        named["projection"] = self.projection
        return {name: np.ascontiguousarray(array) for name, array in named.items() if array is not None}

    def settings(self) -> dict[str, bool | float]:
        return {"is_normalised": self.is_normalised, "temperature": self.temperature}

    @property
    def nbytes(self) -> int:
        return _size(self)

    @classmethod
    def built(cls, tensors: Mapping[str, Array], settings: Mapping[str, Any]) -> Head:
        """Raises:
        BadWeights: the arrays do not fit each other.
        """
        head = cls(
            weight=tensors["weight"],
            bias=tensors["bias"],
            mean=tensors.get("mean"),
            scale=tensors.get("scale"),
            projection=tensors.get("projection"),
            is_normalised=bool(settings["is_normalised"]),
            temperature=float(settings["temperature"]),
        )
        width = head.weight.shape[1] if head.projection is None else head.projection.shape[1]
        _fit(head.weight, (len(head.bias), width), "weight")
        return head


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Tip-Adapter: labelled examples vote beside a head, the nearer the louder.

    logits = head + alpha exp(-beta (1 - rows keys')) values, where ``rows`` are unit rows of the picture: those of the
    head (N, D) where ``is_projected``, otherwise the features' own (N, F). ``keys`` (n, D or F) are the examples in
    the same space, ``values`` (n, K) their votes. Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP
    for Few-shot Classification" (ECCV 2022, arXiv:2207.09519), which compares projected rows.
    """

    head: Head
    keys: Array
    values: Array
    alpha: float
    beta: float
    is_projected: bool = True
    kind: ClassVar[str] = "cache"

    def logits(self, features: Array) -> Array:
        """(N, F) to (N, K)."""
        rows = unit(self.head.rows(features) if self.is_projected else features)  # (N, D or F)
        nearness = np.exp(self.beta * (product(rows, self.keys.T) - 1.0))  # (N, n)
        return np.asarray(self.head.logits(features) + self.alpha * product(nearness, self.values), np.float32)

    def tensors(self) -> dict[str, Array]:
        own = {"keys": np.ascontiguousarray(self.keys), "values": np.ascontiguousarray(self.values)}
        return self.head.tensors() | own

    def settings(self) -> dict[str, bool | float]:
        own = {"alpha": self.alpha, "beta": self.beta, "is_projected": self.is_projected}
        return self.head.settings() | own

    @property
    def nbytes(self) -> int:
        return _size(self)

    @classmethod
    def built(cls, tensors: Mapping[str, Array], settings: Mapping[str, Any]) -> Cache:
        head = Head.built(tensors, settings)
        keys, values = tensors["keys"], tensors["values"]
        is_projected = bool(settings["is_projected"])
        _fit(keys, (len(values), head.weight.shape[1] if is_projected else head.width), "keys")
        _fit(values, (len(keys), len(head.weight)), "values")
        return cls(head, keys, values, float(settings["alpha"]), float(settings["beta"]), is_projected)


@dataclass(frozen=True, slots=True, eq=False)
class Bottleneck:
    """CLIP-Adapter: a small net moves the unit rows (N, D) before the head answers.

    rows' = unit(share * relu(relu(rows down) up) + (1 - share) * rows), with ``down`` (D, h) and ``up`` (h, D).
    Source: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters" (IJCV 2024,
    arXiv:2110.04544).
    """

    head: Head
    down: Array
    up: Array
    share: float
    kind: ClassVar[str] = "bottleneck"

    def logits(self, features: Array) -> Array:
        """(N, F) to (N, K)."""
        rows = self.head.rows(features)  # (N, D)
        hidden = np.maximum(product(rows, self.down), 0.0)  # (N, h)
        moved = np.maximum(product(hidden, self.up), 0.0)  # (N, D)
        mixed = np.asarray(self.share * moved + (1.0 - self.share) * rows, np.float32)  # (N, D)
        return self.head.answer(unit(mixed))

    def tensors(self) -> dict[str, Array]:
        return self.head.tensors() | {"down": np.ascontiguousarray(self.down), "up": np.ascontiguousarray(self.up)}

    def settings(self) -> dict[str, bool | float]:
        return self.head.settings() | {"share": self.share}

    @property
    def nbytes(self) -> int:
        return _size(self)

    @classmethod
    def built(cls, tensors: Mapping[str, Array], settings: Mapping[str, Any]) -> Bottleneck:
        head = Head.built(tensors, settings)
        down, up = tensors["down"], tensors["up"]
        _fit(down, (head.weight.shape[1], len(up)), "down")
        _fit(up, (down.shape[1], head.weight.shape[1]), "up")
        return cls(head, down, up, float(settings["share"]))


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A learned prompt: the head holds what the text tower made of it, so the tower is not needed to answer.

    ``context`` (M, W) are the token embeddings that stand before each name; with them a class can be added later.
    """

    head: Head
    context: Array
    kind: ClassVar[str] = "prompt"

    def logits(self, features: Array) -> Array:
        """(N, F) to (N, K)."""
        return self.head.logits(features)

    def tensors(self) -> dict[str, Array]:
        return self.head.tensors() | {"context": np.ascontiguousarray(self.context)}

    def settings(self) -> dict[str, bool | float]:
        return self.head.settings()

    @property
    def nbytes(self) -> int:
        return _size(self)

    @classmethod
    def built(cls, tensors: Mapping[str, Array], settings: Mapping[str, Any]) -> Prompt:
        context = tensors["context"]
        _fit(context, (len(context), context.size // max(len(context), 1)), "context")
        return cls(Head.built(tensors, settings), context)


@dataclass(frozen=True, slots=True, eq=False)
class Tiled:
    """For photos that are looked at in tiles as well: a linear head on ``tiles.joined`` features (N, 3 F)."""

    head: Head
    tiling: Tiling
    kind: ClassVar[str] = "tiles"

    def logits(self, features: Array) -> Array:
        """(N, 3 F) to (N, K)."""
        return self.head.logits(features)

    def tensors(self) -> dict[str, Array]:
        return self.head.tensors()

    def settings(self) -> dict[str, bool | float]:
        return self.head.settings() | {"size": self.tiling.size, "overlap": self.tiling.overlap}

    @property
    def nbytes(self) -> int:
        return _size(self)

    @classmethod
    def built(cls, tensors: Mapping[str, Array], settings: Mapping[str, Any]) -> Tiled:
        head = Head.built(tensors, settings)
        _fit(head.weight, (len(head.bias), head.width // JOINS * JOINS), "weight")
        return cls(head, Tiling(int(settings["size"]), int(settings["overlap"])))


_BUILDERS: Final[Mapping[str, Callable[[Mapping[str, Array], Mapping[str, Any]], Answerer]]] = MappingProxyType(
    {one.kind: one.built for one in (Head, Cache, Bottleneck, Prompt, Tiled)}
)


def built(tensors: Mapping[str, Array], settings: Mapping[str, Any]) -> Answerer:
    """From what ``tensors()`` and ``settings()`` gave, with ``kind`` among the settings; a linear head without it.

    Raises:
        BadWeights: the arrays do not fit each other, or a kind that this version does not know.
        KeyError: an array or a number is missing.
    """
    kind = settings.get("kind", Head.kind)
    if kind not in _BUILDERS:
        raise BadWeights(f"a head of kind {kind!r}, but this version reads {', '.join(_BUILDERS)}; upgrade anmok")
    return _BUILDERS[kind](tensors, settings)


def _size(answerer: Answerer) -> int:
    return sum(array.nbytes for array in answerer.tensors().values())


def _fit(array: Array, shape: tuple[int, ...], name: str) -> None:
    if array.shape != shape:
        raise BadWeights(f"{name} {array.shape} does not fit: want {shape}")
