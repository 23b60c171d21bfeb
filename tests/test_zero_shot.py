"""What rung 0 measures is what ``Model.run`` answers, or what is shipped as a head: nobody gets another model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from anmok.ladder.plan import Plan
from anmok.ladder.zero_shot import text_side
from anmok.load import Adapter, Model, tiny
from anmok.tasks import Classify
from conftest import coloured

CLASSES = ("red", "a green thing", "blue")
DESCRIPTIONS = (("red", ("a ripe tomato", "a fire engine")),)


def seen(model: Model) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
    """Features (N, F) and the pictures they are of."""
    rng = np.random.default_rng(1)
    images = [coloured(name, rng) for name in ("red", "green", "blue")]
    return np.stack([state.features for state in model.encode(images)]), images


@pytest.mark.parametrize("name", ["fake", "mini", "clip-b32"])
def test_a_rung_with_a_question_answers_as_the_model_does(name: str) -> None:
    model = tiny(name)
    features, images = seen(model)
    asked = [one for one in text_side(model, CLASSES, Plan(name, descriptions=DESCRIPTIONS)).rungs if one.ask]
    assert [one.key for one in asked] == (["0d"] if name == "mini" else ["0a", "0b", "0c"])
    for one in asked:
        assert one.ask is not None
        scores = np.stack([answer.scores for answer in model.run(images, one.ask)])  # (N, K)
        np.testing.assert_allclose(softmax(one.logits(features), axis=1), scores, rtol=0, atol=1e-5)


def test_a_rung_without_a_question_ships_its_own_head() -> None:
    """`mini` itself goes by word vectors, so its matrix has to travel with the adapter."""
    model = tiny("mini")
    features, images = seen(model)
    rungs = [one for one in text_side(model, CLASSES, Plan("mini")).rungs if one.ask is None]
    assert [one.key for one in rungs] == ["0a", "0b"]
    for one in rungs:
        shipped = model.with_adapter(Adapter(model.card.name, model.maker, CLASSES, one.key, head=one.head))
        scores = np.stack([answer.scores for answer in shipped.run(images, Classify(CLASSES))])  # (N, K)
        np.testing.assert_allclose(softmax(one.logits(features), axis=1), scores, rtol=0, atol=1e-5)
