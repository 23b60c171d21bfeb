"""What a model file must offer for each task, and what it is handed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anmok.geometry import Pixels, View
from anmok.inputs import Conversation, Cue, Encoded, Prompted, Text
from anmok.results import (
    AnomalyMap,
    DepthMap,
    Detections,
    Embedding,
    Gazes,
    Keypoints,
    Masks,
    Matte,
    NormalMap,
    PartMap,
    Piece,
    Points,
    Reply,
    Scores,
    Tracked,
)
from anmok.tasks.asks import Classify, Embed
from anmok.tasks.inspecting import Inspect
from anmok.tasks.seeing import Depth, Detect, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment, Track
from anmok.tasks.talking import Chat


@dataclass(frozen=True, slots=True)
class TextRules:
    """How a text tower wants its text."""

    templates: tuple[str, ...] = ("{}",)
    context: int = 77  # tokens
    is_lowercased: bool = False
    is_padded: bool = False  # to the whole context


@dataclass(frozen=True, slots=True)
class Setup:
    """All that ``load`` hands to a model file: the card's facts as plain values, and where the files are."""

    name: str
    kind: str  # which of the family's configurations
    pixels: Pixels
    text: TextRules
    scoring: Literal["softmax", "sigmoid"]
    languages: tuple[str, ...]
    revision: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    runtime: Literal["torch", "fastest"] = "torch"
    files: Mapping[str, Path] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Encoder(Protocol):
    """Pictures to what asks are answered from. ``prepare`` is re-entrant and runs outside the model's lock."""

    def prepare(self, image: NDArray[np.uint8]) -> View:
        """One picture uint8 (H, W, 3) to the net's input (3, h, w); equal shapes batch together."""
        ...

    def encode(self, batch: NDArray[Any]) -> Mapping[str, NDArray[np.generic]]:
        """(B, 3, h, w) to named arrays (B, ...), from which ``Encoded`` is made row by row.

        A model that embeds gives ``features`` float32 (B, F). One whose picture and question meet early may give
        its ``pixels`` back and do the work when it is asked.
        """
        ...


@runtime_checkable
class SeesPatches(Protocol):
    """A second way to look, patch by patch, for inspection; ``encode`` is no slower for it."""

    def patches(self, batch: NDArray[Any]) -> Mapping[str, NDArray[np.float32]]:
        """(B, 3, h, w) to ``patches`` (B, rows, columns, C), which cover the whole canvas evenly, and ``features``
        (B, F). ``cells`` (B, rows, columns, F) are there where their mean is ``features``: parts of a picture then
        lie in the space of whole pictures."""
        ...


@runtime_checkable
class Inspects(Protocol):
    def inspect(self, states: Sequence[Encoded], ask: Inspect) -> list[AnomalyMap]: ...


@runtime_checkable
class Classifies(Protocol):
    """One that ``Chats`` as well takes conversations beside states: the labels are answers to the last turn."""

    def classify(self, states: Sequence[Encoded], ask: Classify) -> list[Scores]: ...


@runtime_checkable
class Embeds(Protocol):
    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]: ...


@runtime_checkable
class Projects(Protocol):
    """Two towers meeting in one space. What the upper rungs of the ladder start from.

    ``projection`` is (F, D): features @ projection, normalised, is the image's vector. ``text_vectors`` gives one
    unit row (C, D) per label, prompts averaged. ``temperature`` is the factor on the cosine (CLIP's
    ``exp(logit_scale)``) and ``bias`` what is added to it (SigLIP's).
    """

    @property
    def projection(self) -> NDArray[np.float32]: ...

    @property
    def temperature(self) -> float: ...

    @property
    def bias(self) -> float: ...

    def text_vectors(self, ask: Classify) -> NDArray[np.float32]: ...


@runtime_checkable
class Tunes(Protocol):
    """A picture tower whose weights may be changed. ``trunk`` is a ``nets.trunk.Trunk`` on the CPU in float32, with
    copies of the weights; ``tuned`` is the same model after ``change`` did something to such a trunk, in place."""

    def trunk(self) -> Any: ...

    def tuned(self, change: Callable[[Any], None]) -> Any: ...


@runtime_checkable
class WordVectors(Protocol):
    """A model that goes from features to the text space through class probabilities (ConSE), not by its projection.

    ``classify`` and ``embed`` answer this way; the projection is there for what can only tune a matrix.
    """

    def word_vectors(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, F) to unit rows (N, D)."""
        ...


@runtime_checkable
class Detects(Protocol):
    """``vocabulary`` are the classes of a closed set; empty where labels are read as text."""

    @property
    def vocabulary(self) -> tuple[str, ...]: ...

    def detect(self, states: Sequence[Encoded], ask: Detect) -> list[Detections]: ...


@runtime_checkable
class PointsAt(Protocol):
    def point(self, states: Sequence[Encoded], ask: Pointing) -> list[Points]: ...


@runtime_checkable
class Segments(Protocol):
    """A state alone asks for the labels, or for everything; in a ``Prompted`` the picture is a state."""

    def segment(self, states: Sequence[Encoded | Prompted], ask: Segment) -> list[Masks]: ...


@runtime_checkable
class MeasuresDepth(Protocol):
    def depth(self, states: Sequence[Encoded], ask: Depth) -> list[DepthMap]: ...


@runtime_checkable
class Poses(Protocol):
    """In a ``Prompted`` the boxes are the people, and no detector is asked."""

    def pose(self, states: Sequence[Encoded | Prompted], ask: Pose) -> list[Keypoints]: ...


@runtime_checkable
class FindsGazes(Protocol):
    """In a ``Prompted`` the boxes are the faces, or the point is an eye, and no face is looked for."""

    def gaze(self, states: Sequence[Encoded | Prompted], ask: Gaze) -> list[Gazes]: ...


@runtime_checkable
class Parses(Protocol):
    def parse(self, states: Sequence[Encoded], ask: Parse) -> list[PartMap]: ...


@runtime_checkable
class FindsNormals(Protocol):
    def normals(self, states: Sequence[Encoded], ask: Normals) -> list[NormalMap]: ...


@runtime_checkable
class Mattes(Protocol):
    def matte(self, states: Sequence[Encoded], ask: Matting) -> list[Matte]: ...


class Session(Protocol):
    """What follows objects through one clip: the only thing here that changes, and it has one caller.

    Its memory does not grow with the clip.
    """

    def step(self, frame: int, seconds: float, image: NDArray[np.uint8], cues: Sequence[Cue]) -> Tracked:
        """The next frame, uint8 (H, W, 3), all of one size, with the cues that belong to it; or the last frame once
        more, with further cues."""
        ...


@runtime_checkable
class Follows(Protocol):
    def follow(self, ask: Track) -> Session:
        """A fresh session."""
        ...


@runtime_checkable
class Chats(Protocol):
    """A model that talks; one that looks at pictures is an ``Encoder`` as well.

    The pictures of a conversation come as states of this model, so that whoever asks ten questions about one picture
    has it encoded once. Texts are the caller's words: what looks like a special token in them (``<image>``,
    ``<|im_end|>``) is read as letters. ``anmok.utterance`` does what all answers need: characters out of bytes, stop
    texts, counts.
    """

    @property
    def most_pictures(self) -> int:
        """Of one conversation; 0 for a model that only reads."""
        ...

    def chat(self, states: Sequence[Conversation], ask: Chat) -> list[Reply]:
        """Each as if it were alone.

        Raises:
            BadRequest: a prompt that is longer than the context.
            Unsupported: a schema, of a model that cannot be held to one.
        """
        ...

    def talk(self, state: Conversation, ask: Chat) -> Iterator[Piece]:
        """The same answer, pulled piece by piece; the net works between one piece and the next alone, so that its lock
        is free in between. The last piece has the ``Reply``."""
        ...


@runtime_checkable
class Watches(Protocol):
    """A model that talks about clips as well. To it a clip is ``Frames``: some of its pictures, each encoded as a state
    of its own, and their times; whatever it makes of them together, it makes when it is asked.
    """

    @property
    def most_clips(self) -> int:
        """Of one conversation; 0 for a model that takes none."""
        ...

    @property
    def most_frames(self) -> int:
        """Of one clip."""
        ...

    @property
    def usual_fps(self) -> float | None:
        """How many frames a second it learned from; None where it was ``most_frames`` of any clip, evenly spread. A
        clip that names a rate of its own gets that one."""
        ...

    def prepare_frame(self, image: NDArray[np.uint8]) -> View:
        """As ``Encoder.prepare``, of one frame, which most families look at less closely than at a picture."""
        ...


@runtime_checkable
class SizesFrames(Watches, Protocol):
    """A model that may show each frame the smaller, the more of them there are. It is told how many before the first
    of them is prepared, so that none is kept larger than it is looked at."""

    def frame_size(self, first_hw: tuple[int, int], count: int) -> tuple[int, int] | None:
        """Height and width in which so many frames are shown of which the first came in ``first_hw``; None where the
        others make no difference to a frame.

        Raises:
            BadMedia: a shape that is not looked at.
        """
        ...

    def prepare_frame(self, image: NDArray[np.uint8], size_hw: tuple[int, int] | None = None) -> View:
        """As ``Watches`` has it, for a clip that is shown in ``size_hw``."""
        ...


@runtime_checkable
class Hears(Protocol):
    """A model that talks about sounds as well. To it a sound is a ``Sound`` of a state, and that of a clip stands in
    the clip's ``Frames``."""

    @property
    def most_sounds(self) -> int:
        """Of one conversation, those of clips among them; 0 for a model that hears none."""
        ...

    @property
    def sound_rate(self) -> int:
        """Values a second."""
        ...

    @property
    def most_seconds(self) -> float:
        """Of one sound; of a clip's sound track it may hear parts."""
        ...

    def prepare_sound(self, samples: NDArray[np.float32], *, is_of_clip: bool) -> NDArray[np.float32]:
        """A sound float32 (N,) between -1 and 1 to the net's input, without the batch axis. Re-entrant."""
        ...

    def encode_sound(self, prepared: NDArray[np.float32]) -> Mapping[str, NDArray[np.generic]]:
        """One prepared sound to named arrays, of which ``Encoded`` is made."""
        ...
