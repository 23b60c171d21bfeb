"""How the files that anmok reads begin."""

from __future__ import annotations

LOOK = 512  # bytes that `is_media` wants to see; a shorter file is shown whole

_AT_START = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM"),  # JPEG and MPO, PNG, GIF, BMP
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF and BigTIFF
    *(b"\x1aE\xdf\xa3", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3"),  # Matroska and WebM, Ogg, MPEG
)
_RIFF_KINDS = (b"WEBP", b"AVI ")
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # first boxes of MP4, MOV and AVIF
_NETPBM = b"123456"
_TS_PACKETS = (188, 192, 204)  # bytes; each begins with the same byte
_TS_SYNC = 0x47


def is_media(head: bytes) -> bool:
    """Do these first bytes (``LOOK`` of them, fewer of a shorter file) look like a picture or clip that is read?

    A net with wide meshes: it keeps pages, tables and configuration from being brought. ``anmok.media`` and
    ``anmok.clips`` are the ones to decide.
    """
    if head.startswith(_AT_START):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] in _RIFF_KINDS
    return head[4:8] in _BOXES or _is_netpbm(head) or _is_transport_stream(head)


def _is_netpbm(head: bytes) -> bool:
    return head[:1] == b"P" and head[1:2] in _NETPBM and len(head) > 2 and head[2:3].isspace()


def _is_transport_stream(head: bytes) -> bool:
    def repeats(size: int, first: int) -> bool:
        places = range(first, len(head), size)
        return len(places) > 1 and all(head[place] == _TS_SYNC for place in places)

    # With packets of 192 bytes, four of a clock come first.
    return any(repeats(size, size - _TS_PACKETS[0] if size == _TS_PACKETS[1] else 0) for size in _TS_PACKETS)
