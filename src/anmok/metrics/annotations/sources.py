"""Files of annotations: found, read and parsed, with every refusal naming the file. Nothing in them is trusted."""

from __future__ import annotations

import json
import math
import reprlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from PIL import Image as pillow

from anmok import media
from anmok.errors import BadData
from anmok.metrics.annotations.value import picture_key

short = reprlib.repr  # of a value in a message, thirty letters at most

_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF: these four swap width and height
# What Pillow trips over in headers of damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError),
    *(struct.error, pillow.DecompressionBombError),
)


def files(path: Path, suffix: str) -> list[Path]:
    """The file itself, or every file of that suffix below a folder, sorted; hidden ones left out.

    Raises:
        BadData: there is none.
    """
    if path.is_file():
        return [path]
    found = sorted(
        one
        for one in path.rglob("*")
        if one.suffix.lower() == suffix
        and one.is_file()
        and not any(part.startswith(".") for part in one.relative_to(path).parts)
    )
    if not found:
        raise BadData(f"{path}: " + (f"no {suffix} file below it" if path.is_dir() else "no such file or folder"))
    return found


def text(path: Path) -> str:
    """A file as UTF-8, with or without a byte order mark.

    Raises:
        BadData: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: cannot be read as UTF-8 text ({error})") from None


def json_value(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        BadData: it is not JSON.
    """
    try:
        return json.loads(text(path))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError too
        raise BadData(f"{path}: not JSON ({error})") from None


def xml_root(path: Path) -> ElementTree.Element:
    """The root of an XML file. A document type is refused: entities can read files and fill the memory.

    Raises:
        BadData: it is not XML, or has a document type.
    """
    parser = ElementTree.XMLParser(target=_Builder(path))
    try:
        parser.feed(path.read_bytes())
        root = parser.close()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadData(f"{path}: not XML ({error})") from None
    assert isinstance(root, ElementTree.Element)
    return root


class _Builder(ElementTree.TreeBuilder):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser before any entity is looked at."""
        raise BadData(f"{self.path}: has a document type ({name}); annotations need none, remove the <!DOCTYPE ...>")


def number(where: str, value: object) -> float:
    """A finite number out of a field; text may have a decimal comma.

    Raises:
        BadData: it is none.
    """
    try:
        found = float(value.replace(",", ".") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise BadData(f"{where}: {short(value)} is not a number")
    return found


def whole(where: str, value: object) -> int:
    """A whole number out of a field.

    Raises:
        BadData: it is none.
    """
    found = number(where, value)
    if found != int(found):
        raise BadData(f"{where}: {short(value)} is not a whole number")
    return int(found)


def entry(where: str, record: object, key: str) -> Any:
    """``record[key]`` of a JSON object.

    Raises:
        BadData: it is no object, or the key is missing.
    """
    if not isinstance(record, Mapping) or key not in record:
        raise BadData(f"{where}: " + (f"{key!r} is missing" if isinstance(record, Mapping) else "not a JSON object"))
    return record[key]


def entries(where: str, record: object, key: str) -> list[Any]:
    """``record[key]``, which has to be a list.

    Raises:
        BadData: as ``entry``, or it is no list.
    """
    found = entry(where, record, key)
    if not isinstance(found, list):
        raise BadData(f"{where}: {key!r} is not a list")
    return found


def child_text(where: str, element: ElementTree.Element, path: str) -> str:
    """The text of a child element.

    Raises:
        BadData: there is no such child, or it is empty.
    """
    found = (element.findtext(path) or "").strip()
    if not found:
        raise BadData(f"{where}: <{path}> is missing or empty")
    return found


def lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where (``file, line 3``) and the words of every line that has some."""
    for count, line in enumerate(text(path).splitlines(), 1):
        if words := line.split():
            yield f"{path}, line {count}", words


def class_names(names: Path | tuple[str, ...]) -> tuple[str, ...]:
    """Names given as they are, or one a line in a file."""
    if isinstance(names, tuple):
        return names
    return tuple(line.strip() for line in text(names).splitlines() if line.strip())


def pictures(folder: Path) -> dict[str, Path]:
    """Every picture below a folder by its key (path below the folder without suffix).

    Raises:
        BadData: there is none, or two share a key.
    """
    found: dict[str, Path] = {}
    for path in media.find(folder):
        key = picture_key(path.relative_to(folder).as_posix())
        if key in found:
            raise BadData(f"{path}: shares its name with {found[key].name}; annotations cannot tell them apart")
        found[key] = path
    if not found:
        raise BadData(f"{folder}: no picture below it")
    return found


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as it is shown, from its header.

    Raises:
        BadData: no picture.
    """
    pillow.init()
    try:
        with pillow.open(path, formats=[form for form in media.FORMATS if form in pillow.OPEN]) as picture:
            width, height = picture.size
            is_lying = picture.getexif().get(_ORIENTATION) in _LYING
    except _DAMAGE as error:
        raise BadData(f"{path}: size cannot be read ({error})") from None
    return (width, height) if is_lying else (height, width)


def name_below(folder: Path, file: str, suffix: str) -> Path:
    """Where the annotation of a picture goes below a folder.

    Raises:
        BadData: the name leads out of the folder.
    """
    path = PurePosixPath(picture_key(file))
    if path.is_absolute() or ".." in path.parts or ":" in file or "\0" in file or not path.name:
        raise BadData(f"{file!r}: this name of a picture leads out of {folder}")
    return folder / f"{path}{suffix}"
