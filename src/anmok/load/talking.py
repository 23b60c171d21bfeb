"""An answer to a conversation, piece by piece, by a net that others use as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from anmok.errors import BadRequest
from anmok.inputs import Conversation, Frames
from anmok.load.states import Looker
from anmok.results import Piece, Reply
from anmok.tasks import Chat, Chats

UNSPOKEN: Final = 'chat takes conversations: anmok.Conversation.about("photo.jpg", question="What is it?")'


def talk(kind: Any, looker: Looker, lock: threading.Lock, item: object, ask: Chat) -> Iterator[Piece]:
    """The pieces, as they are asked for. The net is somebody else's between two of them.

    Raises:
        BadRequest: it is no conversation.
        AnmokError: a picture cannot be read, or whatever the model finds wrong.
    """
    if not isinstance(item, Conversation):
        raise BadRequest(UNSPOKEN)
    state = cast(Conversation, looker.states([item])[0])
    with lock:
        pieces = cast(Chats, kind).talk(state, ask)
    while True:
        with lock:
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece if piece.reply is None else replace(piece, reply=_with_frames(piece.reply, state))


def told(replies: Sequence[Any], states: Sequence[Any]) -> list[Reply]:
    """Answers of a model to conversations, with what was shown of their clips."""
    return [_with_frames(reply, said) for reply, said in zip(replies, states, strict=True)]


def _with_frames(reply: Reply, said: Conversation) -> Reply:
    seconds = tuple(one.seconds for one in said.clips if isinstance(one, Frames))
    return replace(reply, frames=seconds) if seconds else reply
