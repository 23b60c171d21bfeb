"""Cameras as nine numbers, as tokens that a transformer of views reads, and back.

Architecture: the camera encoder and decoder of H. Lin et al., "Depth Anything 3: Recovering the Visual Space from Any
Views" (2025, arXiv:2511.10647; github.com/ByteDance-Seed/Depth-Anything-3). Modules carry the names of the published
checkpoints.

A camera's nine numbers are its centre in the world (3), the rotation from camera to world as a quaternion x, y, z, w
(4), and its field of view in radians, vertical then horizontal (2). Cameras look along z, x points right and y down
(OpenCV). Everything here is float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.nets.dino_views import Attention, Block, Mlp

NUMBERS = 9
_SMALLEST = 1e-6  # tangent of half a field of view
_NEAREST = 0.1  # the smallest median distance that is brought to 1


@dataclass(frozen=True)
class Config:
    """``width`` is that of the tokens of the transformer, ``depth`` and ``heads`` those of the encoder; ``read`` the
    width of the tokens that the decoder reads."""

    width: int
    depth: int
    heads: int
    read: int


class Cameras(NamedTuple):
    """``extrinsics`` (B, S, 3, 4) lead from the world to the camera, ``intrinsics`` (B, S, 3, 3) on to pixels."""

    extrinsics: Tensor
    intrinsics: Tensor


class CameraEncoder(nn.Module):
    """Known cameras -> tokens (B, S, D), after they have looked at each other."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.token_norm = nn.LayerNorm(config.width)
        self.trunk_norm = nn.LayerNorm(config.width)
        self.pose_branch = Mlp(NUMBERS, config.width // 2, config.width)

    def forward(self, cameras: Cameras, size_hw: tuple[int, int]) -> Tensor:
        """``size_hw`` is that of the images, in the pixels of the intrinsics."""
        numbers = described(cameras, size_hw).to(self.token_norm.weight.dtype)  # (B, S, 9)
        x: Tensor = self.token_norm(self.pose_branch(numbers))  # (B, S, D)
        for block in self.trunk:
            x = block(x, None)  # (B, S, D)
        y: Tensor = self.trunk_norm(x)  # (B, S, D)
        return y


class CameraDecoder(nn.Module):
    """Tokens (B, S, C) -> a camera's nine numbers (B, S, 9)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        wide = config.read
        self.backbone = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU())
        self.fc_t = nn.Linear(wide, 3)
        self.fc_qvec = nn.Linear(wide, 4)
        self.fc_fov = nn.Sequential(nn.Linear(wide, 2), nn.ReLU())

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.backbone(tokens)  # (B, S, C)
        return torch.cat([self.fc_t(x), self.fc_qvec(x), self.fc_fov(x)], -1).float()  # (B, S, 9)


def described(cameras: Cameras, size_hw: tuple[int, int]) -> Tensor:
    """Cameras as their nine numbers, (B, S, 9)."""
    to_camera = cameras.extrinsics.float()
    to_world = inverse(to_camera[..., :3, :])  # (B, S, 3, 4)
    focal_yx = cameras.intrinsics.float().diagonal(dim1=-2, dim2=-1)[..., [1, 0]]  # (B, S, 2), pixels
    half = torch.tensor(size_hw, device=to_world.device) / 2  # (2,), pixels
    fields = 2 * torch.atan(half / focal_yx)  # (B, S, 2)
    return torch.cat([to_world[..., 3], quaternion(to_world[..., :3]), fields], -1)


def cameras_of(numbers: Tensor, size_hw: tuple[int, int]) -> Cameras:
    """Nine numbers (B, S, 9) -> cameras whose axis goes through the centre of an image of that size, in pixels."""
    to_world = torch.cat([rotation(numbers[..., 3:7]), numbers[..., :3, None]], -1)  # (B, S, 3, 4)
    half = torch.tensor(size_hw, device=numbers.device) / 2  # (2,), pixels
    focal_yx = half / torch.tan(numbers[..., 7:] / 2).clamp_min(_SMALLEST)  # (B, S, 2), pixels
    intrinsics = torch.diag_embed(functional.pad(focal_yx.flip(-1), (0, 1), value=1.0))  # (B, S, 3, 3)
    intrinsics[..., :2, 2] = half.flip(0)
    return Cameras(inverse(to_world), intrinsics)


def from_the_first(cameras: Cameras) -> tuple[Cameras, Tensor]:
    """The same cameras as seen from the first, and so far apart that their median distance from it is 1: as the encoder
    was trained on them.

    Returns:
        the cameras, and the unit (B,) by which places were divided, at least 0.1.
    """
    known = cameras.extrinsics.float()[..., :3, :]  # (B, S, 3, 4)
    first = inverse(known[:, :1])  # (B, 1, 3, 4)
    rotations = known[..., :3] @ first[..., :3]  # (B, S, 3, 3)
    offsets = known[..., :3] @ first[..., 3:] + known[..., 3:]  # (B, S, 3, 1)
    distances = offsets.squeeze(-1).norm(dim=-1)  # (B, S); rotations do not change how far the first is
    unit = distances.median(1).values.clamp_min(_NEAREST)  # (B,)
    extrinsics = torch.cat([rotations, offsets / unit[:, None, None, None]], -1)  # (B, S, 3, 4)
    return Cameras(extrinsics, cameras.intrinsics), unit


def inverse(affine: Tensor) -> Tensor:
    """The way back of rotations with translations (..., 3, 4)."""
    back = affine[..., :3].mT  # (..., 3, 3)
    return torch.cat([back, -back @ affine[..., 3:]], -1)  # (..., 3, 4)


def rotation(quaternions: Tensor) -> Tensor:
    """Quaternions x, y, z, w (..., 4), of any length -> matrices (..., 3, 3)."""
    x, y, z, w = quaternions.unbind(-1)
    # Where all four are 0 there is no turn.
    two = 2 / quaternions.square().sum(-1).clamp_min(torch.finfo(quaternions.dtype).tiny)
    rows = (
        (1 - two * (y * y + z * z), two * (x * y - z * w), two * (x * z + y * w)),
        (two * (x * y + z * w), 1 - two * (x * x + z * z), two * (y * z - x * w)),
        (two * (x * z - y * w), two * (y * z + x * w), 1 - two * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)  # (..., 3, 3)


def quaternion(matrices: Tensor) -> Tensor:
    """Rotations (..., 3, 3) -> unit quaternions x, y, z, w (..., 4) with w >= 0.

    Four formulas give the same; each divides by one component, and the largest is divided by.
    """
    m = matrices
    trace = m.diagonal(dim1=-2, dim2=-1)  # (..., 3)
    x, y, z = trace.unbind(-1)
    squares = torch.stack([1 + x - y - z, 1 - x + y - z, 1 - x - y + z, 1 + x + y + z], -1)  # (..., 4), 4 x squared
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xx, yy, zz, ww = squares.unbind(-1)
    # Row i holds all products with component i, times 4.
    products = torch.stack(
        [
            torch.stack([xx, xy, xz, xw], -1),
            torch.stack([xy, yy, yz, yw], -1),
            torch.stack([xz, yz, zz, zw], -1),
            torch.stack([xw, yw, zw, ww], -1),
        ],
        -2,
    )  # (..., 4, 4)
    largest = squares.argmax(-1)[..., None]  # (..., 1)
    row = products.gather(-2, largest[..., None].expand(*largest.shape, 4)).squeeze(-2)  # (..., 4)
    found = row / (2 * squares.gather(-1, largest).sqrt())  # (..., 4)
    return torch.where(found[..., 3:] < 0, -found, found)


def _block(config: Config) -> Block:
    attn = Attention(config.width, config.heads, is_normed=False)
    return Block(attn, Mlp(config.width, 4 * config.width, config.width), config.width, 1e-5)
