"""The battery of models that embed and classify: every architecture, on every task claimed, at toy size, offline.

What answers with a place in the picture is in ``test_every_place.py``. Cards of one family and architecture (the
word before the first dash of ``kind``) differ in sizes that a toy does not have; the first of them goes through
everything, the others answer one picture or text each. What a published configuration adds to that is in
``tests/parity`` and ``tests/golden``.
"""

from __future__ import annotations

import functools
import io
import itertools
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.catalogue import Card, cards
from anmok.errors import Unsupported, Untranslatable, WrongState
from anmok.inputs import Encoded, Item, Text
from anmok.load import Model, tiny
from anmok.results import Embedding, Result, Scores
from anmok.tasks import Ask, Classify, Embed, Encoder, Projects, WordVectors
from battery import architecture, odd_pictures, picture, rotated

LABELS = ("a red car", "cat", "two dogs on a sofa")
SENTENCES = ("a red car", "Two dogs!", "x", "a longer sentence about nothing in particular", "42 cats")
ALL = sorted((one for one in cards(is_hidden=True) if "embed" in one.tasks), key=architecture)
FIRST = [next(group) for _, group in itertools.groupby(ALL, architecture)]
CLAIMS = [pytest.param(one, task, id=f"{one.name}-{task}") for one in FIRST for task in one.tasks]
READS_TEXT_ONLY = ("minilm:MiniLm",)
VIEWS = [
    pytest.param(one, task, id=f"{one.name}-{task}")
    for one in FIRST
    for task in one.tasks
    if one.code not in READS_TEXT_ONLY
]
CLASSIFIERS = [pytest.param(one, id=one.name) for one in FIRST if "classify" in one.tasks]


@functools.cache
def model(name: str, seed: int = 0) -> Model:
    return tiny(name, seed)


def sees(one: Card) -> bool:
    return one.code not in READS_TEXT_ONLY


def reads(one: Card) -> bool:
    return bool(one.languages)


def ask_for(task: str) -> Ask[Result, Result]:
    asks: dict[str, Ask[Result, Result]] = {"classify": Classify(LABELS), "embed": Embed()}  # type: ignore[dict-item]
    return asks[task]


def items(one: Card) -> list[Item]:
    """Five that differ, in the form that the model takes."""
    if not sees(one):
        return [Text(sentence) for sentence in SENTENCES]
    return [picture(size, seed) for seed, size in enumerate(((61, 83), (224, 224), (40, 30), (1, 1), (90, 31)))]


def numbers(result: Result) -> NDArray[np.float32]:
    assert isinstance(result, Embedding | Scores)
    return result.vector if isinstance(result, Embedding) else result.scores


def check(result: Result, one: Card, task: str) -> None:
    """The answer is of the task's type, whole, in range, and survives JSON."""
    if task == "classify":
        assert isinstance(result, Scores)
        assert result.labels == LABELS
        assert result.scoring == one.scoring
        assert ((result.scores >= 0) & (result.scores <= 1)).all()
        if one.scoring == "softmax":
            assert result.scores.sum() == pytest.approx(1.0, abs=1e-5)
        assert {entry["label"] for entry in result.to_dict()["scores"]} == set(LABELS)
    else:
        assert isinstance(result, Embedding)
        assert result.space == ("image" if sees(one) else "text")
        assert np.linalg.norm(result.vector) == pytest.approx(1.0, abs=1e-5)
    assert json.loads(result.to_json()) == result.to_dict()


@pytest.mark.parametrize(("one", "task"), VIEWS)
def test_odd_pictures_are_answered(one: Card, task: str) -> None:
    answers = model(one.name).run(list(odd_pictures().values()), ask_for(task))
    assert len(answers) == len(odd_pictures())
    for answer in answers:
        check(answer, one, task)


@pytest.mark.parametrize(("one", "task"), VIEWS)
def test_a_turned_picture_is_turned_back(one: Card, task: str) -> None:
    with pillow.open(io.BytesIO(rotated())) as stored:
        upright = np.rot90(np.asarray(stored), k=-1)
    lying, standing = model(one.name).run([rotated(), np.ascontiguousarray(upright)], ask_for(task))
    np.testing.assert_allclose(numbers(lying), numbers(standing), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("one", "task"), CLAIMS)
def test_a_batch_equals_its_parts_in_any_order(one: Card, task: str) -> None:
    five, ask = items(one), ask_for(task)
    alone = [model(one.name).run([item], ask)[0] for item in five]
    for answer in alone:
        check(answer, one, task)
    assert np.ptp([numbers(answer)[0] for answer in alone]) > 0  # they do differ
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2], [4, 3, 2, 1, 0]):
        together = model(one.name).run([five[i] for i in order], ask)
        for i, answer in zip(order, together, strict=True):
            np.testing.assert_allclose(numbers(answer), numbers(alone[i]), rtol=0, atol=1e-5)
            if isinstance(answer, Scores):
                assert answer.label == alone[i].label  # type: ignore[attr-defined]


@pytest.mark.parametrize(("one", "task"), CLAIMS)
def test_two_loads_agree_and_seeds_differ(one: Card, task: str) -> None:
    item, ask = items(one)[0], ask_for(task)
    first, again, other = (m.run([item], ask)[0] for m in (model(one.name), tiny(one.name, 0), tiny(one.name, 1)))
    np.testing.assert_array_equal(numbers(first), numbers(again))
    has_weights = one.family != "fake"
    assert np.array_equal(numbers(first), numbers(other)) != has_weights


@pytest.mark.parametrize(("one", "task"), VIEWS)
def test_a_state_answers_as_its_picture_does_and_only_to_its_maker(one: Card, task: str) -> None:
    image = picture((61, 83), 1)
    [state] = model(one.name).encode([image])
    assert state.features.dtype == np.float32
    assert not state.features.flags.writeable
    direct, later = (model(one.name).run([item], ask_for(task))[0] for item in (image, state))
    np.testing.assert_array_equal(numbers(direct), numbers(later))
    with pytest.raises(WrongState, match="encode it again"):
        model(one.name).run([Encoded("another@1#0/float32", state.maps)], ask_for(task))


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in FIRST])
def test_each_space_is_what_it_says(one: Card) -> None:
    if sees(one):
        [state] = model(one.name).encode([picture((61, 83), 1)])
        plain = model(one.name).embed(state, space="features")
        assert plain.space == "features"
        np.testing.assert_array_equal(plain.vector, state.features)
    if not reads(one):
        with pytest.raises(Unsupported, match="no text tower"):
            model(one.name).embed(Text("a cat"))
        return
    text = model(one.name).embed(Text("a cat"))
    assert text.space == "text"
    assert np.linalg.norm(text.vector) == pytest.approx(1.0, abs=1e-5)
    if sees(one):
        assert text.vector.shape == model(one.name).embed(state).vector.shape


@pytest.mark.parametrize("one", [one for one in FIRST if not sees(one)], ids=lambda one: one.name)
def test_a_picture_for_a_reader_of_texts_is_refused(one: Card) -> None:
    with pytest.raises(Unsupported, match="reads text only: pass anmok.Text"):
        model(one.name).embed(picture((8, 8), 0))
    with pytest.raises(Unsupported, match="reads text only"):
        model(one.name).encode([picture((8, 8), 0)])


@pytest.mark.parametrize("one", CLASSIFIERS)
def test_scores_are_the_scaled_cosines_of_the_towers(one: Card) -> None:
    """What the ladder builds on (``Projects``) is what ``classify`` does."""
    images = [picture((61, 83), seed) for seed in range(3)]
    towers = model(one.name).towers
    assert isinstance(towers, Projects)
    features = np.stack([state.features for state in model(one.name).encode(images)])  # (B, F)
    vectors = towers.word_vectors(features) if isinstance(towers, WordVectors) else features @ towers.projection
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # (B, D)
    texts = towers.text_vectors(Classify(LABELS))  # (K, D)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1.0, rtol=0, atol=1e-5)
    logits = towers.temperature * vectors @ texts.T + towers.bias  # (B, K)
    raised = np.exp(logits)
    wanted = raised / raised.sum(1, keepdims=True) if one.scoring == "softmax" else raised / (1 + raised)
    got = np.stack([answer.scores for answer in model(one.name).run(images, Classify(LABELS))])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("one", CLASSIFIERS)
def test_korean_labels_are_read_or_refused(one: Card) -> None:
    image = picture((61, 83), 1)
    answer = model(one.name).classify(image, ["고양이", "개"])
    assert answer.labels == ("고양이", "개")
    if "ko" in one.languages:
        assert answer.read_as == answer.labels
        assert model(one.name).classify(image, ["꽹과리", "개"]).labels == ("꽹과리", "개")
        return
    assert answer.read_as == ("cat", "dog")
    english = model(one.name).classify(image, ["cat", "dog"])
    np.testing.assert_array_equal(answer.scores, english.scores)
    with pytest.raises(Untranslatable, match="꽹과리"):
        model(one.name).classify(image, ["꽹과리", "개"])


@pytest.mark.parametrize("one", CLASSIFIERS)
def test_prompts_are_averaged(one: Card) -> None:
    """The same sentence twice is that sentence; another one changes the vector; descriptions replace templates."""
    towers = model(one.name).towers
    plain = towers.text_vectors(Classify(LABELS, templates=("a {}",)))
    twice = towers.text_vectors(Classify(LABELS, descriptions=tuple((f"a {name}",) * 2 for name in LABELS)))
    np.testing.assert_allclose(plain, twice, rtol=0, atol=1e-5)
    if one.family != "fake":  # which hears the colours alone
        mixed = towers.text_vectors(Classify(LABELS, templates=("a {}", "{} in a box")))
        assert np.abs(plain - mixed).max() > 1e-4


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in ALL])
def test_every_card_answers_at_toy_size(one: Card) -> None:
    item = items(one)[0]
    for task in one.tasks:
        [answer] = model(one.name).run([item], ask_for(task))
        check(answer, one, task)
    if isinstance(item, np.ndarray):
        shape = model(one.name).kind.prepare(item).pixels.shape
        assert shape == (3, one.pixels.size, one.pixels.size)
    assert model(one.name).memory_bytes > 0
    assert isinstance(model(one.name).kind, Encoder) == sees(one)
    assert one.verified.tiny


def test_the_battery_has_every_architecture() -> None:
    names = {"/".join(architecture(one)) for one in FIRST}
    assert names == {
        "clip/clip:Clip/resnet",
        "clip/clip:Clip/vit",
        "dinov2/dino:Dino/dinov2",
        "dinov2/dino:Dino/dinov2_with_registers",
        "dinov3/dino:Dino/dinov3_convnext",
        "dinov3/dino:Dino/dinov3_vit",
        "fake/fake:Fake/sigmoid",
        "fake/fake:Fake/softmax",
        "mini/efficientnet:EfficientNet/lite0",
        "mini/efficientnet:EfficientNet/lite2",
        "mini/mini:Mini/lite2",
        "mini/minilm:MiniLm/l6",
        "mobilevit/backbone:Backbone/mobilevit",
        "openclip/clip:Clip/vit",
        "resnet/backbone:Backbone/resnet",
        "siglip/siglip:Siglip/vit",
        "siglip2/siglip:Siglip/vit",
        "vit/backbone:Backbone/vit",
    }
