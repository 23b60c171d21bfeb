"""The vectors of a lean language model's words: as a net has them, or as GGUF packs them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional

from anmok.nets.lean_weights import GROUP


class Table(Protocol):
    """The vectors of the words."""

    def __call__(self, ids: Tensor) -> Tensor:
        """int64 (T,) to float32 (T, W)."""
        ...

    @property
    def nbytes(self) -> int: ...


class Plain:
    """As the net has it (V, W), shared with the net."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach()

    def __call__(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self._weight).float()  # (T, W)

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes


class Blocks:
    """GGUF's Q8_0: int8 (V, W) and a float32 scale for every 32 of a row (V, W / 32)."""

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self._codes, self._scale = codes, scale

    def __call__(self, ids: Tensor) -> Tensor:
        groups = self._codes[ids].view(len(ids), -1, GROUP) * self._scale[ids][..., None]  # (T, W / 32, 32)
        return groups.flatten(1)  # (T, W)

    @property
    def nbytes(self) -> int:
        return self._codes.nbytes + self._scale.nbytes
