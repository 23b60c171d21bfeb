"""One end of a conversation with a process: JSON over a Unix socket, and bytes in shared memory that has no name.

A message is twelve bytes (length of its JSON, length of its block; network order), the JSON, and a block that stands
at the start of the sender's segment. A sender keeps its segment from message to message. Where it needs a larger one,
the new segment's descriptor travels with the message; the receiver maps it, and the old one is gone when the last
array in it is. The two ends speak in turns, so that nothing is written while the other one reads.

A segment is ``memfd_create`` on Linux and an unlinked file elsewhere: when the last process that has it open ends, by
whatever cause, the kernel takes it back. The limit of /dev/shm, small in containers, does not hold for it.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from anmok.isolation.codec import Parcel

_PREFIX = struct.Struct("!IQ")
_LONGEST = 256 * 2**20  # bytes of JSON
_SMALLEST = 2**20  # bytes of a segment
_KEPT = 32 * 2**20  # bytes; a larger segment is given up with the first message that needs less
_NO_INHERIT = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Lost(Exception):
    """The other end is gone. Never leaves this package."""


class Garbled(Lost):
    """What the other end sends is no message. The text says what it did: ``sent ...``."""


class Channel:
    """One end. It has one caller at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._ours: mmap.mmap | None = None
        self._theirs: mmap.mmap | None = None

    def send(self, words: Mapping[str, Any], parcel: Parcel) -> None:
        """A message; ``parcel`` stands under ``value``.

        Raises:
            Lost: nobody is there to read it.
        """
        body = json.dumps({**words, "value": parcel.tree}, separators=(",", ":")).encode()
        descriptor = self._room(parcel.nbytes)
        try:
            for start, data in parcel.blocks:
                assert self._ours is not None
                self._ours[start : start + data.nbytes] = data
            prefix = _PREFIX.pack(len(body), parcel.nbytes)
            # The descriptor goes with the first byte; those that a full socket leaves over follow.
            sent = socket.send_fds(self._end, [prefix], [] if descriptor is None else [descriptor])
            self._end.sendall(prefix[sent:] + body)
        except OSError as error:
            raise Lost(f"cannot be written to ({error.strerror or 'no answer'})") from None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def receive(self) -> tuple[dict[str, Any], memoryview]:
        """The next message, and its block. The block holds until the next message.

        Raises:
            Lost: the other end closed.
            Garbled: this is no message.
        """
        try:
            prefix, descriptors, _, _ = socket.recv_fds(self._end, _PREFIX.size, 1, _NO_INHERIT)
            for descriptor in descriptors:
                self._theirs = _mapped(descriptor)
            if not prefix:
                raise Lost("has ended")
            length, nbytes = _PREFIX.unpack(prefix + self._exactly(_PREFIX.size - len(prefix)))
            if length > _LONGEST:
                raise Garbled(f"sent {length:,} bytes of JSON")
            words = json.loads(self._exactly(length))
        except OSError as error:
            raise Lost(f"cannot be read from ({error.strerror or 'no answer'})") from None
        except (ValueError, RecursionError) as error:
            raise Garbled(f"sent what is no JSON ({error})") from None
        if nbytes and (self._theirs is None or nbytes > len(self._theirs)):
            raise Garbled("sent a block that its segment does not hold")
        block = memoryview(self._theirs)[:nbytes] if self._theirs is not None else memoryview(b"")
        return words, block

    def wait(self, seconds: float | None) -> None:
        """From now on the other end is given up (``Lost``) where nothing moves for so long; None waits for ever."""
        self._end.settimeout(seconds)

    @property
    def is_large(self) -> bool:
        """Whether more memory hangs on it than is worth keeping."""
        return any(len(one) > _KEPT for one in (self._ours, self._theirs) if one is not None)

    def close(self) -> None:
        self._end.close()
        self._ours = self._theirs = None

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            more = self._end.recv_into(view[got:])
            if not more:
                raise Lost("ended in the middle of a message")
            got += more
        return bytes(data)

    def _room(self, nbytes: int) -> int | None:
        """Makes the segment large enough; the descriptor of a new one, which the caller closes."""
        held = 0 if self._ours is None else len(self._ours)
        if nbytes <= held and (held <= _KEPT or nbytes > _KEPT):
            return None
        if not nbytes:
            return None
        size = (
            max(_SMALLEST, 1 << (nbytes - 1).bit_length()) if nbytes <= _KEPT else -(-nbytes // _SMALLEST) * _SMALLEST
        )
        self._ours = None  # its memory first
        descriptor = _segment(size)
        self._ours = mmap.mmap(descriptor, size)
        return descriptor


def _segment(size: int) -> int:
    """The descriptor of so many bytes of shared memory."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    import fcntl

    descriptor = os.memfd_create("anmok", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # Nobody who maps it can be made to read beyond its end, which would be the end of him.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _mapped(descriptor: int) -> mmap.mmap:
    """The other end's segment, to be read. Closes the descriptor.

    Raises:
        OSError: it is no segment, or one that could still be made shorter.
    """
    try:
        if sys.platform == "linux":
            import fcntl

            if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise OSError(0, "a segment that may shrink")
        return mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
