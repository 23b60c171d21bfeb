"""Position embeddings of a ViT for another number of patches: photos of another size than it was trained on.

The grid of embeddings is resized as a small picture of D channels: bicubic with antialiasing, corners not aligned,
which is what open_clip (``resize_pos_embed``) and timm (``resample_abs_pos_embed``) do. transformers'
``interpolate_pos_encoding`` leaves the antialiasing out, and its cubic kernel is another one (-0.75 for -0.5), so its
values differ. What stands before the patches, a class token or registers with positions, is kept as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anmok.errors import BadRequest, Unsupported


def resized(table: Tensor, to_hw: tuple[int, int], prefix: int = 0, from_hw: tuple[int, int] | None = None) -> Tensor:
    """Embeddings (prefix + h w, D), row by row, for a grid of ``to_hw`` patches: (prefix + h' w', D), same dtype.

    Args:
        table: any floating dtype; computed in float32 or better.
        to_hw: patches down and across.
        prefix: rows before the patches, which are kept.
        from_hw: the grid that the table is for; a square one where it is not given.

    Raises:
        BadRequest: the table is not for such a grid, or a side of ``to_hw`` is below 1.
    """
    count = len(table) - prefix
    side = math.isqrt(max(count, 0))
    height, width = from_hw or (side, side)
    if table.ndim != 2 or prefix < 0 or count < 1 or height * width != count:
        grid = f"{height} x {width} patches" if from_hw else "a square of patches (give from_hw)"
        raise BadRequest(f"position embeddings {tuple(table.shape)} are not {prefix} rows and {grid}")
    if min(to_hw) < 1:
        raise BadRequest(f"a grid of {to_hw[0]} x {to_hw[1]} patches: each side must be at least 1")
    if (height, width) == to_hw:
        return table
    kept, patches = table[:prefix], table[prefix:]
    wide = patches.to(torch.promote_types(table.dtype, torch.float32))
    grid_map = wide.T.reshape(1, -1, height, width)  # (1, D, h, w)
    grown = functional.interpolate(grid_map, to_hw, mode="bicubic", align_corners=False, antialias=True)
    rows = grown.flatten(2)[0].T.to(table.dtype)  # (h' w', D)
    return torch.cat([kept, rows])  # (prefix + h' w', D)


def resize_tower(tower: nn.Module, size: int) -> None:
    """A vision tower of transformers made ready for square pictures of ``size`` pixels, in place.

    CLIP's and SigLIP's ``CLIPVisionModel``, ``SiglipVisionModel``, and DINOv2's, with and without registers. DINOv3
    computes its positions and takes any size as it is.

    Raises:
        Unsupported: a net without a table of positions.
        BadRequest: a size that is no multiple of the patch.
    """
    place: Any = getattr(tower, "embeddings", None)
    learned = getattr(place, "position_embedding", None)  # CLIP, SigLIP
    table = learned.weight if isinstance(learned, nn.Embedding) else getattr(place, "position_embeddings", None)
    if not isinstance(table, Tensor):
        raise Unsupported(f"{type(tower).__name__} has no table of position embeddings that could be resized")
    patch = place.patch_size if isinstance(place.patch_size, int) else place.patch_size[0]
    if size < patch or size % patch:
        raise BadRequest(f"pictures of {size} pixels do not divide into patches of {patch}")
    side, rows = size // patch, table.detach().reshape(-1, table.shape[-1])
    fresh = nn.Parameter(resized(rows, (side, side), _prefix(len(rows))).clone(), requires_grad=table.requires_grad)
    if isinstance(learned, nn.Embedding):
        learned.weight, learned.num_embeddings = fresh, len(fresh)
        place.position_ids = torch.arange(len(fresh), device=fresh.device)[None]  # (1, P)
        place.image_size, place.num_patches, place.num_positions = size, side**2, len(fresh)
    else:
        place.position_embeddings = nn.Parameter(fresh.detach()[None], requires_grad=table.requires_grad)  # (1, P, D)
        place.patch_embeddings.image_size = (size, size)
        place.patch_embeddings.num_patches = side**2
    place.config.image_size = size


def _prefix(count: int) -> int:
    """Rows before a square grid in a table of ``count``: a class token, or none."""
    return 0 if math.isqrt(count) ** 2 == count else 1
