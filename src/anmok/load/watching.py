"""What is shown in a conversation, against what a model takes; and clips as the frames that it is shown of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anmok import clips, media
from anmok.errors import BadRequest
from anmok.geometry import View
from anmok.inputs import Clip, Conversation, Encoded, Frames
from anmok.load.hearing import check_count, check_sounds, is_heard
from anmok.tasks import Chats, Hears, Watches


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


def seen(kind: Watches, clip: Clip | Frames) -> Iterator[tuple[float, View | Encoded]]:
    """The frames with their seconds, one by one as they are read: of a clip those that the model is to see, each
    prepared; of frames all, and what is a state already as it is.

    Raises:
        BadMedia: the clip, or a picture, cannot be read.
        BadRequest: the clip is over before it starts, or is too long.
    """
    if isinstance(clip, Frames):
        for seconds, picture in zip(clip.seconds, clip.pictures, strict=True):
            yield seconds, picture if isinstance(picture, Encoded) else kind.prepare_frame(media.read(picture))
        return
    stills = clips.sampled(
        clip.source, kind.most_frames, fps=clip.fps, usual=kind.usual_fps, start=clip.start, end=clip.end
    )
    for still in stills:
        yield still.seconds, kind.prepare_frame(still.image)
