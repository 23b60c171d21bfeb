"""`mini-chat`: one model names what is in a picture, another that only reads is told so, and talks about it.

The Socratic way: models that were never trained together meet in words. Source: Zeng et al., "Socratic Models:
Composing Zero-Shot Multimodal Reasoning with Language" (2022, arXiv:2204.00598), where CLIP ranks the words of a list;
here it is the 1,000 names of the ImageNet classes, by a classifier's chances or, of a part that only compares pictures
with texts, by its scores.

A small language model follows no orders, but it goes on as it began. So the picture is told as an interview about it
that stands before the first question: every number in it was measured, and most answers repeat one of its answers. What
the language model adds comes from no picture. It knows one or two names and the colours; where a thing is, how many
there are and what is written on it, nobody looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anmok import words
from anmok.errors import BadRequest
from anmok.geometry import Frame, View
from anmok.inputs import Conversation, Encoded, Role, Text, Turn
from anmok.results import Piece, Reply
from anmok.tasks import Chat, Chats, Classifies, Classify, Encoder, Setup
from anmok.words.colours import COLOURS, shares

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]  # (H, W, 3)

_TAGS: Final = 5  # kept of each picture
_SURE: Final = 0.5  # from this chance on a name is said without a perhaps
_BESIDE: Final = 1 / 3  # of the first chance: a second name with less is not said
_SHARE: Final = 0.15  # of the picture: a second colour with less is not said
_MOST: Final = 4  # pictures of a conversation

_ORDER: Final = "You answer questions about a photo. Answer in one short sentence. Do not invent anything."
_SILENT: Final = "Describe the photo."  # of a picture that is shown without a word


class _Eye(Protocol):
    def probabilities(self, features: Array) -> Array: ...


@runtime_checkable
class _Sorts(Protocol):
    """A model whose features have an ImageNet classifier."""

    @property
    def eye(self) -> _Eye: ...


class Socratic:
    """tags int64 (K,) and chances float32 (K,) of the likeliest names, colours float32 (11,) that sum to one; and the
    maps of the part that looks."""

    most_pictures = _MOST

    def __init__(self, setup: Setup) -> None:
        self._looks: Any = setup.parts["looks"]
        self._talks: Any = setup.parts["talks"]
        self._names = words.imagenet_names()
        if not isinstance(self._looks, Encoder) or not isinstance(self._looks, _Sorts | Classifies):
            raise BadRequest(f"{setup.name}: want a part that looks and classifies, such as mini")
        if not isinstance(self._talks, Chats) or not hasattr(self._talks, "tokens_of"):
            raise BadRequest(f"{setup.name}: want a part that talks and counts tokens, such as smollm2-135m")

    @classmethod
    def from_files(cls, setup: Setup) -> Socratic:
        return cls(setup)

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> Socratic:
        return cls(setup)

    @property
    def nbytes(self) -> int:
        return int(self._looks.nbytes + self._talks.nbytes)

    def prepare(self, image: Picture) -> View:
        """The picture as it is: colours are those of all of it, the part that looks cuts its own canvas."""
        frame = Frame((1.0, 1.0), (0.0, 0.0), (int(image.shape[0]), int(image.shape[1])))
        return View(np.ascontiguousarray(image.transpose(2, 0, 1)), frame)  # uint8 (3, H, W)

    def encode(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        """uint8 (B, 3, H, W) to what the class says, (B, ...)."""
        rows = [self._maps(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in batch]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        told = [self._told(state) for state in states]
        replies: list[Reply] = self._talks.chat([said for said, _ in told], ask)
        return [_counted(reply, count) for reply, (_, count) in zip(replies, told, strict=True)]

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        said, count = self._told(state)
        return _pieces(self._talks.talk(said, ask), count)

    def _maps(self, image: Picture) -> dict[str, NDArray[np.generic]]:
        view = self._looks.prepare(image)
        maps = {name: array[0] for name, array in self._looks.encode(view.pixels[None]).items()}
        chances = self._chances(Encoded("", maps, view.frame))  # (C,)
        tags = np.argsort(-chances, kind="stable")[:_TAGS]  # (K,)
        found = {"tags": tags.astype(np.int64), "chances": chances[tags], "colours": shares(image)}
        return {**maps, **found}

    def _chances(self, state: Encoded) -> Array:
        """float32 (C,) of the names."""
        if isinstance(self._looks, _Sorts):
            chances: Array = self._looks.eye.probabilities(state.features[None])[0]
            return chances
        [scores] = self._looks.classify([state], Classify(self._names))
        return np.asarray(scores.scores, np.float32)

    def _told(self, state: Conversation) -> tuple[Conversation, int]:
        """The same with interviews in the place of pictures, and how many tokens those have."""
        if not state.pictures:
            return state, 0
        turns = [Turn("system", (Text(f"{_ORDER} {state.system}".strip()),))]
        count = 0
        for turn in state.turns:
            if turn.role == "system":
                continue
            shown = [one for one in turn.shown if isinstance(one, Encoded)]
            for i, one in enumerate(shown, 1):
                interview = self._interview(one, "the photo" if len(shown) == 1 else f"photo {i}")
                count += sum(self._talks.tokens_of(told.text) for told in interview)
                turns += interview
            turns.append(Turn(turn.role, (Text(turn.text if turn.text.strip() else _SILENT),)) if shown else turn)
        return Conversation(tuple(turns)), count

    def _interview(self, state: Encoded, photo: str) -> list[Turn]:
        """Questions that come up, and what was measured. The last answer is the one that is repeated most."""
        thing, colours = self._thing(state), _colours(state)
        said = (
            ("What is this?", f"This is {thing}."),
            (f"Is there a unicorn in {photo}?", f"I see no unicorn. I see {thing}."),
            (f"How many people are in {photo}?", "I cannot count people."),
            ("What color is it?", f"It is {colours}."),
            (f"Describe {photo}.", f"{photo.capitalize()} shows {thing}. It is {colours}."),
        )
        roles: tuple[Role, Role] = ("user", "assistant")
        return [Turn(role, (Text(text),)) for pair in said for role, text in zip(roles, pair, strict=True)]

    def _thing(self, state: Encoded) -> str:
        """The likeliest name, or two, with their chances."""
        tags, chances = state.maps["tags"], state.maps["chances"].astype(np.float64)
        kept = [i for i in range(min(2, len(tags))) if i == 0 or chances[i] >= _BESIDE * chances[0]]
        named = [f"{_with_article(self._names[int(tags[i])])} ({chances[i] * 100:.0f} %)" for i in kept]
        return ("" if chances[0] >= _SURE else "perhaps ") + " or ".join(named)


def _colours(state: Encoded) -> str:
    """The one or two that most of the picture has."""
    found = state.maps["colours"].astype(np.float32)
    order = np.argsort(-found, kind="stable")
    second = f" and {COLOURS[order[1]]}" if found[order[1]] >= _SHARE else ""
    return f"mostly {COLOURS[order[0]]}{second}"


def _with_article(name: str) -> str:
    if name.endswith("s") and not name.endswith("ss"):
        return name
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def _counted(reply: Reply, count: int) -> Reply:
    return dataclasses.replace(reply, image_tokens=count)


def _pieces(pieces: Iterator[Piece], count: int) -> Iterator[Piece]:
    with contextlib.closing(cast(Any, pieces)):
        for piece in pieces:
            yield piece if piece.reply is None else Piece(piece.text, _counted(piece.reply, count))
