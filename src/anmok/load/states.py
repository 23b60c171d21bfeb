"""From items to states: pictures are read and prepared beside each other, and encoded in groups of one shape."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import AnmokError, BadRequest, Unsupported, WrongState
from anmok.geometry import Rle, View
from anmok.inputs import Clip, Conversation, Encoded, Frames, Item, Prompted, Shown, Sound, Text
from anmok.load import hearing
from anmok.load.watching import Showing, check_clip, check_shown
from anmok.tasks import Encoder, Follows, Watches

State: TypeAlias = Encoded | Text | Prompted | Conversation  # the pictures of the last two are states here
Seen: TypeAlias = View | Encoded | Text

BATCH = 16  # pictures; beyond this a CPU gains nothing and memory grows
DECODERS = 2
# Canvas pixels in one pass of the net: 16 of 384 x 384, but two of 1024 x 1024, whose attention is what fills memory.
_PIXELS = 16 * 384 * 384


class Preparing(threading.local):
    """Seconds that this thread waited for pictures to be read and resized, since somebody set them to 0."""

    seconds = 0.0


preparing: Final = Preparing()


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """An item that was read: a view waits for the net, a state does not. ``around`` is what it was wrapped in; a
    conversation is wrapped around any number of pictures, and its clips and sounds hold states already."""

    seen: tuple[Seen, ...]
    around: Prompted | Conversation | None = None


class Looker:
    """Makes the states of one model. ``prepared`` is re-entrant; the net has one caller at a time."""

    def __init__(self, name: str, maker: str, kind: Any, lock: threading.Lock) -> None:
        self._name = name
        self._maker = maker
        self._kind = kind
        self._lock = lock

    def states(self, items: Sequence[Item]) -> list[State]:
        """One state per item, in order."""
        began = time.perf_counter()
        if len(items) == 1 or not any(_is_picture(item) for item in items):
            ready = [self.prepared(item) for item in items]
        else:
            with ThreadPoolExecutor(DECODERS) as pool:  # decoding and resizing let go of the interpreter's lock
                ready = list(pool.map(self.prepared, items))
        preparing.seconds += time.perf_counter() - began
        return self.encoded(ready)

    def prepared(self, item: Item) -> Ready:
        """Reads and resizes.

        Raises:
            BadMedia: the picture cannot be read.
            BadRequest: a prompt that does not fit its picture, or more pictures than the model takes.
            WrongState: a state of another model.
            Unsupported: the model reads text only, or only follows what is in clips.
        """
        if isinstance(item, Prompted):
            [seen] = self.prepared(item.image).seen
            _check_prompt(item, seen)
            return Ready((seen,), item)
        if isinstance(item, Conversation):
            return self._conversation(item)
        if isinstance(item, Text):
            return Ready((item,))
        if isinstance(item, Clip):
            raise BadRequest("a clip is followed or streamed, not encoded: model.stream(clip, ask)")
        if isinstance(item, Encoded):
            if item.maker != self._maker:
                raise WrongState(f"this state was made by {item.maker}, not by {self._maker}: encode it again")
            return Ready((item,))
        if not isinstance(self._kind, Encoder):
            if isinstance(self._kind, Follows):
                raise Unsupported(
                    f"{self._name} makes no states of pictures: it follows clips, model.stream(clip, ask)"
                )
            raise Unsupported(f"{self._name} reads text only: pass anmok.Text")
        return Ready((self._kind.prepare(media.read(item)),))

    def watched(self, clip: Clip | Frames) -> Frames:
        """The frames that the model sees of a clip, as states. So many of them are in memory as pixels as go through
        the net together. Where fewer come than were looked for, and these are shown larger, the clip is read again.

        Raises:
            BadRequest: a model that takes no clips, or a clip that is over before it starts.
            BadMedia: it cannot be read.
            WrongState: one of the frames is a state of another model.
        """
        check_clip(self._name, self._kind, clip)
        kind = cast(Watches, self._kind)
        showing = Showing(kind, clip)
        found = self._shown(showing)
        if showing.is_apart(len(found)):
            found = self._shown(Showing(kind, clip, len(found)))
        return Frames(tuple(state for state, _ in found), tuple(seconds for _, seconds in found), self._track(clip))

    def heard(self, sound: Sound) -> Sound:
        """What the model hears of a sound, as a state.

        Raises:
            BadRequest: a model that hears none, or a sound that is over before it starts, or too long.
            BadMedia: it cannot be read, or is silent.
            WrongState: a state of another model, or of a picture.
        """
        hearing.check_count(self._name, self._kind, 1)
        return hearing.heard(self._owner, sound)

    def _shown(self, showing: Showing) -> list[tuple[Encoded, float]]:
        """The states of all frames, and their seconds."""
        frames, found = iter(showing), []
        while chunk := list(islice(frames, BATCH)):
            views = [self.prepared(view).seen[0] if isinstance(view, Encoded) else view for _, view in chunk]
            states = cast("list[Encoded]", self._states_of(views))
            found += [(state, seconds) for state, (seconds, _) in zip(states, chunk, strict=True)]
        return found

    def _track(self, clip: Clip | Frames) -> Sound | None:
        if isinstance(clip, Frames):
            return None if clip.sound is None else hearing.heard(self._owner, clip.sound, is_of_clip=True)
        return hearing.heard(self._owner, hearing.track(clip), is_of_clip=True) if clip.has_sound else None

    @property
    def _owner(self) -> tuple[str, Any, threading.Lock]:
        return self._maker, self._kind, self._lock

    def _conversation(self, said: Conversation) -> Ready:
        check_shown(self._name, self._kind, said)
        around = said.with_shown([self._played(one) for one in said.shown]) if said.clips or said.sounds else said
        return Ready(tuple(view for one in around.pictures for view in self.prepared(one).seen), around)

    def _played(self, one: Shown) -> Shown:
        """Clips and sounds as states; pictures are for those who encode several together."""
        if isinstance(one, Sound):
            return self.heard(one)
        return self.watched(one) if isinstance(one, Clip | Frames) else one

    def encoded(self, ready: Sequence[Ready]) -> list[State]:
        """Views become states, in groups of equal shape; what is a state already passes through."""
        states = iter(self._states_of([seen for one in ready for seen in one.seen]))
        return [_wrapped([next(states) for _ in one.seen], one.around) for one in ready]

    def _states_of(self, seen: Sequence[Seen]) -> list[Encoded | Text]:
        states: dict[int, Encoded | Text] = {i: one for i, one in enumerate(seen) if not isinstance(one, View)}
        shapes: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(seen):
            if isinstance(one, View):
                shapes.setdefault(one.pixels.shape, []).append(index)
        for shape, indices in shapes.items():
            size = max(1, min(BATCH, 3 * _PIXELS // math.prod(shape)))  # all tiles of a picture count
            for start in range(0, len(indices), size):
                chunk = indices[start : start + size]
                views = [cast(View, seen[i]) for i in chunk]
                states.update(zip(chunk, self._encode(views), strict=True))
        return [states[index] for index in range(len(seen))]

    def _encode(self, views: Sequence[View]) -> list[Encoded]:
        arrays = [view.pixels for view in views]
        batch: NDArray[Any] = arrays[0][None] if len(arrays) == 1 else np.stack(arrays)  # (B, 3, h, w)
        with self._lock:
            maps = cast(Encoder, self._kind).encode(batch)  # each (B, ...)
        return [
            Encoded(self._maker, {name: _row(array, i) for name, array in maps.items()}, view.frame)
            for i, view in enumerate(views)
        ]


def ahead(looker: Looker, items: Iterable[Item]) -> Iterator[tuple[list[Item], list[Ready | AnmokError]]]:
    """Batches of prepared items; the next batch is decoded while the net works on this one."""

    def prepared(item: Item) -> Ready | AnmokError:
        try:
            return looker.prepared(item)
        except AnmokError as error:
            return error

    stream = iter(items)
    with ThreadPoolExecutor(DECODERS) as pool:
        batch = list(islice(stream, BATCH))
        waiting = [pool.submit(prepared, item) for item in batch]
        try:
            while batch:
                following = list(islice(stream, BATCH))
                ready = [future.result() for future in waiting]
                waiting = [pool.submit(prepared, item) for item in following]
                yield batch, ready
                batch = following
        finally:  # nothing waits where all was asked for; the rest is not worth reading
            for future in waiting:
                future.cancel()


def _is_picture(item: Item) -> bool:
    """Whether something in it is to be read and resized."""
    if isinstance(item, Conversation):
        return bool(item.shown)
    return not isinstance(item.image if isinstance(item, Prompted) else item, Encoded | Text)


def _row(array: NDArray[np.generic], index: int) -> NDArray[np.generic]:
    """One picture's part of a batch, by itself: a view would keep the whole batch in memory."""
    row: NDArray[np.generic] = np.asarray(array[index]) if len(array) == 1 else np.array(array[index])
    row.flags.writeable = False
    return row


def _wrapped(states: Sequence[Encoded | Text], around: Prompted | Conversation | None) -> State:
    """Prompt or conversation around the states of its pictures."""
    pictures = [cast(Encoded, state) for state in states]
    if isinstance(around, Conversation):
        return _with_pictures(around, pictures) if pictures else around
    return states[0] if around is None else dataclasses.replace(around, image=pictures[0])


def _with_pictures(said: Conversation, pictures: Sequence[Encoded]) -> Conversation:
    rest = iter(pictures)
    return said.with_shown([one if isinstance(one, Clip | Frames | Sound) else next(rest) for one in said.shown])


def _check_prompt(prompt: Prompted, seen: Seen) -> None:
    if isinstance(seen, Text):
        raise BadRequest("a text cannot be pointed at")
    size = seen.frame.size_hw if isinstance(seen, View) else seen.place.size_hw
    check_inside(size, prompt.points, (*prompt.boxes, *(box for box, _ in prompt.exemplars)), prompt.mask)


def check_inside(
    size_hw: tuple[int, ...],
    points: Sequence[tuple[float, float, int]],
    boxes: Sequence[tuple[float, ...]],
    mask: Rle | None,
) -> None:
    """Points lie in the picture, boxes cover some of it, and a mask has its size.

    Raises:
        BadRequest: they do not.
    """
    height, width = size_hw
    for x, y, _ in points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise BadRequest(f"point ({x:g}, {y:g}) lies outside the picture of {width} x {height} pixels")
    for left, top, right, bottom in boxes:
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            raise BadRequest(
                f"box ({left:g}, {top:g}, {right:g}, {bottom:g}) lies outside the picture of {width} x {height} pixels"
            )
    if mask is not None and mask.size_hw != tuple(size_hw):
        raise BadRequest(f"mask of size {mask.size_hw}: the picture has {tuple(size_hw)}")
