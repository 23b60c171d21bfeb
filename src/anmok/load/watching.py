"""What is shown in a conversation, against what a model takes; and clips as the frames that it is shown of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anmok import clips, media
from anmok.errors import BadRequest
from anmok.geometry import View
from anmok.inputs import Clip, Conversation, Encoded, Frames
from anmok.load.hearing import check_count, check_sounds, is_heard
from anmok.tasks import Chats, Hears, SizesFrames, Watches


def check_shown(name: str, kind: Any, said: Conversation) -> None:
    """Before anything of it is opened.

    Raises:
        BadRequest: more pictures, clips or sounds than the model takes, or more frames of a clip.
    """
    if not isinstance(kind, Chats):
        return
    check_sounds(name, kind, said)
    pictures, moving = len(said.pictures), said.clips
    if pictures > kind.most_pictures:
        takes = f"takes {kind.most_pictures} in a conversation" if kind.most_pictures else f"takes none: {_only(kind)}"
        raise BadRequest(f"{pictures} picture{'s' * (pictures > 1)} for {name}, which {takes}")
    for one in moving:
        check_clip(name, kind, one, len(moving))


def check_clip(name: str, kind: Any, clip: Clip | Frames, count: int = 1) -> None:
    """One of ``count`` clips, before it is opened.

    Raises:
        BadRequest: the model takes no clips, or fewer; more frames than it takes; no sound of one; or cues.
    """
    if is_heard(clip):
        check_count(name, kind, 1)
    most = kind.most_clips if isinstance(kind, Watches) else 0
    if count > most:
        has_eyes = not isinstance(kind, Chats) or kind.most_pictures
        why = "show it single frames, as pictures" if has_eyes else _only(kind)
        takes = f"takes {most} in a conversation" if most else f"takes none: {why}"
        raise BadRequest(f"{count} clip{'s' * (count > 1)} for {name}, which {takes}")
    if isinstance(clip, Frames) and len(clip.pictures) > kind.most_frames:
        raise BadRequest(f"{len(clip.pictures)} frames for {name}, which takes {kind.most_frames} of a clip")
    if isinstance(clip, Clip) and clip.cues:
        raise BadRequest("cues say what track is to follow; leave them out of the clip")


def _only(kind: Any) -> str:
    """What a model does that does not see."""
    return "it only reads and hears" if isinstance(kind, Hears) and kind.most_sounds else "it only reads"


class Showing:
    """The frames that a model is to see of a clip with their seconds, each prepared, one by one as they are read; of
    ``Frames`` all of them, and what is a state already as it is. ``count`` is how many will come, where that is known;
    otherwise they are prepared for as many as are looked for.

    Raises:
        BadMedia: the clip, or a picture, cannot be read.
        BadRequest: the clip is over before it starts, or is too long.
    """

    def __init__(self, kind: Watches, clip: Clip | Frames, count: int | None = None) -> None:
        self._kind = kind
        self._first_hw: tuple[int, int] | None = None  # as it came; of a state that does not say, not known
        if isinstance(clip, Frames):
            self._found, foreseen = _handed(clip), len(clip.pictures)
        else:
            sample = clips.sampled(
                clip.source, kind.most_frames, fps=clip.fps, usual=kind.usual_fps, start=clip.start, end=clip.end
            )
            self._found, foreseen = ((still.seconds, still.image) for still in sample), sample.count
        self._count = count or foreseen

    def __iter__(self) -> Iterator[tuple[float, View | Encoded]]:
        size_hw: tuple[int, int] | None = None
        for number, (seconds, picture) in enumerate(self._found):
            if number == 0:
                self._first_hw = _size_of(picture)
                size_hw = self._size(self._count)
            yield seconds, picture if isinstance(picture, Encoded) else self._prepared(picture, size_hw)

    def is_apart(self, count: int) -> bool:
        """Whether what was shown had another size than so many frames have."""
        return self._size(count) != self._size(self._count)

    def _size(self, count: int) -> tuple[int, int] | None:
        if self._first_hw is None or not isinstance(self._kind, SizesFrames):
            return None
        return self._kind.frame_size(self._first_hw, count)

    def _prepared(self, image: media.Image, size_hw: tuple[int, int] | None) -> View:
        if size_hw is None or not isinstance(self._kind, SizesFrames):
            return self._kind.prepare_frame(image)
        return self._kind.prepare_frame(image, size_hw)


def _size_of(picture: media.Image | Encoded) -> tuple[int, int] | None:
    if isinstance(picture, Encoded):
        return None if picture.frame is None else picture.frame.size_hw
    return picture.shape[0], picture.shape[1]


def _handed(frames: Frames) -> Iterator[tuple[float, media.Image | Encoded]]:
    for seconds, picture in zip(frames.seconds, frames.pictures, strict=True):
        yield seconds, picture if isinstance(picture, Encoded) else media.read(picture)
