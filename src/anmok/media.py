"""The only decoder. Every picture enters anmok here and leaves as one form: uint8 (H, W, 3), RGB, upright.

One policy for the odd ones, the same in Python, CLI and server:

=====================  ====================================================================
EXIF orientation       turned upright
palette, 1-bit, grey   to RGB
transparency           composed over white
16-bit grey            divided by 257, so that 65535 becomes 255 (no contrast stretching)
CMYK, YCbCr, LAB       to RGB by Pillow's conversion
animated, multi-page   the first frame
MPO (stereo JPEG)      the first picture
floating point         refused: the range of the values is not known
over 50 Mpx            refused from the header, before decoding (``ANMOK_MAX_PIXELS``)
too much beside them   refused before Pillow sees it: what it would keep of chunks, segments, tags, strips and
                       comments is estimated from above, 32 MiB are the limit; 1 MiB of EXIF
anything else          refused: JPEG, MPO, PNG, WEBP, GIF, BMP, TIFF, PPM and AVIF are read
=====================  ====================================================================
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadMedia

Image: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = Path | str | bytes | pillow.Image | NDArray[np.generic] | BinaryIO

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".avif"}
)
DEFAULT_MAX_PIXELS = 50_000_000
_EXIF_CAMERA, _EXIF_TIME, _EXIF_TURN, _EXIF_IFD, _EXIF_TIME_ORIGINAL = 0x0110, 0x0132, 0x0112, 0x8769, 0x9003
_SIXTEEN_BIT_STEP = 257  # 65535 / 255
_MAX_ASIDE, _MAX_EXIF = 32 * 2**20, 2**20  # bytes: of Pillow's memory, of the file
_UPRIGHT = {  # EXIF orientation -> what undoes it
    2: pillow.Transpose.FLIP_LEFT_RIGHT,
    3: pillow.Transpose.ROTATE_180,
    4: pillow.Transpose.FLIP_TOP_BOTTOM,
    5: pillow.Transpose.TRANSPOSE,
    6: pillow.Transpose.ROTATE_270,
    7: pillow.Transpose.TRANSVERSE,
    8: pillow.Transpose.ROTATE_90,
}
# What Pillow's plug-ins raise on damaged files, as found by fuzzing.
_TRIPS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RuntimeError, MemoryError, struct.error, zlib.error, pillow.DecompressionBombError),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says of itself without being looked at: the material of metadata-only controls."""

    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    taken: str  # EXIF time as written, "YYYY:MM:DD HH:MM:SS"; empty where there is none
    camera: str  # EXIF model; empty where there is none


def read(source: Source) -> Image:
    """One picture as uint8 (H, W, 3), RGB, upright.

    Raises:
        BadMedia: the file is missing, no image, damaged, or over the pixel limit.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    name = describe(source)
    with _opened(source, name) as picture:
        return _decode(picture, name)


def decode_with_facts(data: bytes, name: str) -> tuple[Image, Facts]:
    """The bytes of a file, decoded as ``read`` does, with the file's facts. ``name`` is for messages."""
    with _opened(data, name) as picture:
        facts = _facts(picture, data)
        return _decode(picture, name), facts


def facts(path: Path) -> Facts:
    """The facts alone: reads the bytes, parses the header, decodes nothing."""
    data = _bytes_of(path)
    with _opened(data, path.name) as picture:
        return _facts(picture, data)


def find(folder: Path) -> Iterator[Path]:
    """Every file below ``folder`` that is named like an image, in a stable order; hidden ones left out."""
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not is_hidden and path.is_file():
            yield path


def max_pixels() -> int:
    """The limit on width x height, from ``ANMOK_MAX_PIXELS`` or 50 million."""
    text = os.environ.get("ANMOK_MAX_PIXELS", "")
    if not text:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise BadMedia(f"ANMOK_MAX_PIXELS is {text!r}: it must be a whole number of pixels above 0")
    return int(text)


def describe(source: Source) -> str:
    """A short name of the source for messages."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes):
        return f"image of {len(source)} bytes"
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or "image")


@cache
def _readable() -> tuple[str, ...]:
    """The allowed formats that this build of Pillow has; its plug-ins register themselves on ``init``."""
    pillow.init()
    return tuple(name for name in FORMATS if name in pillow.OPEN)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadMedia(f"{path}: no such file") from None
    except OSError as error:
        raise BadMedia(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a NUL in the name
        raise BadMedia(f"{path!r}: cannot be read ({error})") from None


def _opened(source: Source, name: str) -> pillow.Image:
    """The header alone, with formats and pixel count checked."""
    if isinstance(source, pillow.Image):
        _check_size(source, name)
        with _damage(name):
            return source.copy()  # the caller's picture stays open
    data = source if isinstance(source, bytes) else _contents(source, name)
    if not data:
        raise BadMedia(f"{name}: the file is empty")
    _check_aside(data, name)
    with _damage(name):
        picture = _identified(data)
    if picture is None:
        raise BadMedia(f"{name}: not an image that anmok reads (JPEG, PNG, WEBP, TIFF, BMP, GIF ...)")
    _check_size(picture, name)
    return picture


def _contents(source: object, name: str) -> bytes:
    if isinstance(source, str | Path):
        return _bytes_of(Path(source))
    read_all = getattr(source, "read", None)
    data = read_all() if callable(read_all) else None
    if not isinstance(data, bytes):
        raise BadMedia(f"{name}: {type(source).__name__} is no path, bytes, PIL image, array or binary file")
    return data


def _identified(data: bytes) -> pillow.Image | None:
    """As ``PIL.Image.open`` does, but without its own pixel limits: ours is checked on the same header."""
    for form in _readable():
        factory, accept = pillow.OPEN[form]
        if accept is not None and accept(data[:16]) is not True:
            continue
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # another format, then
            return factory(io.BytesIO(data), "")
    return None


def _check_aside(data: bytes, name: str) -> None:
    """Pillow keeps a record of each part of a file that is no pixels, and some of those are a hundred times larger."""
    walk = next((walk for starts, walk in _WALKS if data.startswith(starts)), None)
    kept = 0
    with contextlib.suppress(struct.error, IndexError):  # cut short, as Pillow will say
        for more in walk(data) if walk is not None else ():
            kept += more
            if kept > _MAX_ASIDE:
                raise BadMedia(f"{name}: too many or too large parts beside its pixels; save it without metadata")


def _of_png(data: bytes) -> Iterator[int]:
    """Bytes of memory for each chunk that is no pixels: a text is kept as bytes, as ``str`` and once more."""
    place, kind = 8, b""
    while place < len(data) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + size
        yield 16 if kind in _PNG_PIXELS else 300 + size * (5 if kind in _PNG_TEXTS else 1)


def _of_webp(data: bytes) -> Iterator[int]:
    place, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while place < min(end, len(data)):
        kind, size = struct.unpack_from("<4sI", data, place)
        place += 8 + size + size % 2
        yield 240 if kind == b"ANMF" else 240 + size


def _of_jpeg(data: bytes) -> Iterator[int]:
    """Segments up to the scan; Pillow makes a tuple of every three bytes of a frame header."""
    place = 2
    while (found := _JPEG_MARKER.search(data, place)) is not None and found[1] != b"\xda":
        place = found.end()
        size = 0
        if found[1] not in _JPEG_BARE:
            (size,) = struct.unpack_from(">H", data, place)
            place += max(size, 2)
        yield 160 + size * (40 if found[1] in _JPEG_FRAMES else 1)


def _of_gif(data: bytes) -> Iterator[int]:
    """Blocks up to the first picture. Comments are strung together, each time in a new string: they count for more."""
    place = 13 + (6 << (data[10] & 7) if data[10] & 0x80 else 0)
    while (found := _GIF_BLOCK.search(data, place)) is not None and found[0] == b"!":
        place = found.end() + 1
        cost = 4096 if data[place - 1] == _GIF_COMMENT else 32
        yield cost
        while size := data[place]:
            place += 1 + size
            yield cost
        place += 1


def _of_tiff(data: bytes) -> Iterator[int]:
    """The tags of the first picture. Numbers become Python's, and each strip or tile a record."""
    order = "<" if data[:1] == b"I" else ">"
    first, count, entry = ("Q", "Q", "HHQQ") if data[2] == _BIG_TIFF else ("I", "H", "HHII")
    places = list(struct.unpack_from(order + first, data, struct.calcsize("=" + first)))
    while places:
        place = places.pop()
        with contextlib.suppress(struct.error):  # cut short: the others count all the same
            (tags,) = struct.unpack_from(order + count, data, place)
            place += struct.calcsize("=" + count)
            for _ in range(tags):
                tag, kind, numbers, value = struct.unpack_from(order + entry, data, place)
                place += struct.calcsize("=" + entry)
                is_bytes = kind in _TIFF_BYTES and tag > _TIFF_BASELINE
                yield 300 + numbers * (1 if is_bytes else 320 if tag in _TIFF_STRIPS else 40)
                if tag in _TIFF_DEEPER:
                    places.append(value)


_PNG_PIXELS, _PNG_TEXTS = (b"IDAT", b"fdAT", b"fcTL"), (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xfe])", re.DOTALL)
_JPEG_BARE = frozenset(bytes([code]) for code in (0x01, *range(0xD0, 0xDA)))  # TEM, RST, SOI, EOI: no length
_JPEG_FRAMES = frozenset(bytes([code]) for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC))
_GIF_BLOCK, _GIF_COMMENT = re.compile(rb"[!,;]"), 0xFE
_BIG_TIFF, _TIFF_BASELINE, _TIFF_STRIPS, _TIFF_BYTES = 43, 532, (273, 324), (1, 2, 6, 7)
_TIFF_DEEPER = (34_665, 34_853, 40_965)  # EXIF, GPS and interoperability have tags of their own
_WALKS: tuple[tuple[tuple[bytes, ...], Callable[[bytes], Iterator[int]]], ...] = (
    ((b"\x89PNG\r\n\x1a\n",), _of_png),
    ((b"RIFF",), _of_webp),
    ((b"\xff\xd8\xff",), _of_jpeg),
    ((b"GIF87a", b"GIF89a"), _of_gif),
    ((b"II", b"MM"), _of_tiff),
)


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    """Whatever Pillow's plug-ins trip over in a damaged file becomes ``BadMedia``."""
    try:
        yield
    except _TRIPS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadMedia(f"{name}: the image is damaged ({reason})") from None


def _check_size(picture: pillow.Image, name: str) -> None:
    width, height = picture.size
    limit = max_pixels()
    if width * height > limit:
        raise BadMedia(
            f"{name}: {width} x {height} is over the limit of {limit:,} pixels; "
            "make it smaller or raise ANMOK_MAX_PIXELS"
        )
    if width == 0 or height == 0:
        raise BadMedia(f"{name}: the image has no pixels ({width} x {height})")


def _decode(picture: pillow.Image, name: str) -> Image:
    with _damage(name):
        picture.load()
        _check_exif(picture, name)
        upright = _turned(picture)
        return np.ascontiguousarray(np.asarray(_to_rgb(upright, name)))  # (H, W, 3)


def _check_exif(picture: pillow.Image, name: str) -> None:
    """Numbers in EXIF take up to fifty times their bytes once Pillow is asked for one of them."""
    found = [picture.info.get(key) or "" for key in ("exif", "Raw profile type exif")]
    if any(len(one) > _MAX_EXIF for one in found if isinstance(one, str | bytes)):
        raise BadMedia(f"{name}: over {_MAX_EXIF:,} bytes of EXIF; save it without")


def _turned(picture: pillow.Image) -> pillow.Image:
    """As ``ImageOps.exif_transpose`` turns it, which reads and writes all other tags too, and copies what stands."""
    turn = picture.getexif().get(_EXIF_TURN)
    way = _UPRIGHT.get(turn) if isinstance(turn, int) else None
    return picture if way is None else picture.transpose(way)


def _to_rgb(picture: pillow.Image, name: str) -> pillow.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode == "F":
        raise BadMedia(f"{name}: floating-point pixels have no known range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.int64)  # (H, W)
        if grey.min() < 0 or grey.max() > 65535:
            raise BadMedia(f"{name}: 32-bit pixels have no known range; save it with 8 or 16 bits")
        return pillow.fromarray((grey // _SIXTEEN_BIT_STEP).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        front = picture.convert("RGBA")
        white = pillow.new("RGBA", front.size, (255, 255, 255, 255))
        return pillow.alpha_composite(white, front).convert("RGB")
    return picture.convert("RGB")


def _from_array(array: NDArray[np.generic]) -> Image:
    if array.dtype == np.uint16:
        array = (array.astype(np.uint16) // _SIXTEEN_BIT_STEP).astype(np.uint8)
    if array.dtype != np.uint8:
        raise BadMedia(f"array of dtype {array.dtype}: want uint8 or uint16 pixels, (H, W) or (H, W, 1 | 3 | 4)")
    if array.ndim == 2:
        array = array[:, :, None]  # (H, W, 1)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise BadMedia(f"array of shape {array.shape}: want (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if array.shape[0] * array.shape[1] > max_pixels():
        raise BadMedia(f"array of shape {array.shape}: over the limit of {max_pixels():,} pixels")
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)  # (H, W, 3)
    if array.shape[2] == 4:
        array = np.asarray(_to_rgb(pillow.fromarray(array.astype(np.uint8)), "array"))  # (H, W, 3)
    return np.ascontiguousarray(array, dtype=np.uint8)


def _facts(picture: pillow.Image, data: bytes) -> Facts:
    try:
        _check_exif(picture, "")
        exif = picture.getexif()
        taken = exif.get_ifd(_EXIF_IFD).get(_EXIF_TIME_ORIGINAL) or exif.get(_EXIF_TIME) or ""
        camera = exif.get(_EXIF_CAMERA) or ""
    except (*_TRIPS, BadMedia):  # broken EXIF in a sound picture
        taken = camera = ""
    return Facts(
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=picture.width,
        height=picture.height,
        format=picture.format or "",
        taken=str(taken).strip("\0 "),
        camera=str(camera).strip("\0 "),
    )
