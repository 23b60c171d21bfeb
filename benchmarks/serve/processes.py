"""Servers as trees of processes: started, weighed, ended. All of a tree carry one mark in their environment.

A tree by parents would lose the daemons that some peers start. Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

_MARK = "BENCH_RUN"
_TICKS = os.sysconf("SC_CLK_TCK")
_ENDING_SECONDS = 15.0


class Running:
    """One server. ``memory_bytes`` counts what processes share once, ``cpu_seconds`` is of all that still run."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}".encode()
        name, value = self._mark.decode().split("=")
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, env={**environment, name: value}, cwd=folder, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """Of all processes with the mark."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    marked = self._mark in (folder / "environ").read_bytes().split(b"\0")
                except OSError:  # ended meanwhile, or of somebody else
                    continue
                if marked:
                    found.append(int(folder.name))
        return found

    def memory_bytes(self) -> int:
        return sum(_proportional_bytes(pid) for pid in self.pids())

    def cpu_seconds(self) -> float:
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def stop(self) -> float:
        """Asks, waits and then kills; the seconds that it took."""
        start = time.perf_counter()
        pids = self.pids()
        if self.is_alive:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        taken = time.perf_counter() - start
        while left := self.pids():
            for pid in left:
                _kill(pid, signal.SIGKILL if time.perf_counter() - start > 3 or pid not in pids else signal.SIGTERM)
            time.sleep(0.2)
        self._process.wait()
        return taken


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _kill(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS  # user and system, fields 14 and 15 of the whole line
