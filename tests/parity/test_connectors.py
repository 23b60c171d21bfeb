"""The connectors between towers and language models against timm's stage, VideoLLaMA2's, Honeybee's and LLaVA's.

The numbers are what the published code (timm 1.0.31, and the same with 1.0.3; VideoLLaMA2 and honeybee as of 2024,
LLaVA-NeXT) makes of drawn weights and drawn tokens. Differences there were none; the tolerance is for other machines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anmok.errors import BadWeights
from anmok.nets import honeybee, stc
from anmok.nets.honeybee import CAbstractor
from anmok.nets.pretrained import fill
from anmok.nets.projectors import mlp, projector
from anmok.nets.regstage import RegStage
from golden.record_repvit import drawn

# timm's RegStage(2, 6, 8) with LayerNorm2d.
BLOCK = {
    "conv1.conv.weight": (8, 8, 1, 1),
    "conv1.bn.weight": (8,),
    "conv1.bn.bias": (8,),
    "conv2.conv.weight": (8, 1, 3, 3),
    "conv2.bn.weight": (8,),
    "conv2.bn.bias": (8,),
    "se.fc1.weight": (2, 8, 1, 1),
    "se.fc1.bias": (2,),
    "se.fc2.weight": (8, 2, 1, 1),
    "se.fc2.bias": (8,),
    "conv3.conv.weight": (8, 8, 1, 1),
    "conv3.bn.weight": (8,),
    "conv3.bn.bias": (8,),
}
FIRST = {"conv1.conv.weight": (8, 6, 1, 1), "downsample.conv.weight": (8, 6, 1, 1)}
NORM = {"downsample.bn.weight": (8,), "downsample.bn.bias": (8,)}

CONNECTORS = {
    "stc_connector": (12, (2, 27, 16), [-0.505527, 0.169379, -0.263825, -0.011329, 0.262224, -0.053131]),
    "stc_connector_v35": (12, (2, 8, 16), [-0.158912, -0.001923, -0.064888, -0.14149, -0.166016, -0.049337]),
    "stp_connector": (12, (2, 8, 16), [-0.409073, 0.006646, -0.119515, -0.120422, 0.233153, -0.020339]),
    "spatial_conv": (16, (2, 54, 16), [-0.043918, -0.616549, -0.079064, 0.157033, 0.279679, -0.049324]),
    "spatial_pool": (16, (2, 16, 16), [0.009613, -0.03965, 0.098346, 0.14143, 0.061495, 0.030996]),
    "mlp2x_gelu": (12, (2, 25, 16), [0.511227, 0.362557, 0.343118, 0.002575, 0.503991, 0.408571]),
    "linear": (12, (2, 25, 16), [-0.61762, -0.064673, 0.116481, 0.068212, -0.430863, 0.913535]),
}
PROJECTORS = {
    "mlp2x_res1x_gelu": (25, [0.004035, -0.477972, -0.461483, -0.186676, -0.560114, -0.352978]),
    "pooler": (36, [0.440972, 0.330456, 0.423579, 0.545423, 0.481273, -0.461349]),
}
ABSTRACTED = {
    (9, False): [-0.014268, -0.236408, 0.061294, -0.101377, 0.12686, -0.340255],
    (4, False): [0.050569, -0.171436, 0.081636, -0.151623, 0.275627, -0.126191],
    (9, True): [-0.224335, -0.225077, 0.072651, -0.255566, 0.244015, -0.173047],
}


def drawn_net(net: nn.Module) -> nn.Module:
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    return fill(net, {name: torch.from_numpy(one) for name, one in drawn(shapes).items()}, torch.float32, "drawn")


def tokens(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(7).normal(0, 1, shape).astype(np.float32))


def assert_spread(found: Tensor, wanted: Sequence[float]) -> None:
    flat = found.detach().numpy().ravel()
    places = np.linspace(0, flat.size - 1, len(wanted)).astype(int)
    np.testing.assert_allclose(flat[places], wanted, rtol=1e-4, atol=2e-6)


def test_a_stage_has_timms_names_and_shapes() -> None:
    wanted = {f"b1.{name}": shape for name, shape in (BLOCK | FIRST | NORM).items()}
    wanted |= {f"b2.{name}": shape for name, shape in BLOCK.items()}
    assert {name: tuple(one.shape) for name, one in RegStage(2, 6, 8).state_dict().items()} == wanted


def test_a_stage_is_timms() -> None:
    with torch.inference_mode():
        found = drawn_net(RegStage(3, 12, 16))(tokens(2, 12, 5, 7))
    assert found.shape == (2, 16, 5, 7)
    assert_spread(found, [-0.256836, -0.07963, 0.14281, -0.143961, 0.475093, -0.106614])
    assert float(found.abs().mean()) == pytest.approx(0.279121, rel=1e-4)


def test_a_stage_of_one_width_has_no_shortcut() -> None:
    assert not [name for name in RegStage(2, 8, 8).state_dict() if "downsample" in name]
    assert len(RegStage(2, 8, 8).state_dict()) == 2 * len(BLOCK)


@pytest.mark.parametrize("name", CONNECTORS)
def test_connectors_are_videollama2s(name: str) -> None:
    width, shape, wanted = CONNECTORS[name]
    with torch.inference_mode():
        found = drawn_net(stc.connector(name, width, 16))(tokens(2, 4, 25, width))
    assert found.shape == shape
    assert shape[1] == stc.tokens(name, 4, 5)
    assert_spread(found, wanted)


def test_connectors_carry_the_published_names() -> None:
    names = set(stc.connector("stc_connector", 12, 16).state_dict())
    assert {"sampler.0.weight", "sampler.0.bias", "readout.0.weight", "readout.2.bias"} < names
    assert {name.split(".")[0] for name in names} == {"s1", "sampler", "s2", "readout"}
    assert {name.split(".")[1] for name in names if name[:2] in ("s1", "s2")} == {"b1", "b2", "b3", "b4"}
    assert set(stc.connector("linear", 12, 16).state_dict()) == {"weight", "bias"}
    assert set(stc.connector("mlp2x_gelu", 12, 16).state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize(
    ("name", "frames", "side", "count"),
    [
        ("stc_connector", 8, 24, 5 * 13 * 13),  # VideoLLaMA2-7B
        ("stc_connector", 16, 24, 9 * 13 * 13),  # -16F
        ("stc_connector_v35", 16, 27, 8 * 13 * 13),  # 2.1
        ("mlp2x_gelu", 8, 24, 576),
    ],
)
def test_published_counts_of_tokens(name: str, frames: int, side: int, count: int) -> None:
    assert stc.tokens(name, frames, side) == count


def test_a_clip_is_connected_by_itself() -> None:
    net = drawn_net(stc.connector("stc_connector", 12, 16))
    clips = tokens(3, 4, 25, 12)
    with torch.inference_mode():
        together, alone = net(clips), torch.cat([net(clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_picture_is_the_same_frame_again_and_again(name: str) -> None:
    net = stc.connector(name, CONNECTORS[name][0], 16)
    drawn_net(net)
    frame = tokens(2, 25, CONNECTORS[name][0])
    with torch.inference_mode():
        wanted = net(frame[:, None].expand(-1, 4, -1, -1))
        torch.testing.assert_close(net.still(frame, 4), wanted, rtol=1e-5, atol=1e-6)


def test_connectors_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadWeights, match="mm_projector_type 'qformer': want stc_connector"):
        stc.connector("qformer", 12, 16)
    with pytest.raises(BadWeights, match="the widths 12 and 16 are not the same"):
        stc.connector("spatial_conv", 12, 16)


@pytest.mark.parametrize(("queries", "has_norm"), ABSTRACTED)
def test_the_abstractor_is_honeybees(queries: int, has_norm: bool) -> None:
    net = CAbstractor(honeybee.Config(25, 12, queries, 10, has_norm=has_norm))
    assert len(net.state_dict()) == 83 + 2 * has_norm
    with torch.inference_mode():
        found = drawn_net(net)(tokens(2, 25, 12))
    assert found.shape == (2, queries, 10)
    assert_spread(found, ABSTRACTED[queries, has_norm])


def test_one_map_can_be_pooled_to_more_and_to_fewer() -> None:
    """What HyperCLOVA X does with frames: the net built for 9 queries gives what the one built for 4 would."""
    net = drawn_net(CAbstractor(honeybee.Config(25, 12, 9, 10)))
    assert isinstance(net, CAbstractor)
    with torch.inference_mode():
        found = net.pooled(net.mapped(tokens(2, 25, 12)), 4)
    assert found.shape == (2, 4, 10)
    assert_spread(found, ABSTRACTED[4, False])


def test_the_abstractor_carries_the_published_names() -> None:
    names = set(CAbstractor(honeybee.Config(25, 12, 9, 10)).state_dict())
    assert {"pos_emb", "readout.0.weight", "readout.2.bias", "net.0.b3.se.fc2.weight", "net.2.b1.conv1.bn.bias"} < names
    assert not any(name.startswith(("net.1", "prenorm")) or "downsample" in name for name in names)
    assert "pos_emb" not in CAbstractor(honeybee.Config(25, 12, 9, 10, has_positions=False)).state_dict()


@pytest.mark.parametrize(("count", "queries"), [(24, 9), (25, 8), (25, 0)])
def test_only_squares_are_abstracted(count: int, queries: int) -> None:
    with pytest.raises(BadWeights, match="no square number"):
        honeybee.Config(count, 12, queries, 10)


@pytest.mark.parametrize("kind", PROJECTORS)
def test_projectors_are_llavas(kind: str) -> None:
    count, wanted = PROJECTORS[kind]
    with torch.inference_mode():
        found = drawn_net(projector(kind, 12, 16))(tokens(2, count, 12))
    assert found.shape == (2, 9 if kind == "pooler" else 25, 16)
    assert_spread(found, wanted)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_mlp_is_layers_with_gelu_between(depth: int) -> None:
    net = drawn_net(projector(f"mlp{depth}x_gelu", 12, 16))
    assert list(net.state_dict()) == [f"{2 * i}.{part}" for i in range(depth) for part in ("weight", "bias")]
    x = tokens(2, 5, 12)
    with torch.inference_mode():
        wanted = x
        for i in range(depth):
            wanted = nn.functional.gelu(wanted) if i else wanted
            wanted = wanted @ net.state_dict()[f"{2 * i}.weight"].T + net.state_dict()[f"{2 * i}.bias"]
        torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-6)


def test_linear_and_identity() -> None:
    assert list(projector("linear", 12, 16).state_dict()) == ["weight", "bias"]
    x = tokens(2, 5, 12)
    assert torch.equal(projector("identity", 12, 12)(x), x)
    with pytest.raises(BadWeights, match="the widths 12 and 16 are not the same"):
        projector("identity", 12, 16)


@pytest.mark.parametrize("kind", ["mlp0x_gelu", "mlp2x_relu", "mlp2x_gelu ", "cross_attention", ""])
def test_other_projectors_are_refused(kind: str) -> None:
    with pytest.raises(BadWeights, match="want linear, identity, pooler"):
        projector(kind, 12, 16)


def test_weights_that_do_not_fit_are_refused() -> None:
    state = mlp(2, 4, 6, nn.GELU).state_dict()
    with torch.device("meta"):
        net = mlp(2, 4, 6, nn.GELU)
    with pytest.raises(
        BadWeights, match=r"card: .* 1 missing \(2.bias\); 1 left over \(more\); 1 of another shape \(0.b"
    ):
        fill(
            net,
            {key: one for key, one in state.items() if key != "2.bias"}
            | {"more": torch.ones(1), "0.bias": torch.ones(5)},
            torch.float32,
            "card",
        )
    filled = fill(net, state, torch.float32, "card")
    assert not filled.training
    assert torch.equal(filled(torch.ones(1, 4)), mlp_of(state)(torch.ones(1, 4)))


def mlp_of(state: dict[str, Tensor]) -> nn.Module:
    net = mlp(2, 4, 6, nn.GELU)
    net.load_state_dict(state)
    return net
