"""What a conversation is, and what is none."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pillow

from anmok import Chat, Clip, Conversation, Cue, Prompted, Text, Turn
from anmok.errors import BadRequest
from anmok.inputs import Frames
from anmok.results import Piece, Reply

PHOTO = b"a photo"
OTHER = b"another one"


def roles(one: Conversation) -> list[str]:
    return [turn.role for turn in one.turns]


def test_a_question_about_pictures() -> None:
    one = Conversation.about(PHOTO, "b.png", question="Which is newer?", system="Be short.")
    assert roles(one) == ["system", "user"]
    assert one.system == "Be short."
    assert one.pictures == (PHOTO, "b.png")
    assert one.turns[1].text == "Which is newer?"
    more = one.then("The first.", "And this?", OTHER)
    assert roles(more) == ["system", "user", "assistant", "user"]
    assert more.pictures == (PHOTO, "b.png", OTHER)
    assert len(one.turns) == 2  # as it was
    assert Conversation.about(question="Hello").system == ""


def test_turns_of_one_side_are_joined_and_texts_become_one() -> None:
    one = Conversation(
        (
            Turn("system", (Text("a"),)),
            Turn("system", (Text("b"),)),
            Turn("user", (Text("c"), Text("d"), PHOTO)),
            Turn("user", (Text("e"),)),
            Turn("user", (Text("f"), OTHER)),
        )
    )
    assert roles(one) == ["system", "user"]
    assert one.system == "a\nb"
    assert one.turns[1].parts == (Text("c\nd"), PHOTO, Text("e\nf"), OTHER)


def test_lists_and_single_parts_become_tuples() -> None:
    assert Turn("user", [Text("a")]).parts == (Text("a"),)  # type: ignore[arg-type]
    image = pillow.new("RGB", (2, 2))
    for part in (Text("a"), PHOTO, Path("a.png"), np.zeros((2, 2, 3), np.uint8), image, io.BytesIO(b"line\nline")):
        [found] = Turn("user", part).parts  # type: ignore[arg-type]
        assert found is part or found == Text("a")


def test_hangul_in_letters_of_its_own_is_composed_and_nothing_else_changes() -> None:
    """What macOS makes of Hangul in names of files; compatibility characters stay what they are."""
    apart = unicodedata.normalize("NFD", "한국어 café")
    assert len(apart) > len("한국어 café")
    assert Turn("user", (Text(apart),)).text == "한국어 café"
    kept = "①ﬁ²㎏ 👩‍👩‍👧 שלום مرحبا \u200f"
    assert Turn("user", (Text(kept),)).text == kept
    assert Chat(stop=(unicodedata.normalize("NFD", "끝"),)).stop == ("끝",)


def test_what_is_shown_is_exchanged_in_its_places() -> None:
    one = Conversation.about(PHOTO, OTHER, question="?").then("a", "b", PHOTO)
    other = one.with_shown(["1", "2", "3"])
    assert other.pictures == other.shown == ("1", "2", "3")
    assert [turn.text for turn in other.turns] == [turn.text for turn in one.turns]
    assert other.turns[0].parts == ("1", "2", Text("?"))


def test_clips_stand_beside_pictures() -> None:
    clip, frames = Clip("a.mp4", fps=2), Frames([PHOTO, OTHER], [0, 1.5])  # type: ignore[arg-type]
    one = Conversation.about(PHOTO, clip, question="?").then("a", "b", frames)
    assert one.shown == (PHOTO, clip, frames)
    assert (one.pictures, one.clips) == ((PHOTO,), (clip, frames))
    assert (frames.pictures, frames.seconds, frames.nbytes) == ((PHOTO, OTHER), (0.0, 1.5), 0)
    assert Turn("user", clip).parts == (clip,)  # type: ignore[arg-type]
    assert Turn("user", frames).shown == (frames,)  # type: ignore[arg-type]


SAID = Turn("user", (Text("a"),))
ANSWERED = Turn("assistant", (Text("b"),))
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "role": (lambda: Turn("tool", (Text("a"),)), "turn: its role is system, user, assistant, not 'tool'"),  # type: ignore[arg-type]
    "bare text": (lambda: Turn("user", "hello"), r"user's turn: a text is anmok.Text\('...'\)"),  # type: ignore[arg-type]
    "number": (lambda: Turn("user", 3), "user's turn: want a list of them, not 3"),  # type: ignore[arg-type]
    "no text in Text": (lambda: Turn("user", (Text(3),)), "user's turn: Text holds a text, not int"),  # type: ignore[arg-type]
    "prompt": (lambda: Turn("user", (Prompted(PHOTO),)), "it holds Text, pictures, clips and sounds, not Prompted"),  # type: ignore[arg-type]
    "cue": (lambda: Turn("user", (Cue(0, box=(0, 0, 1, 1)),)), "it holds Text, pictures, clips and sounds, not Cue"),  # type: ignore[arg-type]
    "nothing": (lambda: Turn("user", (None,)), "it holds Text, pictures, clips and sounds, not NoneType"),  # type: ignore[arg-type]
    "clip with cues": (
        lambda: Turn("user", (Clip("a.mp4", cues=(Cue(0, box=(0, 0, 1, 1)),)),)),
        "user's turn: cues say what track is to follow",
    ),
    "clip of the system": (
        lambda: Turn("system", (Clip("a.mp4"), Text("a"))),
        "system's turn: pictures are the user's",
    ),
    "no frames": (lambda: Frames((), ()), "frames: 0 pictures and 0 times; want a time for each picture"),
    "a time too few": (lambda: Frames((PHOTO, OTHER), (1.0,)), "frames: 2 pictures and 1 times"),
    "time that stands": (lambda: Frames((PHOTO, OTHER), (1.0, 1.0)), "frames: seconds are counted from the beginning"),
    "time before": (lambda: Frames((PHOTO,), (-0.5,)), "frames: seconds are counted from the beginning"),
    "no end of time": (lambda: Frames((PHOTO,), (float("inf"),)), "frames: seconds are counted from the beginning"),
    "no time": (lambda: Frames((PHOTO, OTHER), (float("nan"), 1.0)), "frames: seconds are counted from the beginning"),
    "time in words": (lambda: Frames((PHOTO,), ("now",)), "frames: seconds are counted from"),  # type: ignore[arg-type]
    "empty": (lambda: Turn("user", ()), "user's turn: nothing is said in it"),
    "blank": (lambda: Turn("user", (Text(" \n\u3000"), Text(""))), "user's turn: nothing is said in it"),
    "blank system": (lambda: Turn("system", (Text(""),)), "system's turn: nothing is said in it"),
    "answer with picture": (lambda: Turn("assistant", (PHOTO,)), "assistant's turn: pictures are the user's"),
    "system with picture": (lambda: Turn("system", (PHOTO, Text("a"))), "system's turn: pictures are the user's"),
    "no turns": (lambda: Conversation(()), "conversation: the user says nothing in it"),
    "no user": (lambda: Conversation((Turn("system", (Text("a"),)),)), "conversation: the user says nothing in it"),
    "no turn": (lambda: Conversation((Text("a"),)), "conversation: want turns"),  # type: ignore[arg-type]
    "answer last": (lambda: Conversation((SAID, ANSWERED)), "the last turn is the assistant's"),
    "answer first": (lambda: Conversation((ANSWERED, SAID)), "the user begins, not the assistant"),
    "system later": (
        lambda: Conversation((SAID, Turn("system", (Text("s"),)), SAID)),
        "a system turn stands at the beginning",
    ),
    "empty question": (lambda: Conversation.about(question=" "), "user's turn: nothing is said in it"),
    "tokens": (lambda: Chat(0), "max_tokens 0: want at least 1"),
    "temperature": (lambda: Chat(temperature=-0.1), "temperature -0.1: must lie between 0 and 2"),
    "nan": (lambda: Chat(temperature=float("nan")), "temperature nan: must lie"),
    "top_p": (lambda: Chat(top_p=0), "top_p 0: must lie above 0"),
    "seed": (lambda: Chat(seed=-1), "seed -1: want a whole number from 0 on"),
    "empty stop": (lambda: Chat(stop=("a", "")), "stop: want texts, none of them empty"),
    "stops": (lambda: Chat(stop=("a",) * 17), "stop: 16 texts of 200 letters are the most"),
    "long stop": (lambda: Chat(stop=("a" * 201,)), "stop: 16 texts of 200 letters are the most"),
    "schema": (lambda: Chat(schema="[1]"), "schema: want a JSON Schema, an object, as text"),
    "no schema": (lambda: Chat(schema="{"), "schema: want a JSON Schema, an object, as text"),
    "schema of objects": (lambda: Chat(schema={"a": object()}), "schema: no JSON"),  # type: ignore[arg-type]
    "finish": (lambda: Reply("a", "end", 1, 1), "Reply.finish: want stop or length, got 'end'"),  # type: ignore[arg-type]
    "image tokens": (lambda: Reply("a", "stop", 1, 1, 2), "those of pictures and sounds are some of tokens_in"),
    "seconds": (lambda: Reply("a", "stop", 1, 1, 0, float("inf")), "Reply: seconds are counted from 0"),
    "frames of nothing": (lambda: Reply("a", "stop", 1, 1, frames=((),)), "Reply.frames: want seconds from 0 on"),
    "frames before": (lambda: Reply("a", "stop", 1, 1, frames=((-1.0,),)), "Reply.frames: want seconds from 0 on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_told_in_one_line(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(BadRequest, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_answer_that_was_stopped_at_once_may_be_empty() -> None:
    assert roles(Conversation.about(question="a").then("", "b")) == ["user", "assistant", "user"]


def test_equal_asks_are_equal_values() -> None:
    assert Chat(stop=["a"]) == Chat(stop=("a",)) == Chat(stop="a")  # type: ignore[arg-type]
    assert hash(Chat(schema={"type": "object"})) == hash(Chat(schema='{"type":"object"}'))  # type: ignore[arg-type]
    assert Chat(seed=1) != Chat(seed=2)


def test_answers_as_plain_values() -> None:
    reply = Reply("hi", "length", 20, 3, 16, 0.25, 1.23456789)
    content = {"text": "hi", "finish": "length", "tokens_in": 20, "tokens_out": 3, "image_tokens": 16}
    assert reply.to_dict() == content | {"seconds_to_first": 0.25, "seconds": 1.234568}
    watched = Reply("hi", "stop", 20, 3, 16, frames=((0.5, 1 / 3),))
    assert watched.to_dict()["frames"] == [[0.5, 0.333333]]
    assert Piece("hi").to_dict() == {"piece": "hi"}
    assert Piece("", reply).to_dict() == {"piece": "", "reply": reply.to_dict()}


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
turns = st.builds(
    lambda role, parts: (role, parts),
    st.sampled_from(("system", "user", "assistant")),
    st.lists(st.builds(Text, texts) | st.just(PHOTO) | st.just(Clip("a.mp4")), max_size=3),
)


@given(st.lists(turns, max_size=5))
def test_whatever_is_said_has_one_form_or_is_refused(said: list[tuple[Any, list[Any]]]) -> None:
    """A conversation begins with the user after an optional system turn, alternates, ends with the user, and never has
    two texts side by side; made again of its own turns it stays as it is."""
    try:
        one = Conversation(tuple(Turn(role, parts) for role, parts in said))  # type: ignore[arg-type]
    except BadRequest:
        return
    spoken = roles(one)[one.turns[0].role == "system" :]
    assert spoken == [("user", "assistant")[i % 2] for i in range(len(spoken))]
    assert spoken[-1] == "user"
    for turn in one.turns:
        assert not any(isinstance(a, Text) and isinstance(b, Text) for a, b in pairwise(turn.parts))
    assert repr(Conversation(one.turns)) == repr(one)
