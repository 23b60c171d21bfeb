"""An answer to a conversation, piece by piece, by a net that others use as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final, cast

from anmok.errors import BadRequest
from anmok.inputs import Conversation
from anmok.load.states import Looker
from anmok.results import Piece
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
    [state] = looker.states([item])
    with lock:
        pieces = cast(Chats, kind).talk(cast(Conversation, state), ask)
    while True:
        with lock:
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece
