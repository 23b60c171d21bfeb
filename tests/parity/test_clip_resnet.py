"""CLIP's ResNet tower and text tower against the published arithmetic, written out step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from anmok.errors import BadRequest, BadWeights
from anmok.nets.clip_resnet import (
    RN50,
    RN50X4,
    RN50X16,
    RN50X64,
    RN101,
    TINY,
    ClipResNet,
    Config,
    split_openai_state,
)

State = dict[str, Tensor]
WIDTH, LAYERS, HEADS, CONTEXT, VOCABULARY = 32, 2, 4, 7, 50  # of the tiny text tower


def visual_state() -> State:
    """TINY's weights, redrawn so that no layer dies out and the attention is far from uniform."""
    generator = torch.Generator().manual_seed(0)
    state = ClipResNet(TINY).state_dict()
    for name, tensor in state.items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bias", "running_mean", "positional_embedding")):
            tensor.normal_(0, 0.2, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    return state


def reference(state: State, x: Tensor) -> Tensor:
    """The tower, one operation after another; the pool through PyTorch's own multi-head attention."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return functional.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-5)

    for i in (1, 2, 3):
        x = conv_norm(x, f"conv{i}", f"bn{i}", stride=2 if i == 1 else 1).relu()
    x = functional.avg_pool2d(x, 2)
    for stage, depth in enumerate(TINY.depths, start=1):
        for i in range(depth):
            block = f"layer{stage}.{i}"
            is_strided = stage > 1 and i == 0
            y = conv_norm(x, f"{block}.conv1", f"{block}.bn1").relu()
            y = conv_norm(y, f"{block}.conv2", f"{block}.bn2").relu()
            if is_strided:
                x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
            y = conv_norm(y, f"{block}.conv3", f"{block}.bn3")
            if i == 0:
                x = conv_norm(x, f"{block}.downsample.0", f"{block}.downsample.1")
            x = (x + y).relu()
    tokens = x.flatten(2).permute(2, 0, 1)  # (h*w, B, D)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens])  # (1 + h*w, B, D)
    tokens = tokens + state["attnpool.positional_embedding"][:, None, :]
    pooled, _ = functional.multi_head_attention_forward(
        tokens[:1],
        tokens,
        tokens,
        embed_dim_to_check=tokens.shape[-1],
        num_heads=tokens.shape[-1] // 64,
        in_proj_weight=None,
        in_proj_bias=torch.cat([state[f"attnpool.{p}_proj.bias"] for p in "qkv"]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=state["attnpool.c_proj.weight"],
        out_proj_bias=state["attnpool.c_proj.bias"],
        use_separate_proj_weight=True,
        need_weights=False,
        q_proj_weight=state["attnpool.q_proj.weight"],
        k_proj_weight=state["attnpool.k_proj.weight"],
        v_proj_weight=state["attnpool.v_proj.weight"],
    )
    return pooled[0]


def text_state() -> State:
    """A tiny text tower's random weights under OpenAI's names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 0.2) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    state = {
        "token_embedding.weight": draw(VOCABULARY, WIDTH, scale=1.0),
        "positional_embedding": draw(CONTEXT, WIDTH),
        "text_projection": draw(WIDTH, 16),
        "ln_final.weight": 1 + draw(WIDTH),
        "ln_final.bias": draw(WIDTH),
    }
    for i in range(LAYERS):
        layer = f"transformer.resblocks.{i}."
        for norm in ("ln_1", "ln_2"):
            state |= {f"{layer}{norm}.weight": 1 + draw(WIDTH), f"{layer}{norm}.bias": draw(WIDTH)}
        state |= {
            layer + "attn.in_proj_weight": draw(3 * WIDTH, WIDTH),
            layer + "attn.in_proj_bias": draw(3 * WIDTH),
            layer + "attn.out_proj.weight": draw(WIDTH, WIDTH),
            layer + "attn.out_proj.bias": draw(WIDTH),
            layer + "mlp.c_fc.weight": draw(4 * WIDTH, WIDTH),
            layer + "mlp.c_fc.bias": draw(4 * WIDTH),
            layer + "mlp.c_proj.weight": draw(WIDTH, 4 * WIDTH),
            layer + "mlp.c_proj.bias": draw(WIDTH),
        }
    return state


def text_reference(state: State, ids: Tensor) -> Tensor:
    """The last token's embedding: pre-norm layers, causal attention, x * sigmoid(1.702 x), x @ projection."""

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    is_later = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1)
    x = state["token_embedding.weight"][ids] + state["positional_embedding"]  # (B, T, D)
    for i in range(LAYERS):
        layer = f"transformer.resblocks.{i}."
        joint = norm(x, layer + "ln_1") @ state[layer + "attn.in_proj_weight"].T
        joint = joint + state[layer + "attn.in_proj_bias"]  # (B, T, 3 D)
        per_head = []
        for head in range(HEADS):
            size = WIDTH // HEADS
            q, k, v = (joint[..., part * WIDTH + head * size :][..., :size] for part in range(3))
            scores = (q @ k.transpose(1, 2) / size**0.5).masked_fill(is_later, float("-inf"))  # (B, T, T)
            per_head.append(scores.softmax(-1) @ v)
        x = x + linear(torch.cat(per_head, -1), layer + "attn.out_proj")
        wide = linear(norm(x, layer + "ln_2"), layer + "mlp.c_fc")
        x = x + linear(wide * torch.sigmoid(1.702 * wide), layer + "mlp.c_proj")
    return norm(x, "ln_final")[:, -1] @ state["text_projection"]


def test_image_tower_equals_the_reference() -> None:
    state = visual_state()
    net = ClipResNet(TINY).eval()
    net.load_state_dict(state, strict=True)
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, wanted = net(x), reference(state, x)
    assert got.shape == (3, 16)
    assert (wanted[0] - wanted[1]).abs().max() > 0.1  # else the weights would hide the image
    assert ((got - wanted).abs().max() / wanted.abs().max()).item() < 1e-5


def test_text_tower_equals_the_reference_in_transformers() -> None:
    state = text_state()
    visual, text = split_openai_state(state)
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        projection_dim=16,
        hidden_act="quick_gelu",
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=0,
    )
    theirs = CLIPTextModelWithProjection(config)
    theirs.train(False)
    theirs.load_state_dict(text, strict=True)
    ids = torch.randint(1, VOCABULARY - 2, (3, CONTEXT), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = VOCABULARY - 1  # the end token, whose state is the text's
    with torch.inference_mode():
        got, wanted = theirs(ids).text_embeds, text_reference(state, ids)
    assert visual == {}
    assert ((got - wanted).abs().max() / wanted.abs().max()).item() < 1e-5


def test_a_whole_checkpoint_splits_into_its_towers() -> None:
    visual = visual_state()
    whole = {f"visual.{name}": tensor for name, tensor in visual.items()} | text_state()
    extras = {name: torch.tensor(1.0) for name in ("logit_scale", "input_resolution", "context_length", "vocab_size")}
    image_tower, text_tower = split_openai_state(whole | extras)
    assert image_tower.keys() == visual.keys()
    assert len(text_tower) == 5 + 16 * LAYERS
    weight = text_tower["text_model.encoder.layers.1.self_attn.k_proj.weight"]
    assert torch.equal(weight, whole["transformer.resblocks.1.attn.in_proj_weight"][WIDTH : 2 * WIDTH])
    # Each stands on its own memory, as a safetensors file demands.
    assert all(t.is_contiguous() for t in text_tower.values())
    assert len({t.untyped_storage().data_ptr() for t in text_tower.values()}) == len(text_tower)


@pytest.mark.parametrize(
    "name", ["text.token_embedding.weight", "transformer.resblocks.0.attn.q_proj.weight", "ln_final"]
)
def test_a_name_of_another_checkpoint_is_refused(name: str) -> None:
    with pytest.raises(BadWeights, match=name):
        split_openai_state({name: torch.zeros(1)})


def test_another_image_size_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"96 x 64 pixels.*reads 64 x 64"):
        ClipResNet(TINY)(torch.zeros(1, 3, 96, 64))


@pytest.mark.parametrize(
    ("config", "parameters", "entries"),
    [
        (RN50, 38_316_896, 339),
        (RN101, 56_259_936, 645),
        (RN50X4, 87_137_080, 519),
        (RN50X16, 167_328_912, 771),
        (RN50X64, 420_380_352, 1203),
    ],
)
def test_published_sizes(config: Config, parameters: int, entries: int) -> None:
    with torch.device("meta"):
        net = ClipResNet(config)
    state = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(state) == entries
    tokens, channels = (config.resolution // 32) ** 2 + 1, 32 * config.width
    assert state["attnpool.positional_embedding"].shape == (tokens, channels)
    assert state["layer4.0.downsample.0.weight"].shape == (channels, channels // 2, 1, 1)
    assert state["attnpool.c_proj.weight"].shape == (config.dimension, channels)
