"""A model without weights that talks: it names the colour of each picture, those of a clip one after the other, the
loudest tone of each sound, and gives the question back.

Exact answers for tests of Python, CLI, server and page. Its tokens are three bytes each, whatever they cut through,
so that Hangul and emoji arrive in parts as they do from tokenizers of bytes; a picture takes 16, a frame of a clip 4, a
sound 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from anmok import choosing, geometry, utterance
from anmok.errors import Unsupported
from anmok.geometry import View
from anmok.inputs import Conversation, Encoded, Frames, Sound, Text
from anmok.results import Piece, Reply, Scores
from anmok.tasks import Chat, Classify, Setup
from anmok.utterance import Length, Utterance

_TOKEN: Final = 3  # bytes
_IMAGE_TOKENS: Final = 16
_FRAME_TOKENS: Final = 4
_SOUND_TOKENS: Final = 8
_RATE: Final = 8000
_CONTEXT: Final = 4096
_TURN: Final = 2  # tokens around each turn
_EACH: Final = 0.5  # by which every letter of an answer makes it less likely
_SOFT: Final = 32.0  # levels of colour apart that make an answer less likely by one
_UNKNOWN: Final = -8.0  # of an answer that says nothing of colours
_OPENINGS: Final = ("I see ", "There is ", "Look: ", "This shows ")
_COLOURS: Final = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
}
_TABLE: Final = np.asarray(list(_COLOURS.values()), np.float32)  # (C, 3)


class FakeTalk:
    """``kind`` is ``reads``, ``looks``, ``looks-once``, ``watches`` or ``hears``: one that reads takes no pictures, one
    that looks once a single one, only one that watches or hears takes clips, only one that hears two sounds."""

    usual_fps: float | None = None
    sound_rate, most_seconds = _RATE, 5.0

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.most_pictures = {"reads": 0, "looks-once": 1}.get(setup.kind, 4)
        self.most_clips, self.most_frames = (2, 8) if setup.kind in ("watches", "hears") else (0, 0)
        self.most_sounds = 2 if setup.kind == "hears" else 0

    @classmethod
    def from_files(cls, setup: Setup) -> FakeTalk:
        return cls(setup)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> FakeTalk:
        return cls(setup)

    @property
    def nbytes(self) -> int:
        return int(_TABLE.nbytes)

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return geometry.view(image, self._setup.pixels)

    def prepare_frame(self, image: NDArray[np.uint8]) -> View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """(B, 3, h, w) to ``colour`` float32 (B, 3) in 0..255."""
        return {"colour": np.asarray((batch * 0.5 + 0.5).mean((2, 3)) * 255, np.float32)}

    def prepare_sound(self, samples: NDArray[np.float32], *, is_of_clip: bool) -> NDArray[np.float32]:
        return samples

    def encode_sound(self, prepared: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """(N,) to ``hertz`` float32 (1,)."""
        loudest = np.abs(np.fft.rfft(prepared)).argmax() * _RATE / len(prepared)
        return {"hertz": np.asarray([loudest], np.float32)}

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        return [utterance.whole(self.talk(state, ask)) for state in states]

    def classify(self, states: Sequence[Encoded | Conversation], ask: Classify) -> list[Scores]:
        return [choosing.chosen(state, ask, self._setup, _weighed) for state in states]

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        if ask.schema is not None:
            raise Unsupported(f"{self._setup.name} cannot be held to a schema: ask without one")
        writing = Utterance(ask, _length(state))
        data = _answer(state, ask).encode()
        tokens = (data[start : start + _TOKEN] for start in range(0, len(data), _TOKEN))
        return utterance.pieces(writing, lambda: next(tokens, None))


def _weighed(
    blind: Conversation, said: Conversation, answers: tuple[str, ...]
) -> tuple[choosing.Array, choosing.Array]:
    """Long answers are unlikely; one is likelier after a picture, the nearer that is to the colour that the answer
    names, or to a picture that was called so before."""
    longest = max(-(-len(answer.encode()) // _TOKEN) for answer in answers)
    length = _length(said)
    Length(length.tokens + longest, length.image_tokens, length.context).room(Chat())
    shown = _colour(said.turns[-1].shown[-1])  # (3,)
    known = [
        (after.text, _colour(one))
        for before, after in pairwise(said.turns)
        if after.role == "assistant"
        for one in before.shown
    ]
    without = np.asarray([-_EACH * len(answer) for answer in answers])
    nearness = []
    for answer in answers:
        named = [np.asarray(colour, np.float64) for name, colour in _COLOURS.items() if name in answer]
        named += [colour for text, colour in known if text == answer]
        nearness.append(max((-float(np.abs(shown - colour).mean()) / _SOFT for colour in named), default=_UNKNOWN))
    return without, without + nearness


def _colour(one: object) -> NDArray[np.float64]:
    """(3,) of a picture."""
    return np.asarray(cast(Encoded, one).maps["colour"], np.float64)


def _length(state: Conversation) -> Length:
    texts = [part.text for turn in state.turns for part in turn.parts if isinstance(part, Text)]
    frames = sum(len(clip.pictures) for clip in state.clips if isinstance(clip, Frames))
    images = _IMAGE_TOKENS * len(state.pictures) + _FRAME_TOKENS * frames
    tracks = sum(isinstance(clip, Frames) and clip.sound is not None for clip in state.clips)
    sounds = _SOUND_TOKENS * (len(state.sounds) + tracks)
    words = sum(-(-len(text.encode()) // _TOKEN) for text in texts)
    return Length(words + images + sounds + _TURN * len(state.turns), images, _CONTEXT, sounds)


def _answer(state: Conversation, ask: Chat) -> str:
    """The last question, the colours of all that was shown, and how many answers there were before."""
    rng = np.random.default_rng(ask.seed)
    opening = _OPENINGS[utterance.drawn(np.asarray([3, 2, 1, 0], np.float32), ask, rng)]
    told_of = [_told(one) for one in state.shown]
    seen = f"{opening}{', '.join(told_of)}. " if told_of else ""
    told = f"{state.system} " if state.system else ""
    number = sum(turn.role == "user" for turn in state.turns)
    question = state.turns[-1].text
    return f"{told}{seen}Question {number}: {question}" if question else f"{told}{seen}Question {number}."


def _told(one: object) -> str:
    if isinstance(one, Sound):
        return f"a tone of {float(cast(Encoded, one.source).maps['hertz'][0]):.0f} Hz"
    return _watched(one) if isinstance(one, Frames) else _named(cast(Encoded, one))


def _watched(clip: Frames) -> str:
    """Its colours in turn, one that stays named once."""
    turns = [colour for colour, _ in groupby(_named(cast(Encoded, picture)) for picture in clip.pictures)]
    heard = f" with {_told(clip.sound)}" if clip.sound is not None else ""
    return f"{len(clip.pictures)} frames of {' then '.join(turns)}{heard}"


def _named(picture: Encoded) -> str:
    distances = np.abs(_TABLE - np.asarray(picture.maps["colour"], np.float32)).sum(1)  # (C,)
    return list(_COLOURS)[int(np.argmin(distances))]
