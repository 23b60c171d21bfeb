"""What is shown, or played, in a turn of a conversation: clips, their frames, sounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadRequest
from anmok.inputs.pointing import Cue, Encoded, each
from anmok.media import Source


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A moving picture: a video file, its bytes, a folder of numbered images, or pictures in order.

    ``fps=None`` takes every frame as it is; otherwise frames are taken at that rate by time. ``start`` and ``end``
    are seconds. ``cues`` point at what is to be followed. ``has_sound`` plays the sound track as well, to a model that
    hears.
    """

    source: Path | str | bytes | Sequence[Source]
    fps: float | None = None
    start: float = 0.0
    end: float | None = None
    cues: tuple[Cue, ...] = field(default=())
    has_sound: bool = False

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise BadRequest(f"clip: fps {self.fps} must lie above 0 and not over 1000")
        if not (0 <= self.start < math.inf and (self.end is None or self.start < self.end < math.inf)):
            raise BadRequest(f"clip: start {self.start} and end {self.end} span no time")
        if self.has_sound and isinstance(self.source, list | tuple | np.ndarray):
            raise BadRequest("clip: pictures have no sound track; play the sound beside them, as anmok.Sound")


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Something to be heard: a file (or the sound track of a video file), its bytes, or samples with their rate.

    Samples are (N,) or (N, channels): floats between -1 and 1, int16 or int32. ``start`` and ``end`` are seconds. What
    a model made of a sound (``Model.listen``) is a ``Sound`` as well, of a state.

    Raises:
        BadRequest: ``start`` and ``end`` span no time, or samples that come without their rate.
    """

    source: Path | str | bytes | BinaryIO | tuple[NDArray[Any], int] | Encoded
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.start < math.inf and (self.end is None or self.start < self.end < math.inf)):
            raise BadRequest(f"sound: start {self.start} and end {self.end} span no time")
        is_pair = isinstance(self.source, tuple) and len(self.source) == 2
        if isinstance(self.source, np.ndarray | list | tuple) and not is_pair:
            raise BadRequest("sound: samples come with their rate: anmok.Sound((samples, 16000))")

    @property
    def nbytes(self) -> int:
        """Of its state."""
        return self.source.nbytes if isinstance(self.source, Encoded) else 0


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """What is shown of a clip: pictures in order, and when each of them is to be seen.

    ``seconds`` count from the beginning of the clip, and grow from one picture to the next. A model that watches makes
    it of a ``Clip`` (``Model.watch``), with a state for each picture; whoever knows better which frames matter hands in
    his own. ``sound`` is what is heard of the clip.

    Raises:
        BadRequest: no picture, not one time for each, times that do not grow from 0 on, or a sound that is none.
    """

    pictures: tuple[Source | Encoded, ...]
    seconds: tuple[float, ...]
    sound: Sound | None = None

    def __post_init__(self) -> None:
        pictures, times = each(self.pictures, "frames"), each(self.seconds, "frames: seconds")
        if not pictures or len(pictures) != len(times):
            raise BadRequest(f"frames: {len(pictures)} pictures and {len(times)} times; want a time for each picture")
        try:
            seconds = tuple(float(one) for one in times)
        except (TypeError, ValueError):
            seconds = (-1.0,)
        if not (seconds[0] >= 0 and seconds[-1] < np.inf and all(a < b for a, b in pairwise(seconds))):
            raise BadRequest("frames: seconds are counted from the beginning of the clip, and grow")
        if self.sound is not None and not isinstance(self.sound, Sound):
            raise BadRequest(f"frames: their sound is an anmok.Sound, not {type(self.sound).__name__}")
        object.__setattr__(self, "pictures", tuple(pictures))
        object.__setattr__(self, "seconds", seconds)

    @property
    def nbytes(self) -> int:
        """Of its states."""
        heard = 0 if self.sound is None else self.sound.nbytes
        return heard + sum(one.nbytes for one in self.pictures if isinstance(one, Encoded))


Shown: TypeAlias = Source | Encoded | Clip | Frames | Sound  # in a turn: a picture, a moving one, or a sound
