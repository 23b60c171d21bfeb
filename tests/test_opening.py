"""Every way to tune, on every kind of tower: at first nothing changes, afterwards the change is all that is needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anmok.errors import BadData, BadRequest, BadWeights
from anmok.load import tiny
from anmok.nets.change import Change
from anmok.nets.trunk import Trunk
from anmok.train.opening import KINDS, How, Opened, opened
from anmok.train.recipe import Recipe
from anmok.train.trainer import Course, train

TOWERS = ("mini", "clip-b32", "clip-rn50", "siglip-b16-224", "dinov2-s14", "dinov3-s16", "dinov3-convnext-tiny")


def trunk(name: str) -> Trunk:
    found: Trunk = tiny(name).kind.trunk()
    return found


def pixels(name: str) -> torch.Tensor:
    size = tiny(name).card.pixels.size
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32))


def trained(name: str, how: How, steps: int = 2) -> tuple[Opened, torch.Tensor, torch.Tensor]:
    """Pushes the features to a point; returns what they were and what they are."""
    one, x = opened(trunk(name), how), pixels(name)
    with torch.no_grad():
        before = one.trunk(x)
    wanted = before + torch.randn(before.shape, generator=torch.Generator().manual_seed(1))

    def loss(rows: np.ndarray, step: int) -> torch.Tensor:
        return (one.trunk(x[rows]) - wanted[rows]).square().mean()

    train(Course(one.trunk, loss, 2, rates=one.rates), Recipe(steps=steps, rate=0.02, batch=2, precision="float32"))
    with torch.no_grad():
        return one, before, one.trunk(x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TOWERS)
def test_the_change_alone_gives_the_tuned_tower(name: str, kind: str) -> None:
    how = How(kind, last=1, dropout=0.0, narrow=4)  # type: ignore[arg-type]
    one, before, after = trained(name, how)
    moved = one.change().tensors()  # a layer scale of 1e-6, with which ConvNeXt begins, hides it in the features
    assert max(float(tensor.abs().max()) for tensor in moved.values()) > 1e-3
    again = trunk(name)
    with torch.no_grad():
        torch.testing.assert_close(again(pixels(name)), before, rtol=0, atol=1e-5 * float(before.abs().max()))
        Change.from_tensors(one.change().tensors()).apply(again)
        torch.testing.assert_close(again(pixels(name)), after, rtol=0, atol=3e-5 * float(after.abs().max()))
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_opening_alone_changes_nothing_and_no_share_of_a_change_neither(kind: str) -> None:
    x = pixels("mini")
    with torch.no_grad():
        before = trunk("mini")(x)
        one = opened(trunk("mini"), How(kind, narrow=4))  # type: ignore[arg-type]
        torch.testing.assert_close(one.trunk(x), before, rtol=0, atol=1e-6)
    tuned, _, _ = trained("mini", How(kind, dropout=0.0, narrow=4))  # type: ignore[arg-type]
    again = trunk("mini")
    tuned.change().scaled(0.0).apply(again)
    with torch.no_grad():
        torch.testing.assert_close(again(x), before, rtol=0, atol=1e-6)


def test_half_of_lora_is_half_way_between_the_weights() -> None:
    """Scaling LoRA, as peft does it, equals interpolating the weights."""
    one, _, _ = trained("siglip-b16-224", How("lora", dropout=0.0, rank=3, strength=2.0))
    x = pixels("siglip-b16-224")
    for module in one.trunk.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(0.5)
    whole, half = trunk("siglip-b16-224"), trunk("siglip-b16-224")
    start = {name: p.clone() for name, p in whole.named_parameters()}
    # The change reads the scaling, so that of the whole comes before peft's is undone.
    one.change().scaled(2.0).apply(whole)
    with torch.no_grad():
        for name, p in half.named_parameters():
            p.copy_(0.5 * start[name] + 0.5 * dict(whole.named_parameters())[name])
        torch.testing.assert_close(half(x), one.trunk(x), rtol=0, atol=2e-6)


def test_last_blocks_leave_what_comes_before_alone() -> None:
    one, _, _ = trained("mini", How("last", last=2))
    change = one.change()
    stages = {name.split(".")[1] for name in change.dense}
    assert stages == {"block8", "block9", "readout"}
    assert one.boundary == len(one.trunk.stages) - 3
    assert one.rates["stages.readout."] == 1.0
    assert one.rates["stages.block8."] == pytest.approx(0.7 ** (2 * 12 / 10))


def test_sizes_are_what_the_forms_promise() -> None:
    """Rank 2 on every 1 x 1 convolution is far smaller than the weights."""
    lora = trained("mini", How("lora", dropout=0.0))[0].change()
    layers = dict(trunk("mini").named_parameters())
    for name, (up, down) in lora.factors.items():
        assert up.shape == (layers[name].shape[0], 2)
        assert down.shape == (2, layers[name].shape[1])
    whole = trained("mini", How("full"))[0].change()
    assert lora.nbytes < 0.5 * whole.nbytes
    assert whole.nbytes == 4 * sum(tensor.numel() for tensor in whole.dense.values())


def test_a_layer_without_a_gradient_fails_the_run() -> None:
    """SigLIP's pooling head has an attention of torch's own, whose projection is used as a bare matrix."""
    one = opened(trunk("siglip-b16-224"), How("lora"))
    wrapped = [name for name, module in one.trunk.named_modules() if hasattr(module, "lora_A")]
    assert wrapped
    assert not any("readout" in name for name in wrapped)
    careless = trunk("siglip-b16-224")
    careless.low_rank = r".*(q_proj|attention\.out_proj)"
    hit = opened(careless, How("lora"))
    x = pixels("siglip-b16-224")
    with pytest.raises(BadData, match="no gradient reaches"):
        train(Course(hit.trunk, lambda rows, step: hit.trunk(x[rows]).sum(), 2), Recipe(steps=1, rate=0.1, batch=2))


def test_what_does_not_fit_is_refused() -> None:
    change = trained("mini", How("lora", dropout=0.0))[0].change()
    with pytest.raises(BadWeights, match="does not fit this model"):
        change.apply(trunk("siglip-b16-224"))
    with pytest.raises(BadWeights, match="not a tensor of a tuned model"):
        Change.from_tensors({"up:stages.block0.x.weight": torch.zeros(2, 2)})
    with pytest.raises(BadWeights, match="lacks some"):
        Change.from_tensors({"narrow.weight:stages.block0.project": torch.zeros(2, 2)})
    with pytest.raises(BadRequest, match="way to tune"):
        How("everything")  # type: ignore[arg-type]
    plain = trunk("mini")
    plain.low_rank = "nothing"
    with pytest.raises(BadRequest, match="no layers that LoRA go on"):
        opened(plain, How("lora"))
