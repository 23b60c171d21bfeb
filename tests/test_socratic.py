"""`mini-chat`: what of a picture becomes words, how a conversation is told, and what the real weights answer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anmok import Chat, Conversation, Text, Turn, words
from anmok.errors import BadRequest
from anmok.inputs import Encoded
from anmok.load import Model, load, tiny
from anmok.results import Reply
from anmok.words.colours import COLOURS, shares

DATA = Path(os.environ.get("ANMOK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
RED = np.full((30, 40, 3), (200, 30, 30), np.uint8)


def plain(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Bands of equal height."""
    return np.repeat(np.asarray(colours, np.uint8), 10, 0)[:, None].repeat(20, 1)


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((0, 0, 0), "black"),
        ((40, 20, 30), "black"),
        ((255, 255, 255), "white"),
        ((250, 235, 210), "white"),
        ((128, 128, 128), "grey"),
        ((150, 140, 135), "grey"),
        ((220, 20, 30), "red"),
        ((255, 140, 0), "orange"),
        ((120, 70, 30), "brown"),
        ((160, 120, 80), "brown"),
        ((250, 220, 40), "yellow"),
        ((40, 140, 50), "green"),
        ((120, 130, 60), "green"),
        ((30, 60, 200), "blue"),
        ((120, 180, 240), "blue"),
        ((120, 40, 180), "purple"),
        ((250, 150, 190), "pink"),
    ],
)
def test_colours_have_their_names(colour: tuple[int, int, int], name: str) -> None:
    found = shares(plain(colour))
    assert COLOURS[int(found.argmax())] == name
    assert found.max() == 1


def test_colours_are_shares_of_the_whole_picture() -> None:
    found = shares(plain((255, 255, 255), (255, 255, 255), (220, 20, 30), (0, 0, 0)))
    assert {COLOURS[i]: float(found[i]) for i in np.flatnonzero(found)} == {"black": 0.25, "white": 0.5, "red": 0.25}
    assert shares(np.zeros((1, 1, 3), np.uint8)).tolist() == [1, *[0] * 10]
    large = np.zeros((2000, 3, 3), np.uint8)
    large[:500] = 255
    assert shares(large)[COLOURS.index("white")] == pytest.approx(0.25, abs=0.01)


def state(tags: list[int], chances: list[float], **colours: float) -> Encoded:
    found = np.asarray([colours.get(name, 0) for name in COLOURS], np.float32)
    maps = {"tags": np.asarray(tags), "chances": np.asarray(chances, np.float32), "colours": found}
    return Encoded("", maps)


def told(model: Model, said: Conversation) -> list[tuple[str, str]]:
    conversation, _ = model.kind._told(said)
    return [(turn.role, turn.text) for turn in conversation.turns]


def test_an_interview_says_what_was_measured_and_no_more() -> None:
    model = tiny("mini-chat")
    names = words.imagenet_names()
    trunk, jeans, ibex = names.index("swimming trunks"), names.index("blue jeans"), names.index("ibex")
    sure = state([ibex, trunk], [0.618, 0.3], white=0.8, blue=0.2)
    assert told(model, Conversation.about(sure, question="Hm?")) == [
        ("system", "You answer questions about a photo. Answer in one short sentence. Do not invent anything."),
        ("user", "What is this?"),
        ("assistant", "This is an ibex (62 %) or swimming trunks (30 %)."),
        ("user", "Is there a unicorn in the photo?"),
        ("assistant", "I see no unicorn. I see an ibex (62 %) or swimming trunks (30 %)."),
        ("user", "How many people are in the photo?"),
        ("assistant", "I cannot count people."),
        ("user", "What color is it?"),
        ("assistant", "It is mostly white and blue."),
        ("user", "Describe the photo."),
        ("assistant", "The photo shows an ibex (62 %) or swimming trunks (30 %). It is mostly white and blue."),
        ("user", "Hm?"),
    ]
    doubtful = state([jeans, trunk, ibex], [0.32, 0.1, 0.09], white=0.9, blue=0.1)
    [last] = [text for _, text in told(model, Conversation.about(doubtful, question="Hm?")) if text.startswith("The p")]
    assert last == "The photo shows perhaps blue jeans (32 %). It is mostly white."
    assert "unicorn" not in " ".join(names)  # of a thing that it knows it may not say that it is not there


def test_pictures_are_told_where_they_are_shown() -> None:
    model = tiny("mini-chat")
    one, two = state([1, 2], [0.9, 0.01], red=1), state([3, 4], [0.9, 0.01], blue=1)
    said = Conversation((Turn("system", (Text("Be kind."),)), Turn("user", (one, two)))).then("A fish.", "Which?", one)
    found = told(model, said)
    assert found[0] == ("system", f"{model.kind._told(said)[0].system}")
    assert found[0][1].endswith("Do not invent anything. Be kind.")
    questions = [text for role, text in found if role == "user"]
    assert [text for text in questions if text.startswith("Describe")] == [
        "Describe photo 1.",
        "Describe photo 2.",
        "Describe the photo.",
        "Describe the photo.",
    ]
    assert questions[-1] == "Which?"
    assert len(found) == 1 + 3 * 10 + 3
    assert told(model, Conversation.about(question="Hello")) == [("user", "Hello")]


def test_its_tokens_are_counted_and_a_picture_costs_the_same_again() -> None:
    model = tiny("mini-chat")
    [once] = model.run([Conversation.about(RED, question="Hm?")], Chat(3))
    [twice] = model.run([Conversation.about(RED, question="Hm?").then("a", "b", RED)], Chat(3))
    [never] = model.run([Conversation.about(question="Hm?")], Chat(3))
    assert (once.image_tokens > 200, twice.image_tokens, never.image_tokens) == (True, 2 * once.image_tokens, 0)
    assert once.tokens_in > once.image_tokens + never.tokens_in
    *_, last = model.stream(Conversation.about(RED, question="Hm?"), Chat(3))
    assert last.reply is not None
    assert (last.reply.text, last.reply.image_tokens) == (once.text, once.image_tokens)


def test_a_state_has_features_tags_and_colours() -> None:
    model = tiny("mini-chat")
    [found] = model.encode([RED])
    chances = found.maps["chances"].astype(np.float64)
    assert (found.maps["tags"].shape, len(set(found.maps["tags"].tolist()))) == ((5,), 5)
    assert (np.diff(chances) <= 0).all()
    assert 0 < chances.sum() <= 1
    assert found.maps["colours"][COLOURS.index("red")] == 1
    [plain] = tiny("mini").encode([RED])
    np.testing.assert_array_equal(found.features, plain.features)


def test_other_parts_do_where_they_can() -> None:
    looks = tiny(
        "mini-chat", parts={"looks": "fake", "talks": "smollm2-1.7b"}
    )  # no classifier: the names are labels to it
    assert looks.run([Conversation.about(RED, question="Hm?")], Chat(3))[0].image_tokens > 200
    with pytest.raises(BadRequest, match="mini-chat: want a part that looks and classifies, such as mini"):
        tiny("mini-chat", parts={"looks": "dinov2-s14"})
    with pytest.raises(BadRequest, match="mini-chat: want a part that talks and counts tokens, such as smollm2-135m"):
        tiny("mini-chat", parts={"talks": "fake-talk"})


@pytest.mark.weights
@pytest.mark.data
@pytest.mark.slow
def test_real_photos_get_their_names_and_stable_answers() -> None:
    """The session has no network: all comes from what `anmok pull mini-chat` has put here."""
    model = load("mini-chat", device="cpu")
    shirt = DATA / "clothing_small/validation/longsleeve/0354015d-9ed3-4175-9f85-dd5725dce0e1.jpg"
    pizza = DATA / "coco_ccby/train2017/000000121647.jpg"
    names = words.imagenet_names()
    states = model.encode([shirt, pizza])
    assert [names[int(one.maps["tags"][0])] for one in states] == ["T-shirt", "pizza"]
    np.testing.assert_allclose([one.maps["chances"][0] for one in states], [0.785, 0.618], atol=2e-3)

    def answer(one: Encoded, question: str) -> Reply:
        return model.chat(one, question, max_tokens=14)

    assert answer(states[0], "What is this?").text.startswith("This is a T-shirt (78 %).")
    assert answer(states[1], "What is this?").text.startswith("This is a pizza (62 %).")
    assert answer(states[1], "How many people are there?").text == "I cannot count people."
    assert answer(states[1], "Is there a dog?").text.startswith("I see no dog. I see a pizza (62 %).")
    assert model.chat("What is the capital of France?", max_tokens=12).text.startswith("The capital of France is Paris")
