"""VideoLLaMA2's ear against Kaldi's filterbank (torchaudio's port of it) and BEATs, both with drawn numbers.

Energies are logarithms; those of bands with next to nothing in them are differences of large numbers, hence the
tolerance of 1e-3 there.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anmok.errors import BadWeights
from anmok.nets import beats
from anmok.nets.beats import Beats, Config, buckets, kept
from anmok.nets.filterbank import filterbank, windows
from anmok.nets.hearing import TOKENS, Ears, Hearing, parted
from anmok.nets.pretrained import fill
from anmok.nets.projectors import projector
from golden.record_repvit import drawn

SMALL = Config(width=48, inner=64, depth=3, heads=4, patch=32, kernel=16, groups=4, buckets=32, farthest=40)


def tower() -> Beats:
    shapes = {name: tuple(one.shape) for name, one in Beats(SMALL).state_dict().items()}
    return fill(Beats(SMALL), {name: torch.from_numpy(one) for name, one in drawn(shapes).items()}, torch.float32, "x")


def tone() -> np.ndarray:
    noise = np.random.default_rng(7).normal(0, 50, 8000)
    return (8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000) + noise).astype(np.float32)


def test_the_filterbank_is_kaldis() -> None:
    found = filterbank(tone())
    assert found.shape == (48, 128)
    assert found.dtype == np.float32
    places = np.linspace(0, found.size - 1, 10).astype(int)
    wanted = [8.11576, 11.90837, 12.37018, 16.05501, 10.07062, 13.90122, 15.93665, 8.12987, 14.08824, 15.90638]
    np.testing.assert_allclose(found.ravel()[places], wanted, atol=1e-3)
    assert float(found.mean()) == pytest.approx(12.986385, abs=1e-3)


def test_a_tone_lies_in_its_band_and_silence_at_the_floor() -> None:
    """440 Hz is 549.6 mel; the bands are 21.8 mel apart from 31.7 mel on, so it lies in the middle of band 22 or 23."""
    assert np.bincount(filterbank(tone()).argmax(1)).argmax() in (22, 23)
    assert filterbank(np.zeros(400, np.float32)) == pytest.approx(np.log(np.finfo(np.float32).eps), abs=1e-4)


@pytest.mark.parametrize(("length", "count"), [(399, 0), (400, 1), (559, 1), (560, 2), (480_000, 2998)])
def test_windows_lie_wholly_in_the_sound(length: int, count: int) -> None:
    assert windows(length) == count
    if length < 1000:
        assert filterbank(np.zeros(length, np.float32)).shape == (count, 128)


def test_tokens_are_beats() -> None:
    banks = torch.from_numpy((np.random.default_rng(7).normal(0, 1, (2, 160, 128)) * 13 + 15).astype(np.float32))
    with torch.inference_mode():
        found = tower()(banks)
    assert found.shape == (2, 80, 48)
    flat = found.numpy().ravel()
    wanted = [-0.18152, 0.10321, 0.09916, 0.22319, -0.00745, -0.00444, -0.16908, -0.09358]
    np.testing.assert_allclose(flat[np.linspace(0, flat.size - 1, 8).astype(int)], wanted, rtol=1e-4, atol=1e-5)


def test_distances_have_their_rows() -> None:
    """Of 320 rows 80 are for single distances on either side; 800 and more share the last."""
    found = buckets(1000, Config())
    assert found[0, :4].tolist() == [0, 161, 162, 163]
    assert found[:4, 0].tolist() == [0, 1, 2, 3]
    assert (found[0, 79], found[0, 80], found[0, 800], found[0, 999]) == (239, 240, 319, 319)
    assert found[999, 0] == 159


def test_the_net_has_the_published_size() -> None:
    with torch.device("meta"):
        net = Beats(Config())
    assert sum(one.numel() for one in net.parameters()) == 90_311_792


def test_half_a_minute_is_1496_tokens() -> None:
    connector = projector("mlp2x_gelu", 48, 20)
    ears = Ears(Hearing(tower(), connector).eval(), "a")
    assert TOKENS == 187 * 8
    assert ears.slot(1) == "a" * 1496
    short, long = np.full(20_000, 0.1, np.float32), np.full(500_000, 0.1, np.float32)
    assert ears.prepare(short).shape == ears.prepare(long).shape == (2998, 128)
    assert np.array_equal(ears.prepare(long), ears.prepare(long[:480_000]))
    assert np.array_equal(ears.prepare(short)[130:], np.full((2868, 128), ears.prepare(short)[-1, -1]))
    banks = torch.from_numpy(ears.prepare(tone() / 2**15))[None, :160]
    with torch.inference_mode():
        rows = ears.encode(banks)
        torch.testing.assert_close(rows, connector(tower()(banks)))
    assert rows.shape == (1, 80, 20)


def test_a_checkpoint_is_read_whole() -> None:
    """The published one has the table of distances in every layer, and a classifier."""
    state: dict[str, Tensor] = {f"model.audio_tower.{key}": one for key, one in tower().state_dict().items()}
    table = state["model.audio_tower.encoder.layers.0.self_attn.relative_attention_bias.weight"]
    for layer in (1, 2):
        state[f"model.audio_tower.encoder.layers.{layer}.self_attn.relative_attention_bias.weight"] = table
    state |= {"model.audio_tower.predictor.weight": torch.ones(5, 48), "model.layers.0.input_layernorm.weight": table}
    connector = projector("mlp2x_gelu", 48, 20)
    state |= {f"model.mm_projector_a.{key}": one for key, one in connector.state_dict().items()}
    own, rest = parted(state)
    assert list(rest) == ["model.layers.0.input_layernorm.weight"]
    config = {"mm_projector_a_type": "mlp2x_gelu", "hidden_size": 20}
    net = Hearing.filled(config, own, torch.float32, "card", SMALL)
    assert all(torch.equal(one, state[f"model.{key}"]) for key, one in net.state_dict().items())
    assert len(state) - len(net.state_dict()) == 4
    own.pop("audio_tower.encoder.pos_conv.0.weight_g")
    with pytest.raises(BadWeights, match=r"card: .* 1 missing .audio_tower.encoder.pos_conv.0.weight_g"):
        Hearing.filled(config, own, torch.float32, "card", SMALL)


def test_only_the_first_layers_table_is_kept() -> None:
    names = [f"encoder.layers.{n}.self_attn.relative_attention_bias.weight" for n in (0, 1, 10, 11)]
    assert list(kept({name: torch.ones(1) for name in [*names, "predictor.bias", "layer_norm.bias"]})) == [
        names[0],
        "layer_norm.bias",
    ]
    assert beats.PATCH == 16
