"""Pictures, clips and sounds out of a request: bytes and nothing but bytes, counted before they are decoded.

A text in a request is never taken for a path. An address is opened only by ``Intake.fetch``, which a server has to
hand in; without it, an address is refused.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as pillow

from anmok import media
from anmok.errors import BadRequest
from anmok.inputs import Item
from anmok.wire.fields import kind_of
from anmok.wire.refusals import WrongField

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Intake:
    """What one request may bring. The limit of pixels is that of ``anmok.media``, checked on the header when the
    picture is opened.

    ``stills`` are the pictures of a clip that comes as such, ``turns`` those of a conversation. ``fetch`` takes an
    http(s) address and the number of bytes that are let in.
    """

    body_bytes: int = 256 * MIB
    image_bytes: int = 32 * MIB
    clip_bytes: int = 192 * MIB
    sound_bytes: int = 32 * MIB
    items: int = 256
    stills: int = 2000
    turns: int = 1000
    fetch: Callable[[str, int], bytes] | None = None


def binary(value: object, name: str, limit: int) -> bytes:
    """The bytes of a base64 text, or of a ``data:`` address, of at most ``limit`` bytes.

    Raises:
        WrongField: no base64, empty, or over the limit, which is checked before anything is decoded.
    """
    if not isinstance(value, str):
        raise WrongField(name, f"want base64 of the file, got {kind_of(value)}")
    text = value
    if value[:5].lower() == "data:":
        head, comma, text = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise WrongField(name, "want data:<type>;base64,<bytes>")
    if len(text) // 4 * 3 - 2 > limit:
        raise WrongField(name, f"about {len(text) // 4 * 3:,} bytes; {limit:,} are the limit")
    try:
        data = binascii.a2b_base64(text if "\n" not in text else "".join(text.split()), strict_mode=True)
    except ValueError:  # binascii.Error is one, and so is what is not ASCII
        raise WrongField(name, "want base64 of the file itself; paths and addresses are not opened") from None
    return sized(data, name, limit)


def sized(data: bytes, name: str, limit: int) -> bytes:
    """Bytes that came as they are: some, and not over the limit."""
    if not data:
        raise WrongField(name, "the file is empty")
    if len(data) > limit:
        raise WrongField(name, f"{len(data):,} bytes; {limit:,} are the limit")
    return data


def picture(value: object, name: str, intake: Intake) -> bytes:
    """The bytes of a picture: base64, a ``data:`` address, or what ``intake.fetch`` brings from an address."""
    return _brought(value, name, intake, intake.image_bytes, "picture")


def video(value: object, name: str, intake: Intake) -> bytes:
    """The bytes of a video, in the same forms."""
    return _brought(value, name, intake, intake.clip_bytes, "video")


def _brought(value: object, name: str, intake: Intake, limit: int, what: str) -> bytes:
    if not isinstance(value, str) or value[:8].lower().partition("://")[0] not in ("http", "https"):
        return binary(value, name, limit)
    if intake.fetch is None:
        raise WrongField(name, f"this server opens no addresses; send the {what} itself as base64")
    return sized(intake.fetch(value, limit), name, limit)


def encoded(source: Item, name: str) -> str:
    """Base64 of a picture for a request: its bytes as they are, an array or PIL image as PNG.

    Raises:
        BadRequest: it is something else. A path is for the caller to open.
    """
    if isinstance(source, bytes):
        return base64.b64encode(source).decode("ascii")
    if not isinstance(source, np.ndarray | pillow.Image):
        raise BadRequest(f"{name}: {type(source).__name__} has no wire form; give the bytes of the file")
    return png(pillow.fromarray(media.read(source)))


def png(image: pillow.Image) -> str:
    """Base64 of a picture as PNG, with the lightest compression: masks and maps shrink anyway."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode("ascii")
