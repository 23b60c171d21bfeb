"""How a search stands, and what it found: sentences, small pictures and a file to take along."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from PIL import Image as pillow

from anmok import media, words
from anmok.catalogue import Card
from anmok.errors import BadMedia
from anmok.files import cannot_write
from anmok.index import Hit, Index
from anmok.ui.look import paragraph
from anmok.ui.searching.shelves import Shelf
from anmok.ui.texts import Words

_SIDE: Final = 640  # pixels of the longer side of a picture in the gallery
_READERS: Final = 2
_NAMED: Final = 28  # letters of a name below a picture; the file has it whole


def looking(texts: Words, shelf: Shelf) -> str:
    """How far a folder is looked through."""
    text = texts("search.looking", f"{shelf.done:,}", f"{shelf.total:,}") if shelf.total else texts("search.waiting")
    bar = f' value="{shelf.done}" max="{shelf.total}"' if shelf.total else ""
    return f'{paragraph(text)}<progress{bar} aria-label="{html.escape(text)}"></progress>'


def ready(texts: Words, index: Index) -> str:
    """A folder that can be searched, and how much of it cannot."""
    told = paragraph(texts("search.ready", f"{len(index):,}"))
    broken = index.failures
    if not broken:
        return told
    return told + paragraph(texts("search.unread", f"{len(broken):,}", Path(broken[0].source).name))


def found(texts: Words, index: Index, hits: Sequence[Hit], card: Card, text: str) -> str:
    """What a search found, and how the words were read where the model reads another language."""
    told = paragraph(texts("search.found", f"{len(index):,}", len(hits), hits[0].cosine, hits[-1].cosine))
    note = words.read((text,), card.languages).note() if text else ""
    return told + (paragraph(texts("search.read_as", note)) if note else "")


def pictures(shelf: Shelf, hits: Sequence[Hit], folder: Path) -> list[tuple[str, str]]:
    """A small picture of each that can still be read, in ``folder``, and what stands below it."""

    def small(place: int) -> Path | None:
        try:
            image = pillow.fromarray(media.read(hits[place].path))
        except BadMedia:
            return None
        image.thumbnail((_SIDE, _SIDE), pillow.Resampling.LANCZOS, reducing_gap=2.0)
        path = folder / f"{place:02d}.webp"
        with cannot_write(folder):
            image.save(path, "WEBP", quality=82, method=2)
        return path

    with ThreadPoolExecutor(_READERS) as pool:
        made = list(pool.map(small, range(len(hits))))
    return [
        (str(path), f"{_short(shelf.name_of(hit.path))} ({hit.cosine:.3f})")
        for path, hit in zip(made, hits, strict=True)
        if path is not None
    ]


def written(shelf: Shelf, hits: Sequence[Hit], asked: str, maker: str, folder: Path) -> Path:
    """The answer as JSON: names below the folder, best first."""
    path = folder / "search.json"
    rows = [{"image": shelf.name_of(hit.path), "cosine": hit.cosine} for hit in hits]
    content = {"folder": shelf.source.called, "asked": asked, "maker": maker, "photos": rows}
    with cannot_write(folder):
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _short(name: str) -> str:
    half = _NAMED // 2
    return name if len(name) <= _NAMED else f"{name[:half]}…{name[1 - half :]}"
