"""Rotations that spread a number which stands out over many, so that eight bits with one step for all hold them well.

A rotation in front of a matrix is undone in the matrix: ``rows @ W.T`` is ``turned(rows) @ turned(W).T``, but for
rounding. Lengths stay as they are: a row of mean square 1 has it afterwards too, and its numbers lie about as those of
a normal distribution do, whatever they were.

Sources: S. Ashkboos et al., "QuaRot" (NeurIPS 2024, arXiv:2404.00456), for the use; N. Halko et al. (SIAM Review 53,
2011), for signs in front of a fixed rotation.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_FACTOR: Final = 64  # numbers that are mixed in one step
_BLOCK: Final = 128  # the same, of rows that are turned each time
_AT_ONCE: Final = 512  # rows, of which what lies between two steps stays in the cache
_SEED: Final = 0


class Rotation:
    """Of rows (..., W): signs, then Hadamard's matrices of 64 and what is left, one along each axis of W cut up so."""

    def __init__(self, width: int) -> None:
        twos, rest = 0, width
        while rest % _FACTOR == 0:
            twos, rest = twos + 1, rest // _FACTOR
        self._factors = [hadamard(_FACTOR)] * twos + ([mixed(rest)] if rest > 1 else [])
        self._signs = signs(width)

    def of(self, rows: Tensor) -> Tensor:
        """float32 (..., W) to the same."""
        return self._along(rows, self._signs, [one.contiguous() for one in self._factors])

    def back(self, rows: Tensor) -> Tensor:
        """What undoes it."""
        return self._along(rows, None, [one.T.contiguous() for one in self._factors]) * self._signs

    def _along(self, rows: Tensor, before: Tensor | None, factors: list[Tensor]) -> Tensor:
        made = []
        for part in torch.split(rows.reshape(-1, rows.shape[-1]), _AT_ONCE):  # (n, W)
            part = part if before is None else part * before
            for factor in reversed(factors):  # the last axis is mixed and becomes the first, until all have been last
                size, count = len(factor), rows.shape[-1] // len(factor)
                part = (part.reshape(-1, size) @ factor).view(-1, count, size)  # (n, W / f, f)
                part = part.transpose(1, 2).flatten(1)  # (n, W)
            made.append(part)
        return torch.cat(made).view(rows.shape)


class Spread:
    """Of rows (..., W): signs, then Hadamard's matrix along the row, one block of up to 128 after the other. Less even
    than ``Rotation``, and cheaper where rows have to be turned each time."""

    def __init__(self, width: int) -> None:
        self.signs = signs(width)
        self.block = hadamard(min(width & -width, _BLOCK))

    @classmethod
    def fits(cls, width: int) -> bool:
        """Whether one number that makes up a whole row of mean square 1 becomes several of 3.5 at most."""
        return width <= 3.5**2 * min(width & -width, _BLOCK)

    def of(self, rows: Tensor) -> Tensor:
        """float32 (..., W) to the same."""
        blocks = (rows * self.signs).reshape(-1, len(self.block))  # (T * W / block, block)
        made: Tensor = (blocks @ self.block).view(rows.shape)
        return made


def hadamard(size: int) -> Tensor:
    """float32 (size, size), symmetric, of plus and minus one over the root of ``size``, a power of two: Sylvester's."""
    made = torch.full((1, 1), size**-0.5)
    while len(made) < size:
        made = torch.cat((torch.cat((made, made), 1), torch.cat((made, -made), 1)))
    return made


def mixed(size: int) -> Tensor:
    """Orthogonal float32 (size, size) for any size: Hadamard's as far as it is even, the cosine transform (DCT-II) of
    what is odd in it."""
    even = size & -size
    odd = size // even
    place = torch.arange(odd, dtype=torch.float64)
    cosines = torch.cos(torch.pi * (place[:, None] + 0.5) * place / odd) * (2 / odd) ** 0.5
    cosines[:, 0] = odd**-0.5
    made: Tensor = torch.kron(hadamard(even), cosines.float())
    return made.contiguous()


def signs(width: int) -> Tensor:
    """float32 (W,) of plus and minus one, the same each time."""
    draw = torch.Generator().manual_seed(_SEED)
    return torch.randint(0, 2, (width,), generator=draw) * 2.0 - 1.0
