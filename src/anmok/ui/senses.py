"""What a model takes of what people bring, as its card says: photos, videos, sounds, or words alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from anmok.catalogue import Card
from anmok.clips import SOUND_SUFFIXES, VIDEO_SUFFIXES
from anmok.ui.host import Host
from anmok.ui.texts import Words

Kind: TypeAlias = Literal["photo", "video", "sound"]


def kind_of(path: str) -> Kind:
    """By its name, as the browser chose it. What has no name that we know is looked at as a photo, and refused as one
    where it is none."""
    suffix = Path(path).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "sound" if suffix in SOUND_SUFFIXES else "photo"


@dataclass(frozen=True, slots=True)
class Senses:
    """Of one model, in a conversation."""

    has_eyes: bool
    has_clips: bool
    has_ears: bool

    @classmethod
    def of(cls, host: Host, name: str) -> Senses:
        """Those of a served model; none of a name that there is not."""
        card = host.models.get(name)
        return cls(False, False, False) if card is None else cls(card.has_eyes, card.has_clips, card.has_ears)

    def takes(self, path: str) -> bool:
        """Whether such a file is anything to it."""
        return {"photo": self.has_eyes, "video": self.has_clips, "sound": self.has_ears}[kind_of(path)]

    def refused(self, shown: Iterable[str], heard: str | None) -> list[str]:
        """The names of the files that are nothing to it. ``heard`` came as a sound, whatever it is called."""
        strange = [path for path in shown if not self.takes(path)]
        return [Path(path).name for path in (*strange, *([heard] if heard and not self.has_ears else ()))]

    def line(self, words: Words, name: str) -> str:
        """What it takes and what not, in a sentence."""
        have = {"photos": self.has_eyes, "videos": self.has_clips, "sounds": self.has_ears}
        key = "_".join(kind for kind, has in have.items() if has) or "words"
        return words(f"chat.takes.{key}", name)


def taken_in(words: Words, card: Card, task: str) -> str:
    """The same of a task that is tried with one thing at a time, in a few words."""
    if task == "track":
        return words("try.takes.video")
    return words("try.takes.photo_or_words" if task == "embed" and card.languages else "try.takes.photo")
