"""Moondream 2: a SigLIP-like eye, a Phi-like tongue, and heads that read places off the tongue's hidden states.

Source: vikhyat/moondream (Apache-2.0) at 44146f1, moondream/torch; the revision 2025-06-21 of vikhyatk/moondream2 holds
the same code. Modules carry the names of its checkpoints. Inference only.

Attention and feed-forward of a layer of the tongue stand side by side on one norm. Half of each head turns with the
place; which halves of it pair up does not matter as long as queries and keys agree, so they are kept apart here, not
interleaved. The beginning of a text and the rows of its picture see one another, whatever comes later sees what came
before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.nets import moondream_tiles
from anmok.nets.moondream_tiles import Cutting

_THETA = 10_000.0  # of the places' angles
_TILES = 8  # in one pass of the eye; more gain nothing and fill memory


@dataclass(frozen=True, slots=True)
class Sight:
    """The eye; ``inner`` is the width inside its projection."""

    width: int = 1152
    depth: int = 27
    heads: int = 16
    hidden: int = 4304
    inner: int = 8192
    cutting: Cutting = field(default_factory=Cutting)


@dataclass(frozen=True, slots=True)
class Speech:
    """The tongue; ``context`` is the number of tokens that it reads."""

    width: int = 2048
    depth: int = 24
    heads: int = 32
    hidden: int = 8192
    vocabulary: int = 51_200
    context: int = 2048


@dataclass(frozen=True, slots=True)
class Places:
    """The heads: waves of a coordinate and of a size (features, sines and cosines together), the bins that they are
    read in (those of a size: of width and height together), and the width inside."""

    coordinate: int = 256
    bins: int = 1024
    size: int = 512
    sizes: int = 2048
    inner: int = 8192


@dataclass(frozen=True, slots=True)
class Config:
    sight: Sight = field(default_factory=Sight)
    speech: Speech = field(default_factory=Speech)
    places: Places = field(default_factory=Places)


PUBLISHED: Mapping[str, Config] = {
    "2b": Config(),
    # moondream/config/config_md05.json; its weights are published as graphs alone (nets/moondream_bundle.py).
    "0.5b": Config(
        Sight(width=720, heads=10, hidden=2690),
        Speech(width=1024, heads=16, hidden=4096),
    ),
}
TINY = Config(
    Sight(width=32, depth=2, heads=2, hidden=48, inner=64, cutting=Cutting(crop=84, margin=1)),
    Speech(width=64, depth=2, heads=2, hidden=96, vocabulary=320, context=512),
    Places(coordinate=16, bins=64, size=16, sizes=128, inner=48),
)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))  # (..., outputs)
        return y


class Projections(nn.Module):
    """Queries, keys and values in one, and the way out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) to three of (B, heads, T, D / heads)."""
        packed = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, heads, D/heads)
        q, k, v = packed.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D/heads)
        return q, k, v

    def out(self, x: Tensor) -> Tensor:
        """(B, heads, T, D / heads) to (B, T, D)."""
        y: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return y


class SightLayer(nn.Module):
    def __init__(self, config: Sight) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.width)
        self.attn = Projections(config.width, config.heads)
        self.ln2 = nn.LayerNorm(config.width)
        self.mlp = FeedForward(config.width, config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn.split(self.ln1(x))
        x = x + self.attn.out(functional.scaled_dot_product_attention(q, k, v))  # (B, T, D)
        y: Tensor = x + self.mlp(self.ln2(x))  # (B, T, D)
        return y


class Eye(nn.Module):
    """Canvases (B, 3, h, w) of ``moondream_tiles.canvas``, normalised, to rows (B, grid * grid, D of the tongue)."""

    def __init__(self, config: Sight, outputs: int) -> None:
        super().__init__()
        self.config = config
        cutting = config.cutting
        self.patch_emb = nn.Linear(3 * cutting.patch**2, config.width)
        self.pos_emb = nn.Parameter(torch.zeros(1, cutting.grid**2, config.width))
        self.blocks = nn.ModuleList(SightLayer(config) for _ in range(config.depth))
        self.post_ln = nn.LayerNorm(config.width)
        self.proj_mlp = FeedForward(2 * config.width, config.inner, outputs)

    @property
    def layers(self) -> list[SightLayer]:
        return cast("list[SightLayer]", list(self.blocks))

    def forward(self, canvases: Tensor) -> Tensor:
        cutting = self.config.cutting
        whole, tiles = moondream_tiles.tiles(canvases, cutting)
        above = self.seen(whole)  # (B, N, D)
        rows, columns = tiles.shape[1:3]
        if rows * columns == 1:  # the tile is the whole, and its share of the mean is itself
            below = above
        else:
            below = self.seen(tiles.flatten(0, 2))  # (B * rows * columns, N, D)
            grid = cutting.grid
            maps = below.reshape(-1, rows, columns, grid, grid, below.shape[-1])  # (B, rows, columns, g, g, D)
            below = moondream_tiles.pooled(moondream_tiles.joined(maps, cutting.margin), grid)  # (B, N, D)
        y: Tensor = self.proj_mlp(torch.cat([above, below], -1))  # (B, N, D of the tongue)
        return y

    def seen(self, crops: Tensor) -> Tensor:
        """(B, 3, crop, crop) to features (B, grid * grid, D)."""
        return torch.cat([self._seen(part) for part in torch.split(crops, _TILES)])

    def _seen(self, crops: Tensor) -> Tensor:
        patch = self.config.cutting.patch
        cut = crops.unfold(2, patch, patch).unfold(3, patch, patch)  # (B, 3, g, g, patch, patch)
        x = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, g * g, 3 * patch * patch)
        x = self.patch_emb(x) + self.pos_emb  # (B, g * g, D)
        for layer in self.layers:
            x = layer(x)
        y: Tensor = self.post_ln(x)  # (B, g * g, D)
        return y


class Memory:
    """What the tongue has read: keys and values of every layer, and how many tokens. Grows by itself."""

    def __init__(self, store: Tensor, length: int) -> None:
        self._store = store  # (layers, 2, heads, room, D/heads)
        self.length = length

    @property
    def used(self) -> Tensor:
        """(layers, 2, heads, length, D/heads)."""
        return self._store[:, :, :, : self.length]

    def copy(self, room: int) -> Memory:
        """The same with room for so many tokens more; this one stays as it is."""
        layers, two, heads, _, depth = self._store.shape
        store = self._store.new_empty((layers, two, heads, self.length + room, depth))
        store[:, :, :, : self.length] = self.used
        return Memory(store, self.length)

    def reserve(self, tokens: int) -> None:
        """So that this many can be written behind what is there."""
        if self.length + tokens > self._store.shape[3]:
            self._store = self.copy(max(tokens, self._store.shape[3] // 2))._store

    def written(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Those of new tokens (1, heads, T, D/heads) behind the old ones; all of them (1, heads, length + T, D/heads).
        ``length`` moves once all layers have written."""
        stop = self.length + keys.shape[2]
        self._store[layer, 0, :, self.length : stop] = keys[0]
        self._store[layer, 1, :, self.length : stop] = values[0]
        return self._store[layer, :1, :, :stop], self._store[layer, 1:, :, :stop]


class SpeechLayer(nn.Module):
    def __init__(self, config: Speech) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(config.width)
        self.attn = Projections(config.width, config.heads)
        self.mlp = FeedForward(config.width, config.hidden, config.width)


class Tongue(nn.Module):
    """Rows (T, D) behind what a memory holds, to hidden states (T, D)."""

    def __init__(self, config: Speech) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Parameter(torch.empty(config.vocabulary, config.width).normal_(0, 0.02))
        self.blocks = nn.ModuleList(SpeechLayer(config) for _ in range(config.depth))
        self.post_ln = nn.LayerNorm(config.width)
        self.lm_head = nn.Linear(config.width, config.vocabulary)

    @property
    def layers(self) -> list[SpeechLayer]:
        return cast("list[SpeechLayer]", list(self.blocks))

    def blank(self) -> Memory:
        """Nothing read yet."""
        config = self.config
        shape = (config.depth, 2, config.heads, 0, config.width // config.heads)
        return Memory(self.wte.new_empty(shape), 0)

    def forward(self, x: Tensor, memory: Memory, is_open: bool) -> Tensor:
        """``is_open``: the rows see one another, not only what came before."""
        count = len(x)
        memory.reserve(count)
        places = torch.arange(memory.length, memory.length + count, device=x.device)  # (T,)
        mask = None
        if not is_open and count > 1:
            seen = torch.arange(memory.length + count, device=x.device)  # (length + T,)
            mask = seen[None] <= places[:, None]  # (T, length + T)
        angles = self.angles(places)  # (T, turning / 2)
        rows = x[None]  # (1, T, D)
        for number, layer in enumerate(self.layers):
            normed = layer.ln(rows)
            q, k, v = layer.attn.split(normed)
            keys, values = memory.written(number, _turned(k, angles), v)
            seen_to = functional.scaled_dot_product_attention(_turned(q, angles), keys, values, attn_mask=mask)
            rows = rows + layer.attn.out(seen_to) + layer.mlp(normed)  # (1, T, D)
        memory.length += count
        return rows[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """(D,) to (V,)."""
        y: Tensor = self.lm_head(self.post_ln(hidden))
        return y

    def angles(self, places: Tensor) -> Tensor:
        """By which the pairs of a head are turned at these places (T,): (T, D/heads / 4)."""
        turning = self.config.width // self.config.heads // 2
        steps = torch.arange(0, turning, 2, device=places.device, dtype=torch.float32) / turning
        return places[:, None] * _THETA ** -steps[None]  # (T, turning / 2)


class PlaceHeads(nn.Module):
    """Between places, in shares of the picture, and the tongue."""

    def __init__(self, config: Places, width: int) -> None:
        super().__init__()
        self.config = config
        self.coord_features = nn.Parameter(torch.randn(1, config.coordinate // 2))
        self.coord_encoder = nn.Linear(config.coordinate, width)
        self.coord_decoder = FeedForward(width, config.inner, config.bins)
        self.size_features = nn.Parameter(torch.randn(2, config.size // 2))
        self.size_encoder = nn.Linear(config.size, width)
        self.size_decoder = FeedForward(width, config.inner, config.sizes)

    def of_coordinate(self, value: float) -> Tensor:
        """A coordinate in 0..1 to a row (1, D)."""
        y: Tensor = self.coord_encoder(_waves(self.coord_features.new_tensor([[value]]), self.coord_features))
        return y

    def of_size(self, width: float, height: float) -> Tensor:
        """To a row (1, D)."""
        y: Tensor = self.size_encoder(_waves(self.size_features.new_tensor([[width, height]]), self.size_features))
        return y

    def coordinate(self, hidden: Tensor) -> float:
        """(D,) to the likeliest bin, in 0..1."""
        logits = self.coord_decoder(hidden)  # (bins,)
        return int(logits.argmax()) / len(logits)

    def size(self, hidden: Tensor) -> tuple[float, float]:
        """(D,) to width and height in 2**-10..1, whose bins stand at even steps of the logarithm."""
        logits = self.size_decoder(hidden).unflatten(0, (2, -1))  # (2, bins)
        last = logits.shape[1] - 1
        width, height = (2.0 ** (int(bin) / last * 10.0 - 10.0) for bin in logits.argmax(1))
        return width, height


class Moondream(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vision = Eye(config.sight, config.speech.width)
        self.text = Tongue(config.speech)
        self.region = PlaceHeads(config.places, config.speech.width)


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """The first half of each head (1, heads, T, d) turned by the angles (T, d / 4), in float32 as published."""
    half = angles.shape[1]
    first, second, rest = x[..., :half].float(), x[..., half : 2 * half].float(), x[..., 2 * half :]
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat([first * cos - second * sin, first * sin + second * cos], -1)  # (1, heads, T, d / 2)
    return torch.cat([turned.to(x.dtype), rest], -1)  # (1, heads, T, d)


def _waves(values: Tensor, frequencies: Tensor) -> Tensor:
    """Values (1, C) to cosines and sines (1, 2 * F) at the frequencies (C, F) (Tancik et al., 2020)."""
    angles = 2 * torch.pi * values @ frequencies  # (1, F)
    return torch.cat([angles.cos(), angles.sin()], -1)
