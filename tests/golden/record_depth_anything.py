"""Records what the authors' Depth Anything V2 answers: on drawn weights and a drawn picture, a tiny net.

    PYTHONPATH=tests python -m golden.record_depth_anything CHECKOUT

``CHECKOUT`` is a copy of github.com/DepthAnything/Depth-Anything-V2 of commit ``COMMIT``. OpenCV and torchvision, which
it imports for what is not run here, are stood in for. The weights are drawn by transformers' names, so that the test
draws them again, and are carried over to the authors' names by ``reference_state``.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

COMMIT = "a561b849ebae10a6f5ef49e26c83cbbcd36c71bf"
FILE = Path(__file__).with_name("depth_anything.json")
SIZE, WIDTH, DEPTH, HEADS = 70, 32, 4, 2  # pixels, channels, blocks, heads
LEVELS, FUSED, LAST = (8, 12, 16, 20), 16, 32
MAX_DEPTH = 20.0
KEPT = 64  # values of each answer

_PARTS = {
    "backbone.embeddings.cls_token": "pretrained.cls_token",
    "backbone.embeddings.mask_token": "pretrained.mask_token",
    "backbone.embeddings.position_embeddings": "pretrained.pos_embed",
    "backbone.embeddings.patch_embeddings.projection": "pretrained.patch_embed.proj",
    "backbone.layernorm": "pretrained.norm",
    "head.conv1": "depth_head.scratch.output_conv1",
    "head.conv2": "depth_head.scratch.output_conv2.0",
    "head.conv3": "depth_head.scratch.output_conv2.2",
}
for _i in range(4):
    _PARTS[f"neck.reassemble_stage.layers.{_i}.projection"] = f"depth_head.projects.{_i}"
    _PARTS[f"neck.reassemble_stage.layers.{_i}.resize"] = f"depth_head.resize_layers.{_i}"
    _PARTS[f"neck.convs.{_i}"] = f"depth_head.scratch.layer{_i + 1}_rn"
    _fused = f"depth_head.scratch.refinenet{4 - _i}"
    _PARTS[f"neck.fusion_stage.layers.{_i}.projection"] = f"{_fused}.out_conv"
    for _unit in (1, 2):
        for _conv in (1, 2):
            ours = f"neck.fusion_stage.layers.{_i}.residual_layer{_unit}.convolution{_conv}"
            _PARTS[ours] = f"{_fused}.resConfUnit{_unit}.conv{_conv}"
_BLOCK = {
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights by name, each from a seed of its own: normal, small, around 1 where a layer scales."""
    state = {}
    for name, shape in shapes.items():
        values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.15, shape)
        is_scale = name.endswith("lambda1") or ("norm" in name and name.endswith("weight"))
        state[name] = torch.from_numpy((values + is_scale).astype(np.float32))
    return state


def picture() -> NDArray[np.float32]:
    """(1, 3, SIZE, SIZE), as normalised pixels are."""
    return np.random.default_rng(7).normal(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)


def reference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transformers' names to the authors'; query, key and value become one matrix."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, leaf = name.rpartition(".")
        if name in _PARTS or stem in _PARTS:
            out[_PARTS[name] if name in _PARTS else f"{_PARTS[stem]}.{leaf}"] = tensor
            continue
        number, inside = name.split("layer.", 1)[1].split(".", 1)
        block = f"pretrained.blocks.{number}"
        if "q_proj" in inside:
            three = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            out[f"{block}.attn.qkv.{leaf}"] = torch.cat(three)  # (3 D, ...)
        elif "k_proj" not in inside and "v_proj" not in inside:
            for ours, theirs in _BLOCK.items():
                inside = inside.replace(ours, theirs)
            out[f"{block}.{inside}"] = tensor
    return out


def main() -> None:
    from transformers import DepthAnythingForDepthEstimation

    from parity.test_depth_anything import config

    for name in ("cv2", "torchvision", "torchvision.transforms"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.transforms"].Compose = object  # type: ignore[attr-defined]
    for name in ("INTER_AREA", "INTER_CUBIC", "INTER_NEAREST"):
        setattr(sys.modules["cv2"], name, 0)
    answers: dict[str, Any] = {"commit": COMMIT}
    for kind, folder in (("relative", ""), ("metric", "metric_depth")):
        sys.path.insert(0, str(Path(sys.argv[1]) / folder))
        for module in [name for name in sys.modules if name.startswith("depth_anything_v2")]:
            del sys.modules[module]
        dpt = importlib.import_module("depth_anything_v2.dpt")
        dino = importlib.import_module("depth_anything_v2.dinov2")
        net = _reference(dpt, dino)
        shapes = {n: tuple(t.shape) for n, t in DepthAnythingForDepthEstimation(config(kind)).state_dict().items()}
        net.load_state_dict(reference_state(drawn(shapes)))
        with torch.inference_mode():
            depth = net(torch.from_numpy(picture()))[0].numpy()
        answers[kind] = {"mean": float(depth.mean()), "sample": depth.ravel()[:: depth.size // KEPT][:KEPT].tolist()}
    FILE.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


def _reference(dpt: Any, dino: Any) -> nn.Module:
    """The authors' net at a size that their constructor does not offer."""
    net = dpt.DepthAnythingV2.__new__(dpt.DepthAnythingV2)
    nn.Module.__init__(net)
    net.encoder, net.max_depth = "tiny", MAX_DEPTH
    net.intermediate_layer_idx = {"tiny": [0, 1, 2, 3]}
    net.pretrained = dino.DinoVisionTransformer(
        img_size=SIZE, patch_size=14, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, init_values=1.0, block_chunks=0
    )
    net.depth_head = dpt.DPTHead(WIDTH, FUSED, False, out_channels=list(LEVELS))
    # Their refinenet4 has a first unit that is never run; transformers has it too.
    return net.eval()


if __name__ == "__main__":
    main()
