"""What runs in a process of its own: ``python -m anmok.isolation.worker DESCRIPTOR``.

Over the control socket, whose descriptor it is given, it gets channels; each has a thread, which does what is asked
of it in turn: ``load``, ``unload``, ``run``, ``encode``, ``stream``, ``next``. It ends when the control socket closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from anmok.errors import BadMedia, BadRequest
from anmok.isolation.bounds import OUT_OF_MEMORY
from anmok.isolation.catching import Caught
from anmok.isolation.channel import Channel, Lost
from anmok.isolation.codec import error_to_tree, packed, unpacked
from anmok.load import Model, load

_SACRIFICE = "500"  # of -1000 to 1000: what the kernel adds when it looks for whom to kill
_END: Final = object()


def main(loader: Callable[..., Model] = load) -> None:
    """Serves until the parent closes the control socket, or ends. ``loader`` is called as ``anmok.load`` is."""
    # A service manager stops all processes of a service at once, but it is the parent who knows what to answer first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # no Linux, or not allowed
        Path("/proc/self/oom_score_adj").write_text(_SACRIFICE, encoding="ascii")
    faulthandler.enable()  # says on stderr where a crash was
    models: dict[int, Model] = {}
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not data:
                os._exit(0)  # whatever the threads are at: nobody is there to hear of it
            for descriptor in descriptors:
                desk = _Desk(Channel(socket.socket(fileno=descriptor)), models, loader)
                threading.Thread(target=desk.serve, name="anmok-desk", daemon=True).start()


class _Desk:
    """One channel, and what is asked through it. ``models`` are those of the whole process, by number."""

    def __init__(self, channel: Channel, models: dict[int, Model], loader: Callable[..., Model]) -> None:
        self._channel = channel
        self._models = models
        self._loader = loader
        self._pieces: Iterator[Any] | None = None
        self._broken: list[tuple[int, str]] = []

    def serve(self) -> None:
        """Until the other end closes."""
        with contextlib.suppress(Lost):
            while True:
                self._serve_once()
        self._pieces = None  # closes what reads the clip
        self._channel.close()

    def _serve_once(self) -> None:
        """One question. Its locals go with it, so that nothing is kept alive between two."""
        words, block = self._channel.receive()
        caught = Caught()
        with caught:
            # The block is the parent's to write to, as soon as there is an answer: whatever stays is a copy.
            answer = packed(self._answer(words, unpacked(words["value"], block, is_copied=True)))
        if caught.error is None:
            self._channel.send({}, answer)
            return
        if isinstance(caught.error, MemoryError):
            _give_up(caught.error)
        trace = "".join(traceback.format_exception(caught.error))
        self._channel.send({"error": error_to_tree(caught.error, trace)}, packed(None))

    def _answer(self, words: Mapping[str, Any], value: Any) -> object:
        what, key = words["do"], words["key"]
        if what == "load":
            model = self._loader(words["name"], **value)
            facts = {"maker": model.maker, "nbytes": model.memory_bytes}
            self._models[key] = model
            return facts
        if what == "unload":
            self._models.pop(key).close()
            return None
        if what == "next":
            return self._piece()
        model = self._models[key]
        if what == "run":
            return model.run(*value)
        if what == "encode":
            return model.encode(value)
        if what == "stream":
            self._pieces = model.stream(*value, on_broken=self._note)
            return None
        raise BadRequest(f"{what}: nothing that a process of a model does")

    def _piece(self) -> object:
        """The next piece, whether there was one, and the frames before it that could not be decoded."""
        assert self._pieces is not None
        piece: Any = next(self._pieces, _END)
        broken, self._broken = self._broken, []
        return [None if piece is _END else piece, piece is not _END, broken]

    def _note(self, frame: int, reason: BadMedia) -> None:
        self._broken.append((frame, str(reason)))


def _give_up(error: MemoryError) -> None:
    """After this nothing in the process is to be relied on."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
