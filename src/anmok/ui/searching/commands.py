"""A search as something to copy: text that runs as it stands, beside the folder that it names."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from anmok.catalogue import Card


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visitor looked for: ``photos`` is the folder as he knows it; ``words``, or else ``image``, a file's name.
    ``target`` is what ``anmok.load`` takes."""

    photos: str
    words: str
    image: str
    target: str
    card: Card
    count: int


def python(wanted: Wanted) -> str:
    """The search in Python."""
    terms = "" if wanted.card.licence.is_accepted_by_default else f", accept_licences={(wanted.card.licence.id,)!r}"
    asked = f"by_words(model, {wanted.words!r})" if wanted.words else f"by_photo(model, {wanted.image!r})"
    return "\n".join(
        [
            "from pathlib import Path",
            "",
            "import anmok",
            "from anmok import index",
            "",
            f"model = anmok.load({wanted.target!r}{terms})",
            f"photos = index.build(Path({wanted.photos!r}), model)",
            f"for hit in photos.search(index.{asked}, {wanted.count}):",
            '    print(f"{hit.cosine:.3f}", hit.path)',
            "",
        ]
    )


def shell(wanted: Wanted) -> str:
    """The search in the command line."""
    asked = [wanted.words] if wanted.words else ["--image", wanted.image]
    line = ["anmok", "search", wanted.photos, *asked, "--count", str(wanted.count), "--model", wanted.target]
    if not wanted.card.licence.is_accepted_by_default:
        line += ["--accept-licence", wanted.card.licence.id]
    return shlex.join(line) + "\n"
