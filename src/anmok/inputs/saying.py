"""Conversations: turns of words, pictures, clips and sounds."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image as pillow

from anmok.errors import BadRequest
from anmok.inputs.pointing import Cue, Encoded, Prompted, Text, each
from anmok.inputs.showing import Clip, Frames, Shown, Sound
from anmok.media import Source

Role: TypeAlias = Literal["system", "user", "assistant"]
Part: TypeAlias = Text | Shown


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What one side says: words, pictures, clips and sounds, in their order.

    A list becomes a tuple, and one part by itself a tuple of it. Texts side by side become one, a line each. Text is
    brought to Unicode's composed form (NFC), which means the same: tokenizers were trained on it, and Hangul in letters
    of its own (NFD, as file names of macOS have it) would cost several times the tokens.

    Raises:
        BadRequest: no such role, nothing said, or a picture that is not the user's.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise BadRequest(f"turn: its role is {', '.join(get_args(Role))}, not {str(self.role)[:40]!r}")
        if isinstance(self.parts, str):
            raise BadRequest(f"{self.role}'s turn: a text is anmok.Text('...'); a bare one would be a picture's path")
        is_one = isinstance(
            self.parts, Text | Encoded | Clip | Frames | Sound | bytes | Path | np.ndarray | pillow.Image
        )
        is_one = is_one or callable(getattr(self.parts, "read", None))  # an open file, which would give its lines
        given = (self.parts,) if is_one else each(self.parts, f"{self.role}'s turn")
        object.__setattr__(self, "parts", _merged(tuple(_part(part, self.role) for part in given)))
        if self.role != "user" and self.shown:
            raise BadRequest(f"{self.role}'s turn: pictures are the user's to show")
        # An answer that was stopped before its first word may be empty.
        if self.role != "assistant" and not self.shown and not self.text.strip():
            raise BadRequest(f"{self.role}'s turn: nothing is said in it")

    @property
    def text(self) -> str:
        """All its words, without what is shown."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def shown(self) -> tuple[Shown, ...]:
        """All that are no words."""
        return tuple(part for part in self.parts if not isinstance(part, Text))


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """What was said until now; the last word is the user's, and the model answers it.

    Turns of one side in a row are joined: the templates of LLaVA 1.5 and Gemma refuse them, those of SmolVLM and
    InternVL would take them, and joined all read the same. So what a model file gets is an optional ``system`` turn,
    then ``user`` and ``assistant`` by turns, from ``user`` to ``user``.

    Raises:
        BadRequest: no turn of the user, ``system`` elsewhere than at the beginning, or an answer first or last.
    """

    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        given = each(self.turns, "conversation")
        if not all(isinstance(turn, Turn) for turn in given):
            raise BadRequest("conversation: want turns, as anmok.Turn('user', anmok.Text('...'))")
        joined: list[Turn] = []
        for turn in given:
            if joined and joined[-1].role == turn.role:
                turn = Turn(turn.role, joined.pop().parts + turn.parts)
            joined.append(turn)
        object.__setattr__(self, "turns", tuple(joined))
        _check_order([turn.role for turn in joined])

    @classmethod
    def about(cls, *shown: Shown, question: str, system: str = "") -> Conversation:
        """A question about pictures, clips and sounds, or about none."""
        first = (Turn("system", (Text(system),)),) if system else ()
        return cls((*first, Turn("user", (*shown, Text(question)))))

    @classmethod
    def of(cls, *said: Shown | Conversation | str) -> Conversation:
        """What is shown and, last, a question; a conversation by itself is itself.

        Raises:
            BadRequest: the last one is no text.
        """
        if len(said) == 1 and isinstance(said[0], Conversation):
            return said[0]
        if not said or not isinstance(said[-1], str):
            raise BadRequest('chat: the last value is the question: model.chat("photo.jpg", "What is it?")')
        shown: Any = said[:-1]
        return cls.about(*shown, question=said[-1])

    def then(self, answer: str, question: str, *shown: Shown) -> Conversation:
        """The same, with what the model said and what the user says to that."""
        said = (Turn("assistant", (Text(answer),)), Turn("user", (*shown, Text(question))))
        return Conversation((*self.turns, *said))

    @property
    def system(self) -> str:
        """What the model was told to be; empty where nothing was."""
        return self.turns[0].text if self.turns[0].role == "system" else ""

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Pictures, clips and sounds, in their order."""
        return tuple(one for turn in self.turns for one in turn.shown)

    @property
    def pictures(self) -> tuple[Source | Encoded, ...]:
        """Those that stand still."""
        return tuple(one for one in self.shown if not isinstance(one, Clip | Frames | Sound))

    @property
    def clips(self) -> tuple[Clip | Frames, ...]:
        """Those that move. A model file gets ``Frames`` of states alone."""
        return tuple(one for one in self.shown if isinstance(one, Clip | Frames))

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """Those that stand by themselves; that of a clip is with it. A model file gets states in them."""
        return tuple(one for one in self.shown if isinstance(one, Sound))

    def with_shown(self, shown: Sequence[Shown]) -> Conversation:
        """The same with others in the places of what is shown, as many as it has."""
        rest = iter(shown)
        return Conversation(
            tuple(
                Turn(turn.role, tuple(part if isinstance(part, Text) else next(rest) for part in turn.parts))
                for turn in self.turns
            )
        )


def _part(part: Any, role: str) -> Part:
    if isinstance(part, Text):
        if not isinstance(part.text, str):
            raise BadRequest(f"{role}'s turn: Text holds a text, not {type(part.text).__name__}")
        return Text(unicodedata.normalize("NFC", part.text))
    if isinstance(part, Prompted | Turn | Conversation | Cue) or part is None:
        raise BadRequest(f"{role}'s turn: it holds Text, pictures, clips and sounds, not {type(part).__name__}")
    if isinstance(part, Clip) and part.cues:
        raise BadRequest(f"{role}'s turn: cues say what track is to follow; leave them out of the clip")
    found: Part = part
    return found


def _merged(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Texts side by side as one."""
    merged: list[Part] = []
    for part in parts:
        before = merged[-1] if merged else None
        if isinstance(part, Text) and isinstance(before, Text):
            merged[-1] = Text(f"{before.text}\n{part.text}")
        else:
            merged.append(part)
    return tuple(merged)


def _check_order(roles: Sequence[str]) -> None:
    if "user" not in roles:
        raise BadRequest("conversation: the user says nothing in it")
    if "system" in roles[1:]:
        raise BadRequest("conversation: a system turn stands at the beginning, not between the others")
    if roles[-1] != "user":
        raise BadRequest("conversation: the last turn is the assistant's, so there is nothing to answer")
    if roles[roles[0] == "system"] != "user":
        raise BadRequest("conversation: the user begins, not the assistant")
