"""EfficientNet-Lite against the paper's arithmetic, written out step by step under the published names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from anmok.nets.efficientnet_lite import (
    LITE0,
    LITE1,
    LITE2,
    LITE3,
    LITE4,
    TINY,
    Config,
    EfficientNetLite,
    fold,
    rename,
)

# (kernel, stride, expansion, inputs, outputs) of TINY's blocks, worked out by hand from the paper's table.
TINY_BLOCKS = [
    (3, 1, 1, 32, 8),
    (3, 2, 6, 8, 8),
    (5, 2, 6, 8, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 1, 6, 24, 32),
    (5, 1, 6, 32, 32),
    (5, 2, 6, 32, 48),
    (5, 1, 6, 48, 48),
    (3, 1, 6, 48, 80),
]
State = dict[str, Tensor]


def published_state() -> State:
    """Random weights of TINY under the published names, scaled so that no layer dies out."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        gain = (2 / (inputs * kernel**2)) ** 0.5
        state[f"{name}.weight"] = gain * torch.randn(outputs, inputs, kernel, kernel, generator=generator)

    def norm(name: str, channels: int) -> None:
        for part, low, high in (
            ("weight", 0.6, 1.4),
            ("bias", 0.0, 0.6),
            ("running_mean", -0.3, 0.3),
            ("running_var", 0.5, 1.5),
        ):
            state[f"{name}.{part}"] = low + (high - low) * torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    for i, (kernel, _, expansion, inputs, outputs) in enumerate(TINY_BLOCKS):
        wide = inputs * expansion
        if expansion > 1:
            conv(f"_blocks.{i}._expand_conv", wide, inputs, 1)
            norm(f"_blocks.{i}._bn0", wide)
        conv(f"_blocks.{i}._depthwise_conv", wide, 1, kernel)
        norm(f"_blocks.{i}._bn1", wide)
        conv(f"_blocks.{i}._project_conv", outputs, wide, 1)
        norm(f"_blocks.{i}._bn2", outputs)
    conv("_conv_head", 1280, 80, 1)
    norm("_bn1", 1280)
    state["_fc.weight"] = torch.randn(10, 1280, generator=generator) / 1280**0.5
    state["_fc.bias"] = torch.randn(10, generator=generator)
    return state


def same(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """A convolution padded as TensorFlow's SAME: ceil(side / stride) outputs, the odd zero at the far end."""
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):  # functional.pad wants the last axis first
        total = max((math.ceil(side / stride) - 1) * stride + weight.shape[-1] - side, 0)
        pads += [total // 2, total - total // 2]
    return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)


def reference(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """(features, logits) by the published names."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / torch.sqrt(var + 1e-3)
        return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]

    x = norm(same(x, state["_conv_stem.weight"], 2, 1), "_bn0").clamp(0, 6)
    for i, (_, stride, expansion, inputs, outputs) in enumerate(TINY_BLOCKS):
        block = f"_blocks.{i}."
        y = x
        if expansion > 1:
            y = norm(same(y, state[block + "_expand_conv.weight"], 1, 1), block + "_bn0").clamp(0, 6)
        y = same(y, state[block + "_depthwise_conv.weight"], stride, y.shape[1])
        y = norm(y, block + "_bn1").clamp(0, 6)
        y = norm(same(y, state[block + "_project_conv.weight"], 1, 1), block + "_bn2")
        x = y + x if stride == 1 and inputs == outputs else y
    x = norm(same(x, state["_conv_head.weight"], 1, 1), "_bn1").clamp(0, 6)
    features = x.flatten(2).mean(2)
    return features, features @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.fixture(scope="module")
def state() -> State:
    return published_state()


@pytest.fixture(scope="module")
def net(state: State) -> EfficientNetLite:
    net = EfficientNetLite(TINY).eval()
    net.load_state_dict(rename(state), strict=True)
    return net


def images(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_near(got: Tensor, wanted: Tensor, relative: float) -> None:
    assert got.shape == wanted.shape
    assert ((got - wanted).abs().max() / wanted.abs().max()).item() < relative


# Even and odd sides meet each stride of 2 here: 64 is even at every one of them, 65 at none, 50 at the first.
@pytest.mark.parametrize("size", [(64, 64), (65, 65), (50, 71), (33, 1)])
def test_equals_the_reference_at_every_parity_of_the_sides(
    net: EfficientNetLite, state: State, size: tuple[int, int]
) -> None:
    x = images(2, *size)
    features, logits = reference(state, x)
    assert (features[0] - features[1]).abs().max() > 0.1  # else the weights would hide the image
    with torch.inference_mode():
        assert_near(net.features(x), features, 1e-5)
        assert_near(net(x), logits, 1e-5)


def test_padding_on_the_wrong_side_would_be_seen(net: EfficientNetLite, state: State) -> None:
    x = images(1, 64, 64)
    turned = {k: v.flip(-2, -1) if v.ndim == 4 else v for k, v in state.items()}
    near_side_features, _ = reference(turned, x.flip(2, 3))  # kernels and image turned: zeros at the near end
    with torch.inference_mode():
        assert (net.features(x) - near_side_features).abs().max() > 0.05


def test_folding_changes_nothing_but_rounding(net: EfficientNetLite) -> None:
    folded = fold(net)
    x = images(5, 64, 50)
    with torch.inference_mode():
        assert_near(folded.features(x), net.features(x), 1e-5)
        assert_near(folded(x), net(x), 1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_folding_leaves_the_net_as_it_was(state: State) -> None:
    net = EfficientNetLite(TINY)
    net.load_state_dict(rename(state), strict=True)
    fold(net)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in rename(state).items())


def test_an_image_does_not_see_its_batch(net: EfficientNetLite) -> None:
    folded = fold(net)
    x = images(9, 40, 40)  # three parts: 4, 4 and 1
    with torch.inference_mode():
        singles = torch.cat([folded.features(x[i : i + 1]) for i in range(9)])
        assert (folded.features(x) - singles).abs().max() < 1e-5
        assert folded.features(x[:0]).shape == (0, 1280)


def test_only_a_folded_net_takes_its_batch_apart(state: State) -> None:
    net = EfficientNetLite(TINY)
    net.load_state_dict(rename(state), strict=True)
    seen: list[int] = []
    for each in (net, fold(net)):  # the first in training, where batch norm needs the whole batch
        each.stem.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        each.features(images(9, 32, 32))
    assert seen == [9, 4, 4, 1]


def test_training_reaches_every_weight(state: State) -> None:
    net = EfficientNetLite(TINY)
    net.load_state_dict(rename(state), strict=True)
    net(images(4, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_fresh_net_carries_its_image_to_the_logits() -> None:
    torch.manual_seed(0)
    net = EfficientNetLite(TINY).eval()
    with torch.inference_mode():
        logits = net(images(2, 64, 64))
    assert (logits[0] - logits[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("config", "parameters", "blocks"),
    [
        (LITE0, 4_652_008, 16),
        (LITE1, 5_416_680, 21),
        (LITE2, 6_092_072, 21),
        (LITE3, 8_197_096, 24),
        (LITE4, 13_006_568, 30),
    ],
)
def test_published_sizes(config: Config, parameters: int, blocks: int) -> None:
    with torch.device("meta"):
        net = EfficientNetLite(config)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.blocks) == blocks


def test_lite2_has_as_many_entries_as_the_published_file() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in EfficientNetLite(LITE2).state_dict().items()}
    assert len(shapes) == 386
    published = {"_blocks.1._expand_conv.weight": (96, 16, 1, 1), "_blocks.20._bn2.bias": (352,)}
    for name, shape in published.items():
        [ours] = rename({name: torch.empty(0)})
        assert shapes[ours] == shape


def test_rename_keeps_our_own_names_and_strict_loading_refuses_strangers(state: State) -> None:
    renamed = rename(state)
    assert rename(renamed).keys() == renamed.keys()
    assert len(renamed) == len(state)
    stranger = rename({**state, "_se_reduce.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="_se_reduce"):
        EfficientNetLite(TINY).load_state_dict(stranger, strict=True)
