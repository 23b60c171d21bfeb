"""What a model says: piece by piece, which streams, and the whole of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from anmok.errors import BadRequest
from anmok.results.basic import Result

Finish = Literal["stop", "length"]
Count = Literal["tokens_in", "tokens_out", "image_tokens"]


@dataclass(frozen=True, eq=False, slots=True)
class Reply(Result):
    """A whole answer.

    ``finish`` says why it ends: ``stop`` where the model came to its end or to a text that it was to stop at,
    ``length`` where ``max_tokens`` or the context was used up. ``tokens_in`` are those of the prompt, of which
    ``image_tokens`` stand for pictures and ``sound_tokens`` for sounds; ``tokens_out`` were made, the one that ends it
    and those of a stop text among them. ``seconds`` is the time from the beginning of its batch, pictures already
    encoded; ``seconds_to_first`` that until its first token. ``frames`` has for each clip of the conversation the
    seconds of the frames that the model was shown of it. ``unknown`` names counts that a model which somebody else runs
    did not tell: they are 0 here.
    """

    text: str
    finish: Finish
    tokens_in: int
    tokens_out: int
    image_tokens: int = 0
    seconds_to_first: float = 0.0
    seconds: float = 0.0
    frames: tuple[tuple[float, ...], ...] = ()
    unknown: tuple[Count, ...] = ()
    sound_tokens: int = 0

    def __post_init__(self) -> None:
        if self.finish not in get_args(Finish):
            raise BadRequest(f"Reply.finish: want stop or length, got {str(self.finish)[:40]!r}")
        shown = (self.image_tokens, self.sound_tokens)
        if min(*shown, self.tokens_out) < 0 or sum(shown) > self.tokens_in:
            raise BadRequest("Reply: tokens are counted from 0, and those of pictures and sounds are some of tokens_in")
        times = (self.seconds_to_first, self.seconds)
        if not all(math.isfinite(one) and one >= 0 for one in times):
            raise BadRequest("Reply: seconds are counted from 0")
        if not all(one and all(math.isfinite(at) and at >= 0 for at in one) for one in self.frames):
            raise BadRequest("Reply.frames: want seconds from 0 on, at least one for each clip")
        if any(one not in get_args(Count) or getattr(self, one) for one in self.unknown):
            raise BadRequest(f"Reply.unknown: want names of counts that are 0, of {', '.join(get_args(Count))}")

    def to_dict(self) -> dict[str, Any]:
        content = {
            "text": self.text,
            "finish": self.finish,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "image_tokens": self.image_tokens,
            "seconds_to_first": round(self.seconds_to_first, 6),
            "seconds": round(self.seconds, 6),
        }
        if self.sound_tokens:
            content["sound_tokens"] = self.sound_tokens
        frames = [[round(at, 6) for at in one] for one in self.frames]
        unknown = {"unknown": list(self.unknown)} if self.unknown else {}
        return content | ({"frames": frames} if frames else {}) | unknown


@dataclass(frozen=True, eq=False, slots=True)
class Piece(Result):
    """The next words of an answer, never half a character; all of them together are its text. The last piece carries
    the whole of it with its totals, and may have no words of its own."""

    text: str
    reply: Reply | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"piece": self.text} | ({} if self.reply is None else {"reply": self.reply.to_dict()})
