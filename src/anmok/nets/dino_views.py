"""DINOv2 over the views of one scene: upper layers look within a view and across all of them by turns.

Architecture: M. Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (TMLR 2024,
arXiv:2304.07193), as H. Lin et al. extend it in "Depth Anything 3: Recovering the Visual Space from Any Views"
(2025, arXiv:2511.10647; github.com/ByteDance-Seed/Depth-Anything-3): from one layer on, attention normalises its
queries and keys and turns them by their place in the view (J. Su et al., "RoFormer", arXiv:2104.09864), a camera
token takes the place of the class token, and every odd layer attends over the tokens of all views. Modules carry
the names of the published checkpoints. Inference only: stochastic depth is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest

PATCH = 14  # side of a patch, pixels
ENOUGH_TO_CHOOSE = 3  # views; of fewer the first is the reference
_FREQUENCY = 100.0  # the slowest turn is a hundredth of the fastest
# Added to a size in patches before it becomes a factor, so that rounding never loses a row of positions.
_MARGIN = 0.1


@dataclass(frozen=True)
class Config:
    """``width`` is D, ``hidden`` the width inside the MLP, which is a SwiGLU where ``is_gated``; ``grid`` the side of
    the table of positions, in patches; ``taps`` the layers whose states are read, from 0. ``meets_from`` is the
    layer from which views see each other; ``None``: they never do."""

    width: int
    hidden: int
    depth: int
    heads: int
    grid: int
    is_gated: bool
    taps: tuple[int, int, int, int]
    meets_from: int | None

    @property
    def tap_width(self) -> int:
        """Of what ``DinoViews`` returns: where views meet, a tap holds the state before and after they did."""
        return self.width if self.meets_from is None else 2 * self.width


class Tap(NamedTuple):
    """States after one layer. ``patches`` (B, S, h*w, C) are normalised, ``camera`` (B, S, C) is not; C is
    ``Config.tap_width``."""

    patches: Tensor
    camera: Tensor


class Turn(NamedTuple):
    """What turns queries and keys, each (T, D / heads)."""

    cosine: Tensor
    sine: Tensor


class Attention(nn.Module):
    """Tokens (B, T, D) look at each other; where there is a turn, by content and place."""

    def __init__(self, width: int, heads: int, is_normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // heads) if is_normed else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads) if is_normed else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, turn: Turn | None) -> Tensor:
        joint: Tensor = self.qkv(x)  # (B, T, 3 D)
        q, k, v = torch.unflatten(joint, 2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, D/heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = turned(q, turn), turned(k, turn)
        seen = functional.scaled_dot_product_attention(q, k, v)  # (B, heads, T, D/heads)
        y: Tensor = self.proj(seen.transpose(1, 2).flatten(2))  # (B, T, D)
        return y


class Mlp(nn.Module):
    """(..., inputs) -> (..., outputs) through a wider layer."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))  # (..., outputs)
        return y


class GatedMlp(nn.Module):
    """SwiGLU (N. Shazeer, arXiv:2002.05202): one half of the wide layer opens and shuts the other. (..., D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, -1)  # each (..., hidden)
        y: Tensor = self.w3(functional.silu(gate) * value)  # (..., D)
        return y


class Scale(nn.Module):
    """Each channel by its own factor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Attention, then the MLP, each normalised before, scaled after and added to what came in."""

    def __init__(self, attn: Attention, mlp: nn.Module, width: int, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.attn = attn
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.mlp = mlp
        self.ls2 = Scale(width)

    def forward(self, x: Tensor, turn: Turn | None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), turn))  # (B, T, D)
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))  # (B, T, D)
        return y


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) -> tokens (B, h*w, D), row by row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.proj(images)  # (B, D, h, w)
        return x.flatten(2).transpose(1, 2)  # (B, h*w, D)


class DinoViews(nn.Module):
    """Views (B, S, 3, H, W) of B scenes -> the states after four layers, for every view."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, meets_from = config.width, config.meets_from
        self.patch_embed = PatchEmbedding(width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + config.grid**2, width))
        if meets_from is not None:
            self.camera_token = nn.Parameter(torch.randn(1, 2, width))  # of the reference, of all others
        self.blocks = nn.ModuleList(_block(config, layer) for layer in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor, cameras: Tensor | None) -> list[Tap]:
        """``cameras`` are tokens (B, S, D) of known cameras, or ``None``: then the net finds them, as seen from a
        reference view that it chooses.

        Raises:
            BadRequest: sides that are no multiples of 14 pixels.
        """
        scenes, views, _, height, width = images.shape
        size = (height // PATCH, width // PATCH)
        x = torch.unflatten(self._tokens(images.flatten(0, 1)), 0, (scenes, views))  # (B, S, T, D)
        within, across = self._turns(size, views, x)
        own, back, taps = x, None, []
        for layer, block in enumerate(self.blocks):
            if self.config.meets_from is not None and cameras is None and layer == self.config.meets_from - 1:
                order, back = reference_first(x[:, :, 0])
                x = _taken(x, order)  # (B, S, T, D)
            if layer == self.config.meets_from:
                token = self._camera_tokens(scenes, views) if cameras is None else cameras  # (B, S, D)
                x = torch.cat([token.to(x.dtype)[:, :, None], x[:, :, 1:]], 2)  # (B, S, T, D)
            if _meets(self.config, layer):
                x = torch.unflatten(block(x.flatten(1, 2), across), 1, (views, -1))  # over S*T tokens; (B, S, T, D)
            else:
                turn = within if _has_place(self.config, layer) else None
                x = own = torch.unflatten(block(x.flatten(0, 1), turn), 0, (scenes, views))  # over T; (B, S, T, D)
            if layer in self.config.taps:
                taps.append(self._tap(own, x, back))
        return taps

    def _tokens(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> the class token and the patches, placed: (B, 1 + h*w, D)."""
        height, width = images.shape[2:]
        if height % PATCH or width % PATCH:
            raise BadRequest(f"an image of {height} x {width} pixels: this net reads sides of whole {PATCH}s")
        patches = self.patch_embed(images)  # (B, h*w, D)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1)  # (B, 1 + h*w, D)
        return x + self._positions((height // PATCH, width // PATCH))

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """The table of positions, resampled to h x w patches: (1, 1 + h*w, D)."""
        grid = self.config.grid
        if size == (grid, grid):
            return self.pos_embed
        table = self.pos_embed.float()
        patches = torch.unflatten(table[:, 1:], 1, (grid, grid)).permute(0, 3, 1, 2)  # (1, D, grid, grid)
        factors = [(side + _MARGIN) / grid for side in size]
        patches = functional.interpolate(patches, scale_factor=factors, mode="bicubic")  # (1, D, h, w)
        return torch.cat([table[:, :1], patches.flatten(2).transpose(1, 2)], 1).to(self.pos_embed.dtype)

    def _camera_tokens(self, scenes: int, views: int) -> Tensor:
        reference, other = self.camera_token[0]  # each (D,)
        tokens = torch.stack([reference] + [other] * (views - 1))  # (S, D)
        return tokens.expand(scenes, -1, -1)  # (B, S, D)

    def _turns(self, size: tuple[int, int], views: int, like: Tensor) -> tuple[Turn | None, Turn | None]:
        """How layers turn tokens within a view, by row and column; and across views, where all patches share one
        place: only patch and camera are told apart."""
        if self.config.meets_from is None:
            return None, None
        places = torch.cartesian_prod(torch.arange(size[0]), torch.arange(size[1])) + 1  # (h*w, 2)
        special = torch.zeros(1, 2)
        size_of_head = self.config.width // self.config.heads
        within = turn_by(torch.cat([special, places]), size_of_head)  # (T, D/heads)
        across = turn_by(torch.cat([special, torch.ones(len(places), 2)]).repeat(views, 1), size_of_head)
        return _moved(within, like), _moved(across, like)

    def _tap(self, own: Tensor, x: Tensor, back: Tensor | None) -> Tap:
        """``own`` is the last state (B, S, T, D) in which views had not met, ``x`` the present one."""
        states = [own, x] if self.config.meets_from is not None else [x]
        if back is not None:
            states = [_taken(state, back) for state in states]
        camera = torch.cat([state[:, :, 0] for state in states], -1)  # (B, S, C)
        states[-1] = self.norm(states[-1])  # what the views have told each other; the own state stays as it is
        return Tap(torch.cat([state[:, :, 1:] for state in states], -1), camera)  # (B, S, h*w, C)


def reference_first(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The order that puts the reference view first and keeps the others, and the order that undoes it.

    The reference is the view least extreme in three respects, each stretched to 0..1 over the views: likeness to
    the other views, length of its token, spread of its token's direction. Of two views the first is taken.

    Args:
        tokens: the class tokens, (B, S, D).

    Returns:
        two tables of indices (B, S).
    """
    scenes, views = tokens.shape[:2]
    keys = torch.arange(views, device=tokens.device).expand(scenes, -1).clone()  # (B, S)
    if views >= ENOUGH_TO_CHOOSE:
        length = tokens.norm(dim=-1)  # (B, S)
        direction = tokens / length[..., None]  # (B, S, D)
        likeness = ((direction @ direction.transpose(1, 2)).sum(-1) - 1) / (views - 1)  # (B, S), without itself
        respects = torch.stack([likeness, length, direction.var(-1)])  # (3, B, S)
        low, high = respects.amin(-1, keepdim=True), respects.amax(-1, keepdim=True)
        extremity = ((respects - low) / (high - low + 1e-8) - 0.5).abs().sum(0)  # (B, S)
        keys[torch.arange(scenes, device=tokens.device), extremity.argmin(1)] = -1
    order = keys.argsort(1)
    return order, order.argsort(1)


def turn_by(places: Tensor, size: int) -> Turn:
    """The turn of tokens at places (T, 2) in rows and columns: the first half of their ``size`` channels turns by
    the row, the second by the column."""
    exponents = torch.arange(0, size // 2, 2) / (size // 2)
    speeds = 1.0 / _FREQUENCY**exponents  # (size/4,)
    angles = places[:, :, None].float() * speeds  # (T, 2, size/4)
    angles = torch.cat([angles, angles], 2).flatten(1)  # (T, size)
    return Turn(angles.cos(), angles.sin())


def turned(x: Tensor, turn: Turn) -> Tensor:
    """(..., T, size), each pair of channels turned by its angle."""
    row_a, row_b, column_a, column_b = x.chunk(4, -1)
    across = torch.cat([-row_b, row_a, -column_b, column_a], -1)  # (..., T, size)
    return x * turn.cosine + across * turn.sine


def _block(config: Config, layer: int) -> Block:
    attn = Attention(config.width, config.heads, is_normed=_has_place(config, layer))
    if config.is_gated:
        return Block(attn, GatedMlp(config.width, config.hidden), config.width, 1e-6)
    return Block(attn, Mlp(config.width, config.hidden, config.width), config.width, 1e-6)


def _has_place(config: Config, layer: int) -> bool:
    return config.meets_from is not None and layer >= config.meets_from


def _meets(config: Config, layer: int) -> bool:
    return _has_place(config, layer) and layer % 2 == 1


def _taken(x: Tensor, order: Tensor) -> Tensor:
    """(B, S, ...) with the views of each scene in the order (B, S)."""
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def _moved(turn: Turn, like: Tensor) -> Turn:
    return Turn(turn.cosine.to(like), turn.sine.to(like))
