"""Records what the authors' SAM 2 answers on drawn weights: single pictures, and clips with cues of every kind.

    PYTHONPATH=tests python -m golden.record_sam2 CHECKOUT

``CHECKOUT`` is a copy of github.com/facebookresearch/sam2, of commit ``COMMIT``. Their net is built at toy size and
led from frame to frame as their predictor leads it; what is drawn comes from numpy's seeds, so that the test draws
it again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from anmok.nets.sam2_names import rename

Array = NDArray[np.float32]

COMMIT = "2b90b9f5ceec907a1c18123530e92e794ad901a4"
FILE = Path(__file__).with_name("sam2.npz")
SIDE, WIDTH, SMALL = 64, 128, 16  # of the picture and of masks, pixels; channels
TRUNK = {"embed_dim": 16, "stages": (1, 1, 2, 1), "window_spec": (8, 4, 4, 2), "global_att_blocks": (3,)}
BACKGROUND = (4, 4)  # of the table of positions
CHANNELS = (128, 64, 32, 16)
GRID = [SIDE // 16, SIDE // 16]
HEADS: Mapping[str, Any] = {
    "rope_theta": 10000.0,
    "embedding_dim": WIDTH,
    "num_heads": 1,
    "downsample_rate": 1,
    "dropout": 0.1,
}
# What SAM 2.1 has and the first does not.
SECOND: Mapping[str, bool] = {
    "no_obj_embed_spatial": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
}
FRAMES = 22  # more than pointers are kept
POINTS = 16
MEMORIES = 7


def drawn(names: Mapping[str, tuple[int, ...]], hidden: float = 2.4) -> dict[str, Array]:
    """Weights by name and shape, each from a seed of its own: such that signals keep their size, memories weigh
    something, and an object is out of sight now and then: the higher ``hidden``, the more often."""
    weights = {}
    for name, shape in names.items():
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if len(shape) > 1:
            noise *= 1.2 / np.sqrt(np.prod(shape[1:]) if shape[0] > 1 else np.prod(shape) / 8)
        elif name.endswith(("weight", "gamma")):
            noise = 1 + 0.3 * noise
        else:
            noise *= 0.3
        if "cross_attn_image" in name and "norm" not in name and "_to_" not in name:
            noise *= 2
        if name.endswith("pred_obj_score_head.layers.2.bias"):
            noise -= hidden
        weights[name] = noise.astype(np.float32)
    return weights


def clip() -> Array:
    """(FRAMES, 3, SIDE, SIDE): a bright patch that wanders over noise."""
    rng = np.random.default_rng(5)
    frames = rng.normal(0, 0.5, (FRAMES, 3, SIDE, SIDE))
    for index, frame in enumerate(frames):
        left = 8 + index
        frame[:, 20:44, left : left + 20] += np.array([1.5, -1.0, 0.5])[:, None, None]
    return frames.astype(np.float32)


def given_mask() -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:44, 8:28] = True
    return mask


# A cue: frame, kind, points (x, y) with labels. The second of a clip is on a frame that was followed to already
# ("correct") or on one just shown ("again").
ONE = ("point", ((18.0, 30.0),), (1,))
TWO = ("points", ((18.0, 30.0), (50.0, 50.0)), (1, 0))
BOX = ("box", ((8.0, 20.0), (28.0, 44.0)), (2, 3))
CLIPS: Mapping[str, tuple[tuple[int, str, Any], ...]] = {
    "point": ((0, "start", ONE),),
    "box": ((0, "start", BOX),),
    "mask": ((0, "start", "mask"),),
    "corrected": ((0, "start", ONE), (4, "correct", TWO)),
    "again": ((0, "start", BOX), (9, "again", ONE), (12, "again", "mask")),
    "twice": ((0, "start", ONE), (0, "correct", TWO)),
}
# With more cues than attention looks at: only the nearest two of these count as such.
MOST = 2
MANY = ((0, "start", BOX), (3, "again", ONE), (6, "again", "mask"), (9, "again", TWO))
PICTURES: Mapping[str, tuple[Any, bool]] = {"point": (ONE, True), "points": (TWO, False), "box": (BOX, False)}


# By a card's kind, their configuration file.
PUBLISHED = {
    f"{version}-{size}": f"{version}/{version}_hiera_{letter}"
    for version in ("sam2", "sam2.1")
    for size, letter in (("tiny", "t"), ("small", "s"), ("base", "b+"), ("large", "l"))
}


def opened(checkout: str) -> dict[str, Any]:
    """Their modules."""
    package = types.ModuleType("sam2")  # without its __init__, which wants hydra
    package.__path__ = [str(Path(checkout) / "sam2")]
    reader = types.ModuleType("iopath.common.file_io")  # opens weights, of which there are none
    reader.g_pathmgr = None  # type: ignore[attr-defined]
    for name, module in (
        ("sam2", package),
        ("iopath", types.ModuleType("iopath")),
        ("iopath.common", types.ModuleType("iopath.common")),
        ("iopath.common.file_io", reader),
    ):
        sys.modules.setdefault(name, module)
    names = ["backbones.hieradet", "backbones.image_encoder", "memory_attention", "memory_encoder"]
    names += ["position_encoding", "sam.transformer", "sam2_base"]
    return {name: importlib.import_module(f"sam2.modeling.{name}") for name in names}


def encoder(code: Mapping[str, Any]) -> Any:
    """Their image encoder at toy size."""
    places = code["position_encoding"].PositionEmbeddingSine
    image = code["backbones.image_encoder"]
    return image.ImageEncoder(
        scalp=1,
        trunk=code["backbones.hieradet"].Hiera(num_heads=1, window_pos_embed_bkg_spatial_size=BACKGROUND, **TRUNK),
        neck=image.FpnNeck(
            position_encoding=places(num_pos_feats=WIDTH, normalize=True, scale=None, temperature=10000),
            d_model=WIDTH,
            backbone_channel_list=list(CHANNELS),
            fpn_top_down_levels=[2, 3],
            fpn_interp_model="nearest",
        ),
    )


def built(code: Mapping[str, Any], most: int = -1) -> Any:
    """Their net at toy size, as their configuration ``sam2.1_hiera_t.yaml`` puts it together; ``most`` conditioning
    frames are looked at, all of them at -1."""
    attention = code["sam.transformer"].RoPEAttention(**HEADS, feat_sizes=GRID, rope_k_repeat=True, kv_in_dim=64)
    return based(code, attended(code, attention), max_cond_frames_in_attn=most, **SECOND)


def published(checkout: str, name: str) -> Any:
    """Their net as one of their configuration files says, such as ``sam2.1/sam2.1_hiera_t``; after ``opened``."""
    text = (Path(checkout) / "sam2" / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    return _made(yaml.safe_load(text)["model"])


def _made(node: Any) -> Any:
    """What hydra makes of it: a table with a ``_target_`` is a call."""
    if isinstance(node, list):
        return [_made(one) for one in node]
    if isinstance(node, str) and re.fullmatch(r"\d+e-\d+", node):  # 1e-6, a number to hydra's reader
        return float(node)
    if not isinstance(node, dict):
        return node
    values = {key: _made(value) for key, value in node.items()}
    if "_target_" not in values:
        return values
    module, _, kind = values.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), kind)(**values)


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of all names and shapes."""
    listed = json.dumps(sorted((name, list(shape)) for name, shape in shapes.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


def attended(code: Mapping[str, Any], cross: Any) -> Any:
    """How a frame looks at memories; ``cross`` is the attention to them."""
    memory = code["memory_attention"]
    layer = memory.MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=64,
        dropout=0.1,
        pos_enc_at_attn=False,
        self_attention=code["sam.transformer"].RoPEAttention(**HEADS, feat_sizes=GRID),
        d_model=WIDTH,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=cross,
    )
    return memory.MemoryAttention(d_model=WIDTH, pos_enc_at_input=True, layer=layer, num_layers=2)


def _memory(code: Mapping[str, Any]) -> Any:
    memory, places = code["memory_encoder"], code["position_encoding"].PositionEmbeddingSine
    block = memory.CXBlock(dim=WIDTH, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True)
    return memory.MemoryEncoder(
        out_dim=64,
        in_dim=WIDTH,
        position_encoding=places(num_pos_feats=64, normalize=True, scale=None, temperature=10000),
        mask_downsampler=memory.MaskDownSampler(embed_dim=WIDTH, kernel_size=3, stride=2, padding=1),
        fuser=memory.Fuser(layer=block, num_layers=2),
    )


def based(code: Mapping[str, Any], attention: Any, **parts: Any) -> Any:
    """The whole, with what tells the versions apart."""
    return (
        code["sam2_base"]
        .SAM2Base(
            image_encoder=encoder(code),
            memory_attention=attention,
            memory_encoder=_memory(code),
            num_maskmem=MEMORIES,
            image_size=SIDE,
            sigmoid_scale_for_mem_enc=20.0,
            sigmoid_bias_for_mem_enc=-10.0,
            use_mask_input_as_output_without_sam=True,
            directly_add_no_mem_embed=True,
            use_high_res_features_in_sam=True,
            multimask_output_in_sam=True,
            iou_prediction_use_sigmoid=True,
            use_obj_ptrs_in_encoder=True,
            only_obj_ptrs_in_the_past_for_eval=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            fixed_no_obj_ptr=True,
            multimask_output_for_tracking=True,
            use_multimask_token_for_obj_ptr=True,
            multimask_min_pt_num=0,
            multimask_max_pt_num=1,
            use_mlp_for_obj_ptr_proj=True,
            binarize_mask_from_pts_for_mem_enc=True,  # this and the next as their predictor is set up
            sam_mask_decoder_extra_args={
                "dynamic_multimask_via_stability": True,
                "dynamic_multimask_stability_delta": 0.05,
                "dynamic_multimask_stability_thresh": 0.98,
            },
            **parts,
        )
        .eval()
    )


def _seen(net: Any, picture: Array) -> tuple[list[Tensor], list[Tensor], list[tuple[int, int]]]:
    _, features, places, sizes = net._prepare_backbone_features(net.forward_image(torch.from_numpy(picture)[None]))
    return features, places, sizes


def _points(cue: Any) -> dict[str, Tensor]:
    _, places, labels = cue
    return {"point_coords": torch.tensor([places]), "point_labels": torch.tensor([labels], dtype=torch.int32)}


def pictured(net: Any, cue: Any, is_ambiguous: bool) -> tuple[Array, Array]:
    """The first frame of the clip as a picture by itself: masks (M, s, s) and predicted IoUs (M,)."""
    features, _, sizes = _seen(net, clip()[0])
    maps = [x.permute(1, 2, 0).unflatten(-1, size) for x, size in zip(features, sizes, strict=True)]
    lowest = maps[-1] + net.no_mem_embed.reshape(1, -1, 1, 1)
    answer = net._forward_sam_heads(lowest, _points(cue), None, maps[:-1], is_ambiguous)
    return answer[0][0].numpy(), answer[2][0].numpy()


def led(net: Any, cues: tuple[tuple[int, str, Any], ...], dtype: torch.dtype) -> tuple[Array, Array]:
    """Masks (FRAMES, s, s) and scores (FRAMES,) of one object, as their predictor gets them; memories are kept in
    the given precision."""
    said = {}
    for frame, manner, cue in cues:
        said.setdefault(frame, []).append((manner, cue))
    outputs: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    masks, scores = [], []
    for frame, picture in enumerate(clip()):
        features, places, sizes = _seen(net, picture)
        step = {
            "frame_idx": frame,
            "current_vision_feats": features,
            "current_vision_pos_embeds": places,
            "feat_sizes": sizes,
            "output_dict": outputs,
            "num_frames": FRAMES,
        }
        here = said.get(frame, [])
        if not here or here[0][0] == "correct":
            here = [("follow", None), *here]
        last, is_start = None, here[0][0] != "follow"
        for manner, cue in here:
            last = _stepped(net, step, cue, is_start, last if manner == "correct" else None)
            last["maskmem_features"] = last["maskmem_features"].to(dtype)
            key = "cond_frame_outputs" if is_start else "non_cond_frame_outputs"
            outputs[key][frame] = last
        assert last is not None
        masks.append(last["pred_masks"][0, 0].numpy())
        scores.append(float(last["object_score_logits"]))
    return np.array(masks), np.array(scores, np.float32)


def summed(name: str, masks: Array, scores: Array) -> dict[str, Array]:
    """All frames by their means, and whole masks of a few."""
    means = np.stack([masks.mean((1, 2)), masks.std((1, 2)), scores])
    return {f"clip-{name}-means": means, f"clip-{name}-masks": masks[[0, 4, 21]].astype(np.float32)}


def _stepped(net: Any, step: dict[str, Any], cue: Any, is_start: bool, before: Any) -> dict[str, Any]:
    is_mask = cue == "mask"
    output = net.track_step(
        **step,
        is_init_cond_frame=is_start,
        point_inputs=None if cue is None or is_mask else _points(cue),
        mask_inputs=torch.from_numpy(given_mask())[None, None].float() if is_mask else None,
        run_mem_encoder=False,
        prev_sam_mask_logits=None if before is None or is_mask else before["pred_masks"].clamp(-32, 32),
    )
    features, places = net._encode_new_memory(
        step["current_vision_feats"],
        step["feat_sizes"],
        output["pred_masks_high_res"],
        output["object_score_logits"],
        is_mask_from_pts=cue is not None,
    )
    output["maskmem_features"], output["maskmem_pos_enc"] = features, places
    return output


def main(checkout: str) -> None:
    code = opened(checkout)
    net, capped = built(code), built(code, MOST)
    names = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    weights = {name: torch.from_numpy(array) for name, array in drawn(names).items()}
    kept: dict[str, Any] = {"commit": COMMIT, "names": json.dumps(names)}
    with torch.inference_mode():
        net.load_state_dict(weights)
        capped.load_state_dict(weights)
        kept |= summed("many", *led(capped, MANY, torch.bfloat16))
        for name, (cue, is_ambiguous) in PICTURES.items():
            kept[f"picture-{name}-masks"], kept[f"picture-{name}-ious"] = pictured(net, cue, is_ambiguous)
        for name, cues in CLIPS.items():
            kept |= summed(name, *led(net, cues, torch.bfloat16))  # as their predictor keeps memories
    for kind, config in PUBLISHED.items():
        state = rename(published(checkout, config).state_dict())
        kept[f"digest-{kind}"] = digest({name: tuple(tensor.shape) for name, tensor in state.items()})
    np.savez_compressed(FILE, **kept)


if __name__ == "__main__":
    main(sys.argv[1])
