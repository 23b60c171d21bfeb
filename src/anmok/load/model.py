"""What ``load`` returns: a model that answers asks, in Python exactly as behind the CLI and the server."""

from __future__ import annotations

import dataclasses
import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from anmok import clips
from anmok.catalogue import Card
from anmok.errors import BadMedia, BadRequest, Unsupported
from anmok.inputs import Clip, Conversation, Cue, Encoded, Frames, Item, Prompted, Shown, Sound, Source, Text
from anmok.load.adapter import Adapter
from anmok.load.bank import Bank
from anmok.load.closely import Closely
from anmok.load.closely import mark as tiles_mark
from anmok.load.each import all_read, mapped
from anmok.load.states import BATCH, Looker, Ready, State, ahead, check_inside
from anmok.load.talking import UNSPOKEN, talk, told
from anmok.load.tuned import mark, tuned
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Embedding,
    Failure,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Points,
    Reply,
    Result,
    Scores,
    Tracked,
    Tracks,
)
from anmok.tasks import (
    Ask,
    Chat,
    Chats,
    Classifies,
    Classify,
    Depth,
    Detect,
    Embed,
    Follows,
    Gaze,
    Inspect,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Projects,
    Segment,
    Setup,
    Track,
)

R = TypeVar("R", bound=Result)
P = TypeVar("P")

_LARGE = 2**24  # bytes of weights that are worth a tidying

OnBroken = Callable[[int, BadMedia], None]  # frame, reason


class Model:
    """A loaded model. Safe to share between threads: preparing is re-entrant, the net has one lock."""

    def __init__(
        self,
        card: Card,
        kind: Any,
        setup: Setup,
        adapter: Adapter | None = None,
        lock: threading.Lock | None = None,
        mark: str = "",
    ) -> None:
        self.card = card
        self.adapter = adapter
        self.kind: Any = kind  # what the model file made; for models made of this one
        self._setup = setup
        self._lock = threading.Lock() if lock is None else lock  # one for all models of one net
        self.maker = f"{card.name}@{setup.revision}#{setup.pixels.key}/{setup.dtype}{mark}"
        self._looker = Looker(card.name, self.maker, kind, self._lock)

    def run(self, items: Sequence[Item], ask: Ask[R, Any]) -> list[R]:
        """One answer per item, in order, alone or in any batch the same within 1e-5.

        Args:
            items: pictures (path, bytes, PIL, array), ``Encoded`` states, ``Text`` for ``Embed``, or a
                ``Conversation`` each for ``Chat``, and for ``Classify`` of a model that talks.
            ask: the question; its type fixes the type of the answers.

        Raises:
            Unsupported: the card does not claim the task.
            BadMedia: a picture cannot be read; ``map`` goes on instead.
            WrongState: a state of another model.
        """
        self._check(ask)
        if isinstance(ask, Track):
            return cast("list[R]", [self._tracks(item, ask) for item in items])
        completed = self._complete(ask)
        kind, looker = self._opened()
        answers: list[R] = []
        for start in range(0, len(items), BATCH):
            states = looker.states(items[start : start + BATCH])
            answers += self._answer(kind, states, completed)
        return answers

    def stream(self, item: Clip | Conversation, ask: Ask[Any, P], *, on_broken: OnBroken | None = None) -> Iterator[P]:
        """Piece by piece, as soon as it is there: one per frame of a clip, or the words of an answer to a
        conversation; memory does not grow with the clip.

        Closing the iterator ends the work. What is neither ``Track`` nor ``Chat`` is asked of every frame by itself.

        Args:
            item: the moving picture, with the cues that say what to follow; for ``Chat`` what was said.
            ask: the question.
            on_broken: is told the number of a frame that cannot be decoded, and why; the frame is left out.

        Raises:
            BadMedia: the file is no clip, or not one of its frames can be decoded.
            BadRequest: a cue for a frame that the clip does not have or that cannot be decoded, or a cue outside its
                pictures.
        """
        self._check(ask)
        if isinstance(ask, Chat):
            return cast("Iterator[P]", talk(*self._opened(), self._lock, item, ask))
        if not isinstance(item, Clip):
            raise BadRequest("stream: want a clip: anmok.Clip('clip.mp4')")
        if isinstance(ask, Track):
            return cast("Iterator[P]", self._follow(item, ask, on_broken))
        if item.cues:
            raise BadRequest(f"{ask.task} takes no cues: they say what track is to follow")
        stills = clips.frames(item.source, fps=item.fps, start=item.start, end=item.end, on_broken=on_broken)
        return (cast(P, self.run([still.image], ask)[0]) for still in stills)

    def encode(self, images: Sequence[Source]) -> list[Encoded]:
        """Each picture once, for many asks."""
        _, looker = self._opened()
        states: list[Encoded] = []
        for start in range(0, len(images), BATCH):
            states += cast("list[Encoded]", looker.states(images[start : start + BATCH]))
        return states

    def watch(self, clip: Clip) -> Frames:
        """What the model sees of a clip, each frame once, for many questions."""
        return self._opened()[1].watched(clip)

    def listen(self, sound: Sound) -> Sound:
        """What the model hears of a sound, once, for many questions."""
        return self._opened()[1].heard(sound)

    def map(
        self, items: Iterable[Item], ask: Ask[R, Any], *, on_error: Literal["return", "raise"] = "return"
    ) -> Iterator[R | Failure]:
        """As ``run`` over any number of items, decoding ahead; with ``on_error="return"`` a ``Failure`` stands in
        the place of an item that could not be read or answered.

        Raises:
            BadRequest: a ``Track``: clips are followed one by one, by ``run`` or ``stream``. Or a question that none
                of the first items can be asked, each for the same reason.
        """
        self._check(ask)
        if isinstance(ask, Track):
            raise BadRequest("clips are followed one by one: model.stream(clip, ask)")
        completed = self._complete(ask)
        kind, looker = self._opened()

        def asked(ready: Sequence[Ready]) -> list[R]:
            return self._answer(kind, looker.encoded(ready), completed)

        batches = ahead(looker, items)
        if on_error == "return":
            yield from mapped(asked, batches, self.card)
            return
        for _, ready in batches:
            yield from asked(all_read(ready))

    def classify(self, image: Item, labels: Sequence[str] | None = None, *, threshold: float = 0.0) -> Scores:
        """Which of the labels fits the picture?"""
        ask = Classify(_tuple(labels), threshold=threshold)
        return self.run([image], ask)[0]

    def embed(self, item: Item, *, space: Literal["image", "features"] = "image") -> Embedding:
        """The vector of a picture or a ``Text``."""
        return self.run([item], Embed(space))[0]

    def detect(self, image: Item, labels: Sequence[str] | None = None, *, threshold: float | None = None) -> Detections:
        """Boxes around what the labels name; without labels around all that a closed set of classes has."""
        return self.run([image], Detect(_tuple(labels), threshold=threshold))[0]

    def point(self, image: Item, labels: Sequence[str], *, threshold: float | None = None) -> Points:
        """The middle of each thing that the labels name."""
        return self.run([image], Pointing(_tuple(labels) or (), threshold=threshold))[0]

    def segment(self, image: Item, labels: Sequence[str] | None = None, *, threshold: float | None = None) -> Masks:
        """Masks of what a ``Prompted`` points at, of what the labels name, or of everything."""
        return self.run([image], Segment(_tuple(labels), threshold=threshold))[0]

    def track(self, clip: Clip, labels: Sequence[str] | None = None) -> Tracks:
        """All frames of a clip at once; ``stream`` gives them one by one."""
        return self.run([clip], Track(_tuple(labels)))[0]

    def depth(self, image: Item, *, focal_px: float | None = None) -> DepthMap:
        """How far everything is."""
        return self.run([image], Depth(focal_px))[0]

    def pose(self, image: Item) -> Keypoints:
        """The joints of every person."""
        return self.run([image], Pose())[0]

    def gaze(self, image: Item) -> Gazes:
        """Where everybody looks, or whose faces a ``Prompted`` has."""
        return self.run([image], Gaze())[0]

    def parse(self, image: Item) -> PartMap:
        """Which part every pixel belongs to."""
        return self.run([image], Parse())[0]

    def normals(self, image: Item) -> NormalMap:
        """Which way every surface faces."""
        return self.run([image], Normals())[0]

    def matte(self, image: Item) -> Matte:
        """What stands in front, and how opaque it is."""
        return self.run([image], Matting())[0]

    def chat(self, *said: Shown | Conversation | str, max_tokens: int = 512) -> Reply:
        """A conversation, or what is shown and a question about it: ``model.chat("photo.jpg", "What is it?")``."""
        return self.run([Conversation.of(*said)], Chat(max_tokens))[0]

    def state(self, features: NDArray[np.float32]) -> Encoded:
        """A state from features (F,) that this very model made before, as the ladder's cache keeps them."""
        return Encoded(self.maker, {"features": features})

    @property
    def towers(self) -> Projects:
        """The projection and the text tower, for what is built on top of them.

        Raises:
            Unsupported: the model has no text tower.
        """
        kind, _ = self._opened()
        if not isinstance(kind, Projects):
            raise Unsupported(f"{self.card.name} has no text tower; its tasks are {', '.join(self.card.tasks)}")
        return kind

    @property
    def memory_bytes(self) -> int:
        """Of the weights as they are loaded."""
        return int(self._opened()[0].nbytes)

    def with_adapter(self, adapter: Adapter) -> Model:
        """The same net with small trained weights on top; refuses those of another base. Where the tower was tuned, it
        is another net, whose states are its own; so are those of one that looks at tiles."""
        adapter.check(self.card.name, self.maker)
        if adapter.tiling is not None:
            kind = Closely(self.card.name, self._opened()[0], adapter.tiling, self._setup.pixels)
            return Model(adapter.card_on(self.card), kind, self._setup, adapter, self._lock, tiles_mark(adapter.tiling))
        if adapter.change is not None:
            kind = tuned(self._opened()[0], self.card.name, adapter.change)
            return Model(adapter.card_on(self.card), kind, self._setup, adapter, mark=mark(adapter.change))
        return Model(adapter.card_on(self.card), self._opened()[0], self._setup, adapter, self._lock)

    def inspector(self, size: int = 0, bank: Bank | None = None) -> Model:
        """The same net, seeing whole pictures patch by patch on a canvas of ``size`` pixels (0: the card's own). With a
        memory it answers ``Inspect``. Raises ``Unsupported`` without patches, ``WrongState`` for another's memory."""
        from anmok.load.inspector import looking_closely

        seeing = looking_closely((self.card, self._opened()[0], self._setup), self.maker, size, bank)
        return Model(*seeing, lock=self._lock)

    def inspect(self, image: Item, *, threshold: float | None = None) -> AnomalyMap:
        """How strange the picture is to a memory of good ones, and where."""
        return self.run([image], Inspect(threshold))[0]

    def close(self) -> None:
        """Lets go of the weights, and of those of the parts; whatever is asked later raises ``BadRequest``. What is
        being answered, and a ``stream`` that has begun, go on to their end."""
        nbytes = self.kind.nbytes if self.kind is not None else 0
        self.kind = self._looker = cast(Any, None)
        self._setup = dataclasses.replace(self._setup, parts={})
        # Nets with a cache of their own refer to themselves, and would wait for the next large tidying. It takes up to
        # 0.2 s, in which nobody else is answered.
        if nbytes > _LARGE:
            gc.collect()
        if self._setup.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()  # torch keeps what it freed; the next model's budget counts on it

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Model({self.card.name!r}, device={self._setup.device!r}, dtype={self._setup.dtype!r})"

    def _opened(self) -> tuple[Any, Looker]:
        """What the model file made, and what makes its states, to be held while they are used: another thread may
        close the model meanwhile.

        Raises:
            BadRequest: it was closed.
        """
        kind, looker = self.kind, self._looker
        if kind is None or looker is None:
            raise BadRequest(f"{self.card.name} was closed; load it again")
        return kind, looker

    def _check(self, ask: Ask[Any, Any]) -> None:
        self._opened()
        if ask.task not in self.card.tasks:
            raise Unsupported(
                f"{self.card.name} does not {ask.task}; it can {', '.join(self.card.tasks)} "
                f"(`anmok models --task {ask.task}` lists those that can)"
            )

    def _complete(self, ask: Ask[R, Any]) -> Ask[R, Any]:
        """An adapted model brings its own labels and prompts, one that was trained on a closed set its labels."""
        question: Any = ask  # a Classify is an Ask[Scores, Scores], which no checker can tell from R
        if isinstance(ask, Classify) and ask.labels is None:
            own: tuple[str, ...] = getattr(self._opened()[0], "vocabulary", ())
            if self.adapter is None and not own:
                raise BadRequest(f"{self.card.name} needs labels to choose from, as cat,dog")
            question = dataclasses.replace(ask, labels=own) if self.adapter is None else self.adapter.complete(ask)
        return cast("Ask[R, Any]", question)

    def _tracks(self, clip: Item, ask: Track) -> Tracks:
        if not isinstance(clip, Clip):
            raise BadRequest("track takes a clip: anmok.Clip('clip.mp4', cues=(...))")
        broken: list[int] = []
        pieces = tuple(self._follow(clip, ask, lambda frame, _: broken.append(frame)))
        return Tracks(pieces, tuple(broken))

    def _answer(self, kind: Any, states: Sequence[State], ask: Ask[R, Any]) -> list[R]:
        spoken = sum(isinstance(state, Conversation) for state in states)
        is_choice = isinstance(ask, Classify) and isinstance(kind, Chats)  # of what answers a conversation
        if not is_choice and spoken != (len(states) if isinstance(ask, Chat) else 0):
            raise BadRequest(UNSPOKEN if isinstance(ask, Chat) else f"{ask.task} takes no conversations; chat does")
        if not isinstance(ask, Embed) and any(isinstance(state, Text) for state in states):
            raise BadRequest(f"{ask.task} takes pictures; a text can only be embedded")
        if not isinstance(ask, Segment | Pose | Gaze) and any(isinstance(state, Prompted) for state in states):
            raise BadRequest(f"{ask.task} takes no points or boxes: pass the picture alone")
        if isinstance(ask, Classify) and self.adapter is not None and self.adapter.owns(ask):
            rows = self.adapter.rows(cast("Sequence[Encoded]", states))  # (B, F)
            return cast("list[R]", self.adapter.classify(rows, ask))
        if isinstance(ask, Classify) and not isinstance(kind, Classifies):
            own = ", ".join(self.adapter.labels[:5]) if self.adapter is not None else ""
            raise Unsupported(f"{self.card.name} has no text tower for other labels: it knows {own}")
        with self._lock:
            answers = cast("list[R]", getattr(kind, ask.task)(states, ask))
        if isinstance(ask, Chat):
            return cast("list[R]", told(answers, states))
        if isinstance(ask, Classify) and self.adapter is not None and ask.labels == self.adapter.labels:
            return cast("list[R]", [self.adapter.settled(cast(Scores, one), ask) for one in answers])
        return answers

    def _follow(self, clip: Clip, ask: Track, on_broken: OnBroken | None) -> Iterator[Tracked]:
        """Frame by frame through a fresh session; a broken frame is told of and left out."""
        cues: dict[int, list[Cue]] = {}
        for cue in clip.cues:
            cues.setdefault(cue.frame, []).append(cue)
        kind, _ = self._opened()
        session = cast(Follows, kind).follow(ask)
        last = -1
        for still in clips.frames(clip.source, fps=clip.fps, start=clip.start, end=clip.end, on_broken=on_broken):
            missed = [frame for frame in cues if frame < still.index]
            if missed:
                raise BadRequest(f"cue at frame {min(missed)}: that frame cannot be decoded; point at another one")
            here = cues.pop(still.index, [])
            for cue in here:
                check_inside(still.image.shape[:2], cue.points, () if cue.box is None else (cue.box,), cue.mask)
            with self._lock:
                piece = session.step(still.index, still.seconds, still.image, here)
            yield piece
            last = still.index
        if cues:
            raise BadRequest(f"cue at frame {min(cues)}: the clip was read up to frame {last}, and no such frame in it")


def _tuple(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """A text stays one, for the ask to refuse: its letters are no labels."""
    return cast("tuple[str, ...]", labels) if labels is None or isinstance(labels, str) else tuple(labels)
