"""All pairs of n images and m texts: which belong together, and what is added up over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Chunk = int | Literal["auto"]


@dataclass(frozen=True, slots=True, eq=False)
class Positives:
    """Which texts belong to which images.

    With ``groups``, integers (n,) of the images and (m,) of the texts, those of one number do. Without them text
    ``first + i`` is image i's; ``first=None`` says that there are no positives among these at all.
    """

    first: int | None = 0
    groups: tuple[Tensor, Tensor] | None = None

    def within(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        """bool (rows, columns), or None where no pair can be positive."""
        if self.groups is not None:
            images, texts = self.groups
            return images[rows, None] == texts[None, columns]  # (rows, columns)
        if self.first is None:
            return None
        low, high = rows.start + self.first, rows.stop + self.first  # their texts
        if high <= columns.start or low >= columns.stop:
            return None
        wanted = torch.arange(low, high, device=device)
        return wanted[:, None] == torch.arange(columns.start, columns.stop, device=device)  # (rows, columns)

    def numbers(self, count: int, other: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The same as integers (count,) of the images and (other,) of the texts: equal ones belong together."""
        if self.groups is not None:
            images, texts = self.groups
            return images.long().contiguous(), texts.long().contiguous()
        texts = torch.arange(other, device=device, dtype=torch.int32)
        if self.first is None:
            return torch.full((count,), -1, device=device, dtype=torch.int32), texts
        return torch.arange(self.first, self.first + count, device=device, dtype=torch.int32), texts


@dataclass(slots=True, eq=False)
class Sums:
    """What the sigmoid loss adds up over pairs; the gradients are those of the sum by logits, not yet scaled."""

    loss: Tensor  # ()
    bias: Tensor  # ()
    images: Tensor | None  # (n, d)
    texts: Tensor | None  # (m, d)
    scale: Tensor | None = None  # (), where it was added up over pairs

    @classmethod
    def zero(cls, images: Tensor, texts: Tensor, *, has_gradients: bool) -> Sums:
        seen, read = (torch.zeros_like(one) if has_gradients else None for one in (images, texts))
        return cls(images.new_zeros(()), images.new_zeros(()), seen, read)

    @property
    def totals(self) -> tuple[Tensor, Tensor] | None:
        """Where the gradients by images (n, d) and texts (m, d) are added up; None where nobody asked for them."""
        return None if self.images is None or self.texts is None else (self.images, self.texts)

    def by_scale(self, images: Tensor) -> Tensor:
        """The gradient by the scale, (): the images (n, d) with their own gradient, which costs N d, not N^2."""
        if self.scale is not None:
            return self.scale.to(images.dtype)
        assert self.images is not None
        return (images * self.images).sum()


@dataclass(frozen=True, slots=True)
class Settings:
    """The side of a square, what kernels multiply (None: plain torch), and whether gradients will be asked for."""

    chunk: int
    product: torch.dtype | None = None
    has_gradients: bool = True
