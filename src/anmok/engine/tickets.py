"""One accepted request: what was asked, what is answered so far, and the future that its caller holds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from PIL import Image as pillow

from anmok import media
from anmok.errors import AnmokError, BadMedia
from anmok.inputs import Clip, Conversation, Encoded, Frames, Item, Prompted, Sound, Text
from anmok.results import Failure, Result
from anmok.tasks import Ask

Answer: TypeAlias = Result | Failure

_UNSEEN = 1024  # bytes; a path or an open file, whose size is not known before it is read


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ticket:
    """A request in the engine. The engine's lock guards all but ``answer`` and ``refuse``, which come after it.

    ``rank`` is what the queue sorts by: the moment of arrival, moved ahead by so many seconds per level of priority,
    and a running number. Since everyone ages at the same rate, it never changes while the request waits.
    """

    name: str
    items: Sequence[Item]
    ask: Ask[Any, Any]
    rank: tuple[float, int]
    arrived: float  # engine's clock
    deadline: float | None  # engine's clock
    nbytes: int
    future: Future[Any] = field(default_factory=Future)
    taken: int = 0  # items that a worker has, or had
    is_settled: bool = False
    answers: list[Answer | None] = field(default_factory=list)
    size: int = 0
    _missing: int = 0

    def __post_init__(self) -> None:
        self.size = self._missing = len(self.items)
        self.answers = [None] * self.size

    @property
    def left(self) -> int:
        """Items that no worker has taken."""
        return self.size - self.taken

    def is_late(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline

    def fill(self, start: int, answers: Sequence[Answer]) -> bool:
        """Puts answers in their places; True when there are all."""
        self.answers[start : start + len(answers)] = answers
        self._missing -= len(answers)
        return self._missing == 0

    def settle(self) -> bool:
        """True for the one caller who may now answer or refuse. What was sent in is let go of."""
        if self.is_settled:
            return False
        self.is_settled = True
        self.items = ()
        return True

    def answer(self) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self.answers)

    def refuse(self, error: AnmokError) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


def held(item: Any) -> Any:
    """The item as it may wait and be tried twice: what an open file holds is read now.

    Raises:
        BadMedia: it cannot be read, or does not give bytes.
    """
    if isinstance(item, Prompted):
        image = held(item.image)
        return item if image is item.image else replace(item, image=image)
    if isinstance(item, Conversation):
        return item.with_shown([held(one) for one in item.shown]) if item.shown else item
    if isinstance(item, Frames):
        return replace(item, pictures=tuple(held(one) for one in item.pictures), sound=held(item.sound))
    if isinstance(item, Sound):
        return replace(item, source=held(item.source))
    if isinstance(item, Clip):
        return (
            replace(item, source=[held(one) for one in item.source]) if isinstance(item.source, list | tuple) else item
        )
    read = None if isinstance(item, pillow.Image) else getattr(item, "read", None)
    if not callable(read):
        return item
    try:
        data = read()
    except (OSError, ValueError) as error:
        raise BadMedia(f"{media.describe(item)}: cannot be read ({error})") from None
    if not isinstance(data, bytes):  # a text would be taken for a path
        raise BadMedia(f"{media.describe(item)}: a file opened for text; open it with mode 'rb'")
    return data


def payload(item: Any) -> int:
    """Bytes that an item keeps in memory while it waits."""
    if isinstance(item, Prompted):
        return payload(item.image)
    if isinstance(item, Conversation):
        return sum(payload(part) for turn in item.turns for part in turn.parts)
    if isinstance(item, Frames):
        heard = 0 if item.sound is None else payload(item.sound)
        return heard + sum(payload(one) for one in item.pictures)
    if isinstance(item, Clip | Sound):
        item = item.source
    if isinstance(item, bytes):
        return len(item)
    if isinstance(item, np.ndarray | Encoded):
        return int(item.nbytes)
    if isinstance(item, pillow.Image):
        return item.width * item.height * len(item.getbands())
    if isinstance(item, Text):
        return len(item.text.encode())
    if isinstance(item, list | tuple):
        return sum(payload(one) for one in item)
    return _UNSEEN
