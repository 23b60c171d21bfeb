"""What a published Moondream 2 checkpoint says of itself: sizes, and names of its weights in both layouts.

Source: vikhyat/moondream (Apache-2.0) at 44146f1, moondream/torch/config.py and weights.py. The older layout is that of
2024: ``text_model.transformer.h.N.mixer.Wqkv`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from anmok.errors import BadWeights
from anmok.nets.moondream import Config, Moondream
from anmok.nets.moondream_tiles import Cutting
from anmok.nets.pretrained import fill

C = TypeVar("C")

_COMPILED = "._orig_mod"  # what torch.compile puts between names
_PREFIX = "model."
_OLDER = "text_model."
_TURNED = ("region.coord_features", "region.size_features")  # stored (F, C) in the older layout
_TABLE = (  # older names, ours
    (r"vision_encoder\.encoder\.model\.visual\.patch_embed\.linear\.", "vision.patch_emb."),
    (r"vision_encoder\.encoder\.model\.visual\.pos_embed$", "vision.pos_emb"),
    (r"vision_encoder\.encoder\.model\.visual\.norm\.", "vision.post_ln."),
    (r"vision_encoder\.encoder\.model\.visual\.blocks\.(\d+)\.norm([12])\.", r"vision.blocks.\1.ln\2."),
    (r"vision_encoder\.encoder\.model\.visual\.blocks\.", "vision.blocks."),
    (r"vision_encoder\.projection\.mlp\.", "vision.proj_mlp."),
    (r"text_model\.transformer\.embd\.wte\.weight$", "text.wte"),
    (r"text_model\.transformer\.h\.(\d+)\.mixer\.Wqkv\.", r"text.blocks.\1.attn.qkv."),
    (r"text_model\.transformer\.h\.(\d+)\.mixer\.out_proj\.", r"text.blocks.\1.attn.proj."),
    (r"text_model\.transformer\.h\.", "text.blocks."),
    (r"text_model\.lm_head\.ln\.", "text.post_ln."),
    (r"text_model\.lm_head\.linear\.", "text.lm_head."),
    (r"region_model\.(coord|size)(?:inate)?_features\.weight$", r"region.\1_features"),
    (r"region_model\.(coord|size)(?:inate)?_", r"region.\1_"),
)
_SIGHT = {"enc_dim": "width", "enc_n_layers": "depth", "enc_n_heads": "heads", "enc_ff_dim": "hidden"}
_SIGHT |= {"proj_inner_dim": "inner"}
_CUTTING = {"crop_size": "crop", "enc_patch_size": "patch", "overlap_margin": "margin", "max_crops": "most"}
_SPEECH = {"dim": "width", "n_layers": "depth", "n_heads": "heads", "ff_dim": "hidden", "vocab_size": "vocabulary"}
_SPEECH |= {"max_context": "context"}
_PLACES = {"coord_feat_dim": "coordinate", "coord_out_dim": "bins", "size_feat_dim": "size", "size_out_dim": "sizes"}
_PLACES |= {"inner_dim": "inner"}
_SHOWN = 3  # names in a message


def is_older(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of 2024, whose weights go with another tokenizer."""
    return any(name.startswith(_OLDER) for name in state)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names of either layout, to those of ``nets.moondream.Moondream``. A name of neither is kept, for
    ``filled`` to refuse."""
    plain = {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}
    if not is_older(plain):
        return {name.removeprefix(_PREFIX): tensor for name, tensor in plain.items()}
    found = {_renamed(name): tensor for name, tensor in plain.items()}
    return {name: tensor.T.contiguous() if name in _TURNED else tensor for name, tensor in found.items()}


def configured(published: Config, content: Mapping[str, Any], name: str) -> Config:
    """The published sizes with what ``config.json`` says otherwise, in its parts ``text``, ``vision`` and ``region``.

    Raises:
        BadWeights: a size that is none, or weights that are packed in 4 bits.
    """
    said = {part: content.get(part, {}) for part in ("vision", "text", "region")}
    if not all(isinstance(part, Mapping) for part in said.values()):
        raise BadWeights(f"{name}: config.json does not hold sizes where they belong; fetch the files again")
    if any(part.get("group_size") for part in said.values()):
        raise BadWeights(f"{name}: the weights are packed in 4 bits, which is not read here; take the plain ones")
    cutting = _changed(published.sight.cutting, said["vision"], _CUTTING, name)
    found = Config(
        _changed(replace(published.sight, cutting=cutting), said["vision"], _SIGHT, name),
        _changed(published.speech, said["text"], _SPEECH, name),
        _changed(published.places, said["region"], _PLACES, name),
    )
    _check(found, name)
    return found


def filled(config: Config, state: Mapping[str, Tensor], dtype: torch.dtype, name: str) -> Moondream:
    """The net with published tensors of either layout: every one of them, or not at all.

    Raises:
        BadWeights: a tensor is missing, left over, or of another shape.
    """
    with torch.device("meta"):  # no memory for numbers that are replaced at once
        net = Moondream(config)
    return fill(net, renamed(state), dtype, name)


def _renamed(name: str) -> str:
    for pattern, ours in _TABLE:
        found, count = re.subn(rf"^{pattern}", ours, name)
        if count:
            return found
    return name


def _changed(part: C, said: Mapping[str, Any], table: Mapping[str, str], name: str) -> C:
    known = {one.name for one in fields(part)}  # type: ignore[arg-type]
    values = {ours: said[theirs] for theirs, ours in table.items() if theirs in said and ours in known}
    for ours, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**20:
            raise BadWeights(f"{name}: config.json gives {str(value)[:40]!r} for {ours}; want a size")
    return replace(part, **values)  # type: ignore[type-var]


def _check(config: Config, name: str) -> None:
    """Sizes that go together."""
    cutting: Cutting = config.sight.cutting
    is_whole = cutting.crop % cutting.patch == 0 and cutting.window > 0
    is_even = config.sight.width % config.sight.heads == 0 and config.speech.width % (4 * config.speech.heads) == 0
    is_paired = not (config.places.coordinate % 2 or config.places.size % 2 or config.places.sizes % 2)
    if not (is_whole and is_even and is_paired):
        raise BadWeights(f"{name}: config.json gives sizes that do not go together; fetch the files again")
