"""``Apart``: a loader for the engine, whose models run in processes of their own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Collection, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType

from anmok.catalogue import Card, card
from anmok.errors import Closing, Unsupported
from anmok.isolation.bounds import Bounds
from anmok.isolation.elsewhere import Elsewhere
from anmok.isolation.process import Order
from anmok.isolation.supervising import ProcessStatus, Worker
from anmok.load import Adapter, Model


class Apart:
    """Called with a name, returns a model that runs elsewhere: ``Engine(budget, loader=Apart())``.

    Close it after the engine. Models that were not closed by then answer with ``Closing``.

    Args:
        device, dtype, accept_licences: as for ``anmok.load``.
        groups: names of models (as the loader is called with them: a card's, or an adapter's folder) and the group of
            each. Models of one group share a process; one without a group has a process to itself.
        bounds: threads, memory, pauses.

    Raises:
        Unsupported: a system without Unix sockets that carry descriptors, or a bound of memory where the system does
            not say what a process holds.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        dtype: str = "float32",
        accept_licences: Collection[str] = (),
        groups: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        if not hasattr(socket, "send_fds"):
            raise Unsupported("models in processes of their own need Unix sockets; this system runs them as threads")
        self._bounds = bounds or Bounds()
        if self._bounds.memory_bytes and not Path("/proc/self/statm").exists():
            raise Unsupported("memory_bytes: this system does not say what a process holds; leave it 0")
        self._settings = {"device": device, "dtype": dtype, "accept_licences": tuple(accept_licences)}
        self._groups = dict(groups or {})
        self._lock = threading.Lock()
        self._workers: dict[tuple[str, bool], Worker] = {}  # by name, and whether it is that of a group
        self._keys = count(1)
        self._is_closed = False

    def __call__(self, name: str) -> Model:
        """Loads a model, in a process that is there for its group or is started.

        Raises:
            WorkerDied: the process died of it, twice.
            Closing: this was closed.
            AnmokError: as ``anmok.load``.
        """
        one, adapter = _known(name)
        worker = self._held(name)
        with contextlib.ExitStack() as undo:
            undo.callback(worker.release)
            model = Elsewhere(one, adapter, worker, Order(next(self._keys), name, one.name, self._settings))
            undo.pop_all()  # the model holds it from here on
        return model

    def status(self) -> tuple[ProcessStatus, ...]:
        """All processes, at this moment."""
        with self._lock:
            workers = list(self._workers.values())
        return tuple(worker.status() for worker in workers if not worker.is_ending)

    def close(self) -> None:
        """Ends all processes, at work or not, and waits until they are gone."""
        with self._lock:
            self._is_closed = True
            workers = list(self._workers.values())
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.join()

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _held(self, name: str) -> Worker:
        """The worker for a model, held once for it."""
        group = self._groups.get(name)
        place = (name, False) if group is None else (group, True)
        with self._lock:
            if self._is_closed:
                raise Closing("the processes of the models were ended")
            self._workers = {key: one for key, one in self._workers.items() if not one.is_over}
            worker = self._workers.get(place)
            if worker is None or not worker.hold():
                worker = self._workers[place] = Worker(place[0], self._bounds)
                worker.hold()
            return worker


def _known(name: str) -> tuple[Card, Adapter | None]:
    """Card and adapter, before a process is started: a misspelt name costs nothing."""
    folder = Path(name).expanduser()
    if not (folder / "anmok.toml").is_file():
        return card(name), None
    adapter = Adapter.read(folder)
    return card(adapter.base), adapter
