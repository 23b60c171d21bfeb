"""Records what the authors' EdgeTAM answers on drawn weights: clips, as ``record_sam2`` does for SAM 2.

    PYTHONPATH=tests python -m golden.record_edgetam CHECKOUT

``CHECKOUT`` is a copy of github.com/facebookresearch/EdgeTAM, of commit ``COMMIT``. Their image encoder is timm's
RepViT (see ``record_repvit``); here the net is built on SAM 2's, which their code has too, for what is recorded is how
it remembers. Their predictor keeps memories in half precision and transformers' does not: here they are kept whole.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golden.record_sam2 import CLIPS, GRID, HEADS, attended, based, drawn, led, opened, summed

COMMIT = "9cc44bfe9e16cc374242917b91283c718410ea87"
FILE = Path(__file__).with_name("edgetam.npz")
LATENTS = 4  # of each kind
HIDDEN = 0.7  # of ``drawn``: always in sight


def built(code: dict[str, Any]) -> Any:
    """Their net at toy size, as their configuration ``edgetam.yaml`` puts it together."""
    places = code["position_encoding"].PositionEmbeddingSine
    half = [GRID[0] // 2, GRID[1] // 2]
    cross = code["sam.transformer"].RoPEAttentionv2(**HEADS, q_sizes=GRID, k_sizes=half, kv_in_dim=64)
    perceiver = importlib.import_module("sam2.modeling.perceiver").PerceiverResampler(
        depth=2,
        dim=64,
        dim_head=64,
        heads=1,
        ff_mult=1,
        hidden_dropout_p=0.0,
        attention_dropout_p=0.0,
        pos_enc_at_key_value=True,
        concat_kv_latents=False,
        num_latents=LATENTS,
        num_latents_2d=LATENTS,
        position_encoding=places(num_pos_feats=64, normalize=True, scale=None, temperature=10000),
        use_self_attn=True,
    )
    return based(code, attended(code, cross), spatial_perceiver=perceiver, add_tpos_enc_to_obj_ptrs=False)


def main(checkout: str) -> None:
    net = built(opened(checkout))
    names = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    kept: dict[str, Any] = {"commit": COMMIT, "names": json.dumps(names)}
    with torch.inference_mode():
        net.load_state_dict({name: torch.from_numpy(array) for name, array in drawn(names, HIDDEN).items()})
        for name, cues in CLIPS.items():
            kept |= summed(name, *led(net, cues, torch.float32))
    np.savez_compressed(FILE, **kept)


if __name__ == "__main__":
    main(sys.argv[1])
