"""The images of one folder under short ids. What is not in that folder has no id, and so cannot be asked for."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from anmok import media
from anmok.errors import BadData, BadMedia, BadRequest, Forbidden
from anmok.results import Failure

T = TypeVar("T")

_ID_BYTES = 8  # among 20,000 images two share an id with a chance of one in 10^11


class Photos:
    """Images below ``folder`` in a stable order: ``names`` are paths below it with forward slashes.

    Args:
        folder: where the images are. Links that lead out of it, second links to one image, and names that are no
            text are left out and counted in ``left_out``.

    Raises:
        BadData: no such folder, or no image in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadData(f"{folder}: no such folder; name the one with the photos")
        self.root = folder.resolve()
        found = list(media.find(folder))
        places: dict[Path, str] = {}
        for path in sorted(found, key=lambda one: one.is_symlink()):  # the image itself before links to it
            place, name = path.resolve(), path.relative_to(folder).as_posix()
            if place.is_relative_to(self.root) and _is_text(name):
                places.setdefault(place, name)
        if not places:
            raise BadData(f"{folder}: no images in it that anmok reads (JPEG, PNG, WEBP ...)")
        self.names: tuple[str, ...] = tuple(sorted(places.values()))
        self.number = {name: i for i, name in enumerate(self.names)}
        self.left_out = len(found) - len(self.names)
        self.ids = tuple(_id(name) for name in self.names)
        self._by_id = {one: i for i, one in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.names)

    def find(self, task_id: str) -> int:
        """The number of the image with that id.

        Raises:
            BadRequest: there is none.
        """
        if task_id not in self._by_id:
            raise BadRequest(f"no image has the id {task_id[:40]!r}: take one that next() gave")
        return self._by_id[task_id]

    def path(self, number: int) -> Path:
        """Where the image lies now.

        Raises:
            Forbidden: meanwhile somebody put a link there that leads out of the folder.
        """
        place = (self.root / self.names[number]).resolve()
        if not place.is_relative_to(self.root):
            raise Forbidden(f"{self.names[number]}: leads out of the folder")
        return place

    def contents(self, number: int) -> bytes | Failure:
        """The bytes of the image's file, or why they cannot be had."""
        name = self.names[number]
        try:
            return self.path(number).read_bytes()
        except OSError as error:
            return Failure(name, BadMedia(f"{name}: cannot be read ({error.strerror})"))
        except Forbidden as error:
            return Failure(name, error)


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """What a model said of images, by their numbers, what their files held, and those that cannot be used."""

    answers: dict[int, T]
    contents: dict[int, bytes]
    broken: set[int]


def answered(
    photos: Photos, numbers: Sequence[int], model: Callable[[list[bytes]], Sequence[T | Failure] | None]
) -> Answered[T] | None:
    """The images of those numbers through a model; None where it gave up.

    Raises:
        AnmokError: what is no fault of the picture's.
    """
    read = {i: photos.contents(i) for i in numbers}
    contents = {i: data for i, data in read.items() if isinstance(data, bytes)}
    found = model(list(contents.values())) if contents else ()
    if found is None:
        return None
    said: dict[int, T | Failure] = dict(zip(contents, found, strict=True))
    failures = {i: one for i, one in {**read, **said}.items() if isinstance(one, Failure)}
    for failure in failures.values():
        if not isinstance(failure.error, BadMedia | Forbidden):
            raise failure.error
    return Answered({i: one for i, one in said.items() if not isinstance(one, Failure)}, contents, set(failures))


def checked_labels(labels: Sequence[str], reserved: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels without blanks around them, fit to be names of folders.

    Raises:
        BadRequest: one is empty, there twice, no name for a folder, or a word that means something else here.
    """
    if isinstance(labels, str):
        raise BadRequest(f"labels: {labels!r} is one text; give several: ('good', 'defect')")
    cleaned = tuple(unicodedata.normalize("NFC", label.strip()) for label in labels)
    for label in cleaned:
        if not label or label.startswith(".") or any(one in "/\\" or not one.isprintable() for one in label):
            raise BadRequest(f"label {label!r}: must have letters, and no slash, line break or dot in front")
        if label in reserved:
            raise BadRequest(f"label {label!r}: means something else here; call it otherwise")
    if not cleaned or len(set(cleaned)) < len(cleaned):
        raise BadRequest(f"labels {', '.join(cleaned) or '()'}: want different ones, and at least one")
    return cleaned


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[: 2 * _ID_BYTES]
