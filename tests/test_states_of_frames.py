"""States of pictures among the frames of a clip, and states of frames among pictures: the same where a family looks at
both alike, and otherwise an error that says what to do."""

from __future__ import annotations

import numpy as np
import pytest

from anmok import Chat, Conversation, Model
from anmok.errors import BadWeights, WrongState
from anmok.inputs import Encoded, Frames
from anmok.load import tiny
from battery import picture
from toy_talkers import model as toy

SHORT = Chat(max_tokens=3)
TIMES = (0.0, 1.0)
FIRST, SECOND = picture((40, 60), 1), picture((40, 60), 2)
APART = (
    "internvl3-1b",  # crops of pictures, none of frames
    "smolvlm2-256m",
    "gemma3-4b-crops",
    "llava-next-video-7b",  # frames are made one thing
    "llava-onevision-0.5b",
    "videollama2-7b",
    "hyperclovax-vision-3b",
    "qwen2.5-vl-3b",  # frames are seen together
    "videollama3-2b",
)


def states(talker: Model) -> tuple[Encoded, Encoded]:
    first, second = talker.encode([FIRST, SECOND])
    return first, second  # type: ignore[return-value]


def asked(*shown: object) -> Conversation:
    return Conversation.about(*shown, question="What?")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", APART)
def test_a_picture_is_no_frame_where_they_are_looked_at_differently(name: str) -> None:
    talker = tiny(name)
    first, second = states(talker)
    wrong = "^a state among these frames is of a picture by itself: watch the clip, or show pictures$"
    for frames in ((first, second), (FIRST, second)):
        with pytest.raises(WrongState, match=wrong):
            talker.run([asked(Frames(frames, TIMES))], SHORT)
    assert talker.run([asked(first)], SHORT)[0].image_tokens > 0  # and it is still of use as what it is


@pytest.mark.parametrize("name", APART)
def test_a_frame_is_no_picture_there(name: str) -> None:
    talker = tiny(name)
    seen = talker.watch(Frames((FIRST, SECOND), TIMES))
    wrong = "^this state is of a frame, to be seen beside the others of its clip: encode the picture$"
    with pytest.raises(WrongState, match=wrong):
        talker.run([asked(seen.pictures[0])], SHORT)
    plain = talker.run([asked(Frames((FIRST, SECOND), TIMES))], SHORT)[0]
    assert talker.run([asked(seen)], SHORT)[0].text == plain.text


@pytest.mark.parametrize("kind", ["gemma3", "gemma4"])
def test_a_picture_is_a_frame_where_they_are_looked_at_alike(kind: str) -> None:
    """The toy of Gemma 4 has one budget for both; the published weights have two."""
    talker = toy(kind)
    first, second = states(talker)
    plain = talker.run([asked(Frames((FIRST, SECOND), TIMES))], SHORT)[0]
    for frames in ((first, second), (FIRST, second)):
        found = talker.run([asked(Frames(frames, TIMES))], SHORT)[0]
        assert (found.text, found.image_tokens) == (plain.text, plain.image_tokens)


@pytest.mark.parametrize("kind", ["gemma3n", "phi4_multimodal", "llava"])
def test_a_net_of_other_rows_than_foretold_is_no_fault_of_the_state(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talker = toy(kind)
    eyes = talker.kind._eyes  # type: ignore[attr-defined]
    slot = eyes.slot
    monkeypatch.setattr(eyes, "slot", lambda size_hw: slot(size_hw) * 2)
    with pytest.raises(BadWeights, match="[0-9]+ image tokens in the prompt, and [0-9]+ rows for them"):
        talker.run([asked(FIRST)], SHORT)


def test_states_of_another_model_are_told_apart_before() -> None:
    strange = Encoded("another", {"rows": np.zeros((4, 32), np.float32)}, states(toy("gemma3"))[0].frame)
    with pytest.raises(WrongState, match="this state was made by another, not by"):
        toy("gemma3").run([asked(Frames((strange, strange), TIMES))], SHORT)
