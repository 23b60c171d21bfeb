"""How many frames the tables of an MP4 or MOV promise, counted before libav makes an entry of 36 bytes for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from anmok.errors import BadMedia

ALWAYS = 1_000_000  # entries that any file may have: eleven hours at 25 a second
_BYTES_EACH = 64  # of file, that each entry beyond those must have: a second of speech is 50 entries and 3 kB

_LONGEST = 256 * 2**20  # bytes of one box that are looked at
_SKIPPED = b"mdat"
# The box, version and flags, [the one size of all samples,] the number of samples.
_COUNTS = re.compile(rb"(?=(?:stsz|stz2).{8}(.{4})|trun.{4}(.{4}))", re.DOTALL)  # they may overlap, in a made file
_COMPRESSED = re.compile(rb"cmov.{4}dcom", re.DOTALL)
# Sound of one entry per sample, as cameras write it: libav keeps one for each chunk, where the times say so too.
_EVEN_TIMES = re.compile(rb"stts.{4}\x00{3}\x01.{4}\x00{3}\x01", re.DOTALL)
_PCM = re.compile(rb"stsd.{12}(?:sowt|twos|in24|in32|fl32|fl64|raw |NONE|lpcm|ipcm|fpcm|ulaw|alaw)", re.DOTALL)
_FOUR = 4


def check_tables(file: BinaryIO, name: str) -> None:
    """Look through the boxes of a file, from where it stands and back to there. Other formats have none.

    libav takes the boxes that are counted here at any depth, so they are found by their names, not by their place.

    Raises:
        BadMedia: its tables promise more than a file of that length can hold, or are compressed.
    """
    origin = file.tell()
    length = file.seek(0, 2) - origin
    limit = max(ALWAYS, length // _BYTES_EACH)
    promised = 0
    try:
        for body in _boxes(file, origin, length):
            if _COMPRESSED.search(body):
                raise BadMedia(f"{name}: its tables are compressed; write the clip anew")
            promised += sum(_promised(body, *track) for track in _tracks(body))
            if promised > limit:
                raise BadMedia(f"{name}: {length:,} bytes, and its tables promise {promised:,} frames and sounds")
    finally:
        file.seek(origin)


def _boxes(file: BinaryIO, origin: int, length: int) -> Iterator[bytes]:
    place = 0
    while place + 8 <= length:
        file.seek(origin + place)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = 8
        if size == 1:
            size, start = int.from_bytes(head[8:], "big"), 16
        elif size == 0:
            size = length - place
        if size < start:
            return
        if kind != _SKIPPED and kind.isascii() and kind.decode("ascii").isprintable():
            file.seek(origin + place + _FOUR)
            yield file.read(min(size - _FOUR, _LONGEST))
        place += size


def _tracks(body: bytes) -> Iterator[tuple[int, int]]:
    """From where to where each track reaches; what stands before the first one too."""
    start = 0
    while (end := body.find(b"trak", start + 1)) >= 0:
        yield start, end
        start = end
    yield start, len(body)


def _promised(body: bytes, start: int, end: int) -> int:
    counts = [int.from_bytes(found[1] or found[2], "big") for found in _COUNTS.finditer(body, start, end)]
    return 0 if len(counts) == 1 and _is_even_sound(body, start, end) else sum(counts)


def _is_even_sound(body: bytes, start: int, end: int) -> bool:
    times = {word: body.count(word, start, end) for word in (b"stts", b"stsd", b"vide", b"trun", b"soun")}
    if times.pop(b"soun") == 0 or times != {b"stts": 1, b"stsd": 1, b"vide": 0, b"trun": 0}:
        return False
    return _EVEN_TIMES.search(body, start, end) is not None and _PCM.search(body, start, end) is not None
