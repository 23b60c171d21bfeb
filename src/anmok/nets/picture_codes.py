"""A picture as codes of a book that a language model has words for: TA-Tok, 27 x 27 codes out of 65,536.

Source: J. Han et al., "Vision as a Dialect: Unifying Visual Understanding and Generation via Text-Aligned
Representations" (2025, arXiv:2506.18898; github.com/csuhan/Tar), as NAVER's OmniServe runs it
(``encoder/vision/track_b``). The tower is SigLIP 2, read before its last layer; the book is SimVQ's, a table behind one
layer. Only what makes codes is here: not the half that turns codes into features again.

The published book draws a code by chance where it was trained to; here the likeliest is taken, so that the same picture
has the same codes. Whether it compares directions alone (``l2_normalized``) is written into a file that could not be
seen; drawing by chance wants it so, and so it is taken to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from anmok.nets.cut_tower import Tower, TowerConfig, cut_config, cut_state, patches, tower_class
from anmok.nets.pretrained import filled
from anmok.nets.tower_shapes import SO400M

CODES: Final = 65_536
WIDTH: Final = 1536  # of a code
LAYER: Final = -2  # of the tower
_TOWER: Final = "encoder."
_LEFT_OUT: Final = ("decoder.", "decode_task_layer.", "bottleneck.out_linear.", "scale_layer.")


class Book(nn.Module):
    """The codes: a table, of which each row goes through one layer. ``is_round`` compares directions alone."""

    def __init__(self, codes: int, width: int, *, is_round: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        self.embedding_proj = nn.Linear(width, width)
        self.is_round = is_round
        self._lengths: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the nearest codes int64 (B, N).

        The layer is moved to the other side of the product, so that no second table is made: of its rows only the
        lengths are wanted, once."""
        table, layer = self.embedding.weight, self.embedding_proj
        likeness = (x @ layer.weight) @ table.T + (x @ layer.bias)[..., None]  # (B, N, V)
        lengths = self._measured()  # (V,)
        if self.is_round:
            return (likeness / lengths).argmax(-1)  # (B, N)
        return (lengths.square() - 2 * likeness).argmin(-1)  # (B, N)

    def _measured(self) -> Tensor:
        table = self.embedding.weight
        if self._lengths is None or self._lengths.device != table.device or self._lengths.dtype != table.dtype:
            parts = [self.embedding_proj(part).norm(dim=1) for part in torch.split(table, 4096)]
            self._lengths = torch.cat(parts)  # (V,)
        return self._lengths


class Bottleneck(nn.Module):
    """From the tower's width to that of a code, and the code."""

    def __init__(self, inputs: int, width: int, book: Book) -> None:
        super().__init__()
        self.in_linear = nn.Linear(inputs, width)
        self.regularizer = book

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, inputs) to codes int64 (B, N)."""
        found: Tensor = self.regularizer(self.in_linear(x))
        return found


class PictureCodes(nn.Module):
    """The half of TA-Tok that makes codes, under the names of the published checkpoint."""

    stays_exact: Final = True  # rows that are near may have another code

    def __init__(self, tower: Tower, told: Mapping[str, Any]) -> None:
        super().__init__()
        sizes: Any = tower.config
        inputs, width = int(sizes.hidden_size), int(told.get("width", WIDTH))
        book = Book(int(told.get("codes", CODES)), width, is_round=bool(told.get("l2_normalized", True)))
        self.encoder = tower
        self.encode_task_layer = nn.Sequential(nn.Linear(inputs, inputs), nn.Tanh())
        self.bottleneck = Bottleneck(inputs, width, book)
        self.side = int(sizes.image_size)
        self.count = (self.side // int(sizes.patch_size)) ** 2

    @classmethod
    def made(cls, told: Mapping[str, Any]) -> PictureCodes:
        """Filled at random. ``told`` is what a configuration says of its sizes; without, as published."""
        config = _tower_config(told, "random")
        kind: Any = tower_class(config)
        return cls(kind(config), told)

    @classmethod
    def empty(
        cls, told: Mapping[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype, name: str
    ) -> tuple[PictureCodes, dict[str, Tensor]]:
        """With its tower filled and all else on no device, and the tensors to fill it with, by its own names.

        Args:
            told: what a configuration says of its sizes.
            state: of the whole of TA-Tok, as published.
            dtype: of the weights.
            name: of the card, for messages.

        Raises:
            BadWeights: a tensor of the tower is missing, left over, or of another shape.
        """
        config = _tower_config(told, name)
        seeing = {key.removeprefix(_TOWER): one for key, one in state.items() if key.startswith(_TOWER)}
        tower = filled(tower_class(config), config, cut_state(seeing, config), dtype, name)
        with torch.device("meta"):
            net = cls(tower, told)
        rest = {key: one for key, one in state.items() if not key.startswith((_TOWER, *_LEFT_OUT))}
        return net, rest | {f"{_TOWER}{key}": one for key, one in tower.state_dict().items()}

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) between -1 and 1 to codes int64 (B, count), row by row."""
        seen = self.encode_task_layer(patches(self.encoder, pixels))  # (B, N, C)
        codes: Tensor = self.bottleneck(seen)
        return codes


def _tower_config(told: Mapping[str, Any], name: str) -> TowerConfig:
    return cut_config(told.get("tower", SO400M), LAYER, name)
