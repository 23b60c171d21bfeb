"""Learned prompts through the text towers at toy size, and through the real one of `mini`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anmok.errors import BadRequest, Unsupported
from anmok.load import Adapter, Prompt, load, tiny
from anmok.tasks import Classify
from anmok.train.prompts import Recipe, SoftTowers, Tuned, extended, soft_towers, tune

Array = NDArray[np.float32]
MODELS = ("clip-b32", "clip-rn50", "siglip-b16-224", "siglip2-b16-256", "mini")
NAMES = ("cat", "dog", "owl")
WORDS = "to a"  # short: the toy tongue of `mini` reads sixteen letters


def towers(name: str) -> SoftTowers:
    return soft_towers(tiny(name))


def written(side: SoftTowers, names: tuple[str, ...] = NAMES, template: str = WORDS + " {}") -> Array:
    return side.text_vectors(Classify(names, templates=(template,)))


def photos(side: SoftTowers, shots: int = 4) -> tuple[Array, NDArray[np.int64]]:
    """Features in as many clusters as there are names, nowhere near the names."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(NAMES)), shots)
    width = side.projection.shape[0]
    features = rng.normal(0, 1, (len(NAMES), width))[labels] + rng.normal(0, 0.2, (len(labels), width))
    return features.astype(np.float32), labels


def learned(side: SoftTowers, **changed: Any) -> Tuned:
    features, labels = photos(side)
    recipe = Recipe(**{"words": WORDS, "steps": 40, "rate": 0.2, "hold": 0.0, **changed})
    return tune(side, NAMES, features, labels, written(side), recipe)


@pytest.mark.parametrize("name", MODELS)
def test_a_spliced_text_reads_as_the_plain_one(name: str) -> None:
    """At the words' own embeddings, also where a text is cut or fills the context."""
    side = towers(name)
    texts = ("cat", "a dog by the sea", "x" * 300)
    ids, is_token = side.tokens(texts)
    with torch.no_grad():
        rows = side.read_vectors(side.token_vectors(ids), is_token).numpy()
    np.testing.assert_allclose(rows, written(side, texts, "{}"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_no_steps_are_the_written_prompt(name: str) -> None:
    side = towers(name)
    found = learned(side, steps=0)
    np.testing.assert_allclose(found.prompt.head.weight / side.temperature, written(side), rtol=0, atol=1e-5)
    assert found.losses == ()
    assert not np.allclose(written(side), written(side, template="{}"), atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_context_learns_what_the_words_do_not_say_and_touches_nothing_else(name: str) -> None:
    model = tiny(name)
    side = soft_towers(model)
    nets = [part for part in vars(side).values() if isinstance(part, torch.nn.Module)]
    nets += [
        part for part in vars(getattr(side, "_tongue", None) or object).values() if isinstance(part, torch.nn.Module)
    ]
    assert nets
    before = [weight.clone() for net in nets for weight in net.parameters()]
    found = learned(side)
    assert found.losses[-1] < found.losses[0] - 0.1
    weights = [weight for net in nets for weight in net.parameters()]
    assert all(weight.grad is None for weight in weights)
    assert all(torch.equal(one, other) for one, other in zip(before, weights, strict=True))
    start = learned(side, steps=0).prompt.context
    assert found.prompt.context.shape == start.shape
    assert np.abs(found.prompt.context - start).max() > 0.5 * start.std()


def test_the_same_seed_gives_the_same_context() -> None:
    side = towers("clip-b32")
    one, same, other = (learned(side, words="", length=5, steps=5, seed=seed) for seed in (0, 0, 1))
    assert one.prompt.context.shape == (5, 32)
    np.testing.assert_array_equal(one.prompt.context, same.prompt.context)
    assert np.abs(one.prompt.context - other.prompt.context).max() > 0.01


def test_the_penalty_holds_the_texts_to_the_written_prompt() -> None:
    side = towers("clip-b32")
    anchors = written(side)

    def away(hold: float) -> float:
        texts = learned(side, hold=hold).prompt.head.weight / side.temperature
        return float(((texts - anchors) ** 2).sum(1).mean())

    free, held, fast = away(0.0), away(8.0), away(1e4)
    assert fast < held < free
    assert fast < 1e-3 < free


def test_names_read_in_turns_are_those_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    side = towers("clip-b32")
    whole = learned(side, steps=3)
    monkeypatch.setattr("anmok.train.prompts._NAMES", 2)
    np.testing.assert_allclose(learned(side, steps=3).prompt.context, whole.prompt.context, atol=1e-6)


def test_a_context_goes_before_other_names_too() -> None:
    side = towers("siglip2-b16-256")
    found = learned(side).prompt
    again = extended(side, ("owl", "cat", "fox"), found.context)
    np.testing.assert_allclose(again.head.weight[[1, 0]], found.head.weight[[0, 2]], rtol=0, atol=1e-4)
    assert again.head.bias[2] == np.float32(side.bias)


def test_a_learned_prompt_is_served_from_its_folder(tmp_path: Path) -> None:
    model = tiny("clip-b32")
    found = learned(soft_towers(model)).prompt
    Adapter(model.card.name, model.maker, NAMES, "prompt", head=found).write(tmp_path / "best")
    back = Adapter.read(tmp_path / "best")
    assert isinstance(back.head, Prompt)
    np.testing.assert_array_equal(back.head.context, found.context)
    features, _ = photos(soft_towers(model))
    np.testing.assert_array_equal(back.head.logits(features), found.logits(features))


def test_a_context_without_room_for_names_is_refused() -> None:
    with pytest.raises(BadRequest, match="leaves no room"):
        learned(towers("mini"), words="", length=15)
    with pytest.raises(BadRequest, match="leaves no room"):
        learned(towers("siglip-b16-224"), words="", length=64)


@pytest.mark.parametrize("changed", [{"steps": -1}, {"rate": 0.0}, {"hold": -1.0}, {"words": " ", "length": 0}])
def test_a_recipe_that_makes_no_sense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="want steps"):
        Recipe(**changed)


def test_models_that_take_no_embeddings_say_so() -> None:
    with pytest.raises(Unsupported, match="takes no token embeddings"):
        soft_towers(tiny("fake"))
    with pytest.raises(Unsupported, match="no text tower"):
        soft_towers(tiny("dinov2-s14"))


@pytest.mark.weights
def test_the_real_tongue_of_mini_starts_at_its_words_and_learns() -> None:
    side = soft_towers(load("mini"))
    anchors = written(side, template="a photo of a {}")
    features, labels = photos(side)
    still = tune(side, NAMES, features, labels, anchors, Recipe(steps=0))
    np.testing.assert_allclose(still.prompt.head.weight / side.temperature, anchors, rtol=0, atol=1e-5)
    assert still.prompt.context.shape == (4, 384)
    moved = tune(side, NAMES, features, labels, anchors, Recipe(steps=10, hold=0.0, rate=0.2))
    assert moved.losses[-1] < moved.losses[0] - 0.1
