"""The blocks of a tower, read with fewer steps, give what transformers' blocks give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer
from transformers.models.internvl.configuration_internvl import InternVLVisionConfig
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from anmok.errors import Unsupported
from anmok.nets import lean_tower
from anmok.nets.lean_attention import attended
from anmok.nets.lean_tower import Block, lay_out_blocks
from anmok.nets.lean_weights import Twin, laid_nbytes, lay_out, multiplies_bytes

SHAPE: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 192,
    "patch_size": 16,
}


def tower(kind: str, act: str | None = None) -> Any:
    torch.manual_seed(0)
    more: dict[str, Any] = {} if act is None else {"hidden_act": act}
    net: Any
    match kind:
        case "clip":
            net = CLIPVisionModel(CLIPVisionConfig(**SHAPE, **more))
        case "siglip":
            net = SiglipVisionModel(SiglipVisionConfig(**SHAPE, **more))
        case "internvl":
            net = InternVLVisionModel(InternVLVisionConfig(**SHAPE, **more, attention_bias=True))
        case "internvl without":
            net = InternVLVisionModel(InternVLVisionConfig(**SHAPE, **more, attention_bias=False))
        case _:
            net = Idefics3VisionTransformer(Idefics3VisionConfig(**SHAPE, **more))
    for parameter in net.parameters():  # norms and biases too, which a fresh net has at one and zero
        parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    return net.eval()


def pixels(count: int) -> Tensor:
    return torch.rand(count, 3, 192, 192, generator=torch.Generator().manual_seed(1)) * 2 - 1


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.fixture(params=["bytes", "bfloat16"])
def most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """By what blocks may be off, with and without instructions for bytes: these have 127 steps on each side, of which
    rows use up to a quarter; bfloat16 rounds each product by up to 2 ** -9. Sums and norms are float32."""
    if request.param == "bytes" and multiplies_bytes():
        return 0.03
    monkeypatch.setattr(lean_tower, "multiplies_bytes", lambda: False)
    return 0.01


@pytest.mark.parametrize("kind", ["clip", "siglip", "idefics3", "internvl", "internvl without"])
@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh", "quick_gelu"])
def test_rows_are_near_those_of_the_tower(kind: str, act: str, most: float) -> None:
    net, shown = tower(kind, act), pixels(2)
    with torch.inference_mode():
        want = net(shown).last_hidden_state
        assert lay_out_blocks(net) == 3 * 6
        got = net(shown).last_hidden_state
    assert got.dtype == torch.float32
    assert 1e-5 < error(got, want) < most
    assert lay_out_blocks(net) == 0  # they are
    assert lay_out(net) == 0 or kind == "siglip"  # SigLIP's head has Linears of its own


def test_what_each_layer_gave_is_taken_down_as_before(most: float) -> None:
    """LLaVA looks with the rows before the last layer."""
    net, shown = tower("clip"), pixels(1)
    with torch.inference_mode():
        want = net(shown, output_hidden_states=True).hidden_states
        lay_out_blocks(net)
        got = net(shown, output_hidden_states=True).hidden_states
    assert len(got) == len(want) == 4
    assert all(error(one, other) < most for one, other in zip(got, want, strict=True))
    assert torch.equal(got[0], want[0])


def test_a_picture_among_others_is_seen_as_by_itself() -> None:
    net, shown = tower("siglip"), pixels(3)
    lay_out_blocks(net)
    with torch.inference_mode():
        together = net(shown).last_hidden_state
        alone = torch.cat([net(shown[i : i + 1]).last_hidden_state for i in range(3)])
    assert error(together, alone) < 1e-5  # the patches alone come from a convolution of all pictures


def test_what_is_padding_is_not_seen(most: float) -> None:
    net, shown = tower("idefics3"), pixels(2)
    there = torch.ones(2, 12, 12, dtype=torch.bool)
    there[1, :, 8:] = False
    with torch.inference_mode():
        want = net(shown, patch_attention_mask=there).last_hidden_state
        lay_out_blocks(net)
        got = net(shown, patch_attention_mask=there).last_hidden_state
        everything = net(shown).last_hidden_state
    kept = there.flatten(1)
    assert error(got[kept], want[kept]) < most
    assert error(everything[1][kept[1]], want[1][kept[1]]) > 2 * most  # so the mask is what made them alike


@pytest.mark.parametrize(("count", "width"), [(1, 8), (127, 8), (128, 24), (1100, 16)])
def test_attention_head_by_head_is_attention(count: int, width: int) -> None:
    draw = torch.Generator().manual_seed(count)
    q, k, v = (torch.randn(count, 3, width, generator=draw) for _ in range(3))
    q, k, v = (one.to(torch.bfloat16) for one in (q * width**-0.5, k, v))
    heads = [one.float().transpose(0, 1) for one in (q, k, v)]  # (H, T, D)
    exact = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], scale=1.0)  # (H, T, D)
    got = attended(q, k, v)
    assert got.shape == (count, 3 * width)
    assert error(got.float(), exact.transpose(0, 1).reshape(count, -1)) < 0.01


def test_a_twin_without_onednn_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    weight, bias, rows = (torch.randn(*shape, generator=draw) for shape in ((32, 16), (32,), (20, 16)))
    laid = Twin(weight, bias=bias)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = Twin(weight, bias=bias)
    for then in (None, "gelu", "gelu-tanh", "gelu-quick"):
        got, want = (one(rows.to(torch.bfloat16), then).float() for one in (laid, plain))
        assert error(got, want) < 0.005  # the one rounds before GELU as well
    assert laid.nbytes == plain.nbytes == 2 * (32 * 16 + 32)


def test_what_a_block_weighs(most: float) -> None:
    net = tower("clip")
    blocks = sum(one.numel() for one in net.encoder.parameters())
    norms = 3 * 4 * 48
    lay_out_blocks(net)
    assert sum(isinstance(one, Block) for one in net.modules()) == 3
    if most == 0.01:
        assert laid_nbytes(net) == 2 * (blocks - norms) + 4 * norms
    else:
        read = 3 * 48 + 80  # rows behind norms: of bytes, scale, code of zero and bias; the norms: signs, a block
        rest = 48 * 48 + 48 * 80 + 2 * 48
        assert laid_nbytes(net) == 3 * (read * (48 + 4 + 8 + 4) + 2 * rest + 2 * 4 * (48 + 16 * 16))
    assert not any("encoder" in name for name in net.state_dict())


@pytest.mark.parametrize("size", [0.0, 1e-3])
def test_faint_rows_are_kept_from_zero_by_epsilon(size: float, most: float) -> None:
    """Rows of the size of the root of epsilon are normed to less than 1, and rows of nothing to nothing."""
    net = tower("siglip")
    rows = size * torch.randn(1, 144, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = net.encoder.layers[0](rows, attention_mask=None)
        lay_out_blocks(net)
        got = net.encoder.layers[0](rows, attention_mask=None)
    assert error(got, want) < most


def test_a_text_is_not_read_as_a_picture() -> None:
    config = CLIPTextConfig(vocab_size=99, hidden_size=48, intermediate_size=80, num_hidden_layers=1, eos_token_id=98)
    text = CLIPTextModel(config).eval()
    assert lay_out_blocks(text) == 6  # its blocks are of the class of those that look
    with pytest.raises(Unsupported, match="asked to read a text"), torch.inference_mode():
        text(torch.tensor([[1, 2, 98]]))


def test_other_blocks_are_left_alone() -> None:
    net = tower("clip", "relu")
    assert lay_out_blocks(net) == 0
    assert lay_out_blocks(tower("clip").to(torch.float64)) == 0
    assert lay_out_blocks(nn.TransformerEncoderLayer(8, 2)) == 0
    for more in ({"use_qk_norm": True}, {"norm_type": "rms_norm"}):  # the largest of InternVL's towers
        assert lay_out_blocks(InternVLVisionModel(InternVLVisionConfig(**SHAPE, **more))) == 0
