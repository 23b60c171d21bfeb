"""Sounds in a conversation, against what a model hears; and each as the state that it makes of it."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from anmok import clips
from anmok.catalogue import cards
from anmok.errors import BadRequest, WrongState
from anmok.inputs import Clip, Conversation, Encoded, Frames, Sound
from anmok.tasks import Hears

MOST_TRACK: Final = 1800.0  # seconds of a clip's sound track, which is in memory as a whole: 115 MB at 16,000 a second
_NAMED: Final = 3  # models in a message


def check_sounds(name: str, kind: Any, said: Conversation) -> None:
    """Before anything is opened.

    Raises:
        BadRequest: more sounds than the model hears, those of clips among them.
    """
    count = len(said.sounds) + sum(is_heard(one) for one in said.clips)
    check_count(name, kind, count)


def check_count(name: str, kind: Any, count: int) -> None:
    """Raises:
    BadRequest: more sounds than the model hears."""
    most = kind.most_sounds if isinstance(kind, Hears) else 0
    if count > most:
        hears = f"hears {most} in a conversation" if most else f"hears none ({_who()})"
        raise BadRequest(f"{count} sound{'s' * (count > 1)} for {name}, which {hears}")


def is_heard(clip: Clip | Frames) -> bool:
    """Whether its sound is played as well."""
    return clip.has_sound if isinstance(clip, Clip) else clip.sound is not None


def track(clip: Clip) -> Sound:
    """The sound of a clip whose file has some."""
    source: Any = clip.source
    return Sound(source, clip.start, clip.end)


def heard(owner: tuple[str, Any, threading.Lock], sound: Sound, *, is_of_clip: bool = False) -> Sound:
    """The same as a state. ``owner`` is its maker: the name, what the model file made, its lock.

    Raises:
        BadMedia: it cannot be read, or there is nothing to be heard.
        BadRequest: it is over before it starts, or longer than the model hears.
        WrongState: a state of another model, or of a picture.
    """
    maker, kind, lock = owner
    if isinstance(sound.source, Encoded):
        if sound.source.maker != maker:
            raise WrongState(f"this state was made by {sound.source.maker}, not by {maker}: listen again")
        if sound.source.frame is not None:
            raise WrongState("this state is that of a picture, not of a sound: listen to the sound")
        return sound
    wanted = clips.Wanted(kind.sound_rate, MOST_TRACK if is_of_clip else kind.most_seconds)
    samples = clips.heard(sound.source, wanted, start=sound.start, end=sound.end)
    prepared = kind.prepare_sound(samples, is_of_clip=is_of_clip)
    with lock:
        maps = {key: np.asarray(one) for key, one in kind.encode_sound(prepared).items()}
    for one in maps.values():
        one.flags.writeable = False
    return Sound(Encoded(maker, maps))


def _who() -> str:
    names = [one.name for one in cards("chat") if one.has_ears]
    return f"{' and '.join(names[:_NAMED])} {'hears' if len(names) == 1 else 'hear'}"
