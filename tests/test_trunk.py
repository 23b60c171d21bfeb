"""Every picture tower that embeds is also a chain of stages, which gives the same features wherever it is cut."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch

from anmok.catalogue import Card, cards
from anmok.load import Model, tiny
from anmok.tasks import Embed, Tunes
from battery import architecture, picture

EYES = sorted((one for one in cards(is_hidden=True) if {"embed"} <= set(one.tasks)), key=architecture)
FIRST = [next(group) for _, group in itertools.groupby(EYES, architecture)]
TRAINED = (
    "efficientnet:EfficientNet",
    "mini:Mini",
    "clip:Clip",
    "siglip:Siglip",
    "dino:Dino",
    "backbone:Backbone",
)
TUNABLE = [pytest.param(one, id=one.name) for one in FIRST if one.code in TRAINED]
PICTURES = [picture((61, 83), 1), picture((224, 200), 2)]


def pixels(model: Model) -> torch.Tensor:
    return torch.from_numpy(np.stack([model.kind.prepare(image).pixels for image in PICTURES]))  # (2, 3, H, W)


def features(model: Model) -> np.ndarray:
    return np.stack([one.vector for one in model.run(PICTURES, Embed(space="features"))])  # (2, F)


@pytest.mark.parametrize("one", TUNABLE)
def test_the_chain_gives_the_towers_features_wherever_it_is_cut(one: Card) -> None:
    model = tiny(one.name, 0)
    assert isinstance(model.kind, Tunes)
    trunk = model.kind.trunk()
    wanted, x = features(model), pixels(model)
    assert trunk.blocks >= 2
    with torch.no_grad():
        for boundary in range(len(trunk.stages) + 1):
            found = trunk.after(trunk.before(x, boundary), boundary)
            np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    assert trunk.boundary(1) == len(trunk.stages) - 2
    assert trunk.boundary(99) == 0


@pytest.mark.parametrize("one", TUNABLE)
def test_training_mode_changes_no_feature(one: Card) -> None:
    """Batch norms keep their statistics, and rotary positions are not jittered."""
    model = tiny(one.name, 0)
    trunk, x = model.kind.trunk(), pixels(model)
    with torch.no_grad():
        still = trunk(x)
        moving = trunk.train()(x)
    torch.testing.assert_close(moving, still, rtol=0, atol=0)
    assert not any(p.requires_grad for p in trunk.parameters())


@pytest.mark.parametrize("one", TUNABLE)
def test_changed_weights_answer_and_the_model_itself_stays(one: Card) -> None:
    model = tiny(one.name, 0)
    before = features(model)
    trunk = model.kind.trunk()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in trunk.stages[-1].parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        wanted = trunk(pixels(model)).numpy()
    tuned = Model(model.card, model.kind.tuned(lambda other: other.load_state_dict(trunk.state_dict())), model._setup)
    np.testing.assert_allclose(features(tuned), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    assert np.abs(features(tuned) - before).max() > 1e-4
    np.testing.assert_array_equal(features(model), before)
    again = tuned.kind.trunk().state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in trunk.state_dict().items())


@pytest.mark.parametrize("one", TUNABLE)
def test_low_rank_layers_are_named_and_each_gets_a_gradient(one: Card) -> None:
    model = tiny(one.name, 0)
    trunk = model.kind.trunk()
    named = [name for name, _ in trunk.named_modules() if re.fullmatch(trunk.low_rank, name)]
    assert len(named) >= trunk.blocks
    layers = dict(trunk.named_modules())
    for name in named:
        layers[name].weight.requires_grad_(True)
    trunk(pixels(model)).square().sum().backward()
    assert [name for name in named if not layers[name].weight.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("one", TUNABLE)
def test_the_frozen_beginning_is_the_beginning(one: Card) -> None:
    model = tiny(one.name, 0)
    trunk, x = model.kind.trunk(), pixels(model)
    boundary = trunk.boundary(1)
    with torch.no_grad():
        wanted = trunk.before(x, boundary)
        found = trunk.beginning(boundary)(x)
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))
        torch.testing.assert_close(trunk.before(x, boundary), wanted, rtol=0, atol=0)
