"""Pictures at the size of a screen, made before they are asked for and kept in memory up to a limit."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image as pillow

from anmok import media
from anmok.errors import BadMedia, Closing

SIDE: Final = 1280  # pixels of the longer side
_LOSSLESS: Final = 400 * 400  # pixels: below that PNG is small, and shows no blocks when it is drawn larger
_KEPT: Final = 96 * 2**20  # bytes
_MAKERS: Final = 2  # threads

Key = tuple[str, int, int]  # path, time, bytes of the file


@dataclass(frozen=True, slots=True)
class Picture:
    """``data`` is PNG or JPEG, as ``kind`` says; ``size`` (width, height) is that of the image itself, upright."""

    data: bytes
    kind: str
    size: tuple[int, int]


class Pictures:
    """Safe to share between threads; what is under way is made once, whoever asks.

    Args:
        kept: bytes that may be kept.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._most = kept
        self._bytes = 0
        self._is_closed = False
        self._lock = threading.RLock()  # what is cancelled calls `_take` in the thread that cancels
        self._made: OrderedDict[Key, Future[Picture]] = OrderedDict()
        self._pool = ThreadPoolExecutor(_MAKERS, thread_name_prefix="anmok-pictures")

    def get(self, file: Path) -> Picture:
        """The picture of that file.

        Raises:
            BadMedia: it is missing or damaged.
            Closing: the server is shutting down.
        """
        try:
            return self._asked(file).result()
        except CancelledError:
            raise Closing("the server is shutting down") from None

    def ahead(self, files: Iterable[Path]) -> None:
        """These will be asked for soon."""
        for file in files:
            if file.is_file():
                self._asked(file)

    def close(self) -> None:
        """Makes no more of them, and ends the threads."""
        with self._lock:  # the pool has a lock of its own, which whoever asks for a picture takes behind this one
            self._is_closed = True
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown()

    def _asked(self, file: Path) -> Future[Picture]:
        try:
            found = file.stat()
        except OSError as error:
            raise BadMedia(f"{file.name}: cannot be read ({error.strerror})") from None
        key = (str(file), found.st_mtime_ns, found.st_size)
        with self._lock:
            if self._is_closed:
                raise Closing("the server is shutting down")
            future = self._made.get(key)
            if future is not None:
                self._made.move_to_end(key)
                return future
            future = self._made[key] = self._pool.submit(_made, file)
        future.add_done_callback(lambda done: self._take(key, done))
        return future

    def _take(self, key: Key, done: Future[Picture]) -> None:
        with self._lock:
            if done.cancelled() or done.exception() is not None:
                self._made.pop(key, None)
                return
            self._bytes += len(done.result().data)
            while self._bytes > self._most and len(self._made) > 1:
                old, future = next(iter(self._made.items()))
                if not future.done():  # it is counted when it is there
                    break
                del self._made[old]
                self._bytes -= len(future.result().data)


def _made(file: Path) -> Picture:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadMedia(f"{file.name}: cannot be read ({error.strerror})") from None
    image = pillow.fromarray(media.decode_with_facts(data, file.name)[0])  # by bytes: errors then name no folder
    size = image.size
    image.thumbnail((SIDE, SIDE), pillow.Resampling.LANCZOS, reducing_gap=2.0)
    smaller = io.BytesIO()
    if image.width * image.height <= _LOSSLESS:
        image.save(smaller, "PNG", compress_level=1)
        return Picture(smaller.getvalue(), "image/png", size)
    image.save(smaller, "JPEG", quality=88, subsampling=0)
    return Picture(smaller.getvalue(), "image/jpeg", size)
