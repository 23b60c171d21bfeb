"""What is read out of a GGUF file against what transformers reads out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM

from anmok.nets.gguf_files import opened
from toy_gguf import Q4_1, logits, net, written


def test_four_bits_are_widened_as_transformers_widens_them(tmp_path: Path) -> None:
    made = net()
    path = written(tmp_path / "a.gguf", made, Q4_1)
    found = opened(path, torch.float32, "toy").net
    theirs = AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file=path.name, local_files_only=True)
    ours = found.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, ours[key]) for key, value in theirs.state_dict().items())
    whole = made.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    packed = dequantize(quantize(whole, Q4_1), Q4_1)
    np.testing.assert_array_equal(ours["model.layers.1.mlp.up_proj.weight"].numpy(), packed)
    assert 0 < np.abs(packed - whole).max() < 0.06
    assert (logits(found) - logits(theirs.eval())).abs().max() == 0
