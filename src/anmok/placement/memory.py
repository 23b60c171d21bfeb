"""How much memory a batch needs beside the weights: the high-water mark of the process, or of torch's allocator."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Watermark:
    """``start`` takes the level and forgets the highest one; ``above`` says how far it has risen since, in bytes.

    On the processor the level is that of the whole process, as Linux counts it: what another thread takes in the
    meantime counts as well. On a GPU it is what torch has reserved there. ``above`` is None where neither can be told.
    """

    def __init__(self, device: str) -> None:
        self._torch: Any = sys.modules.get("torch")  # whatever runs on a GPU has imported it
        self._gpu = device if device.startswith("cuda") and self._torch is not None else None
        self._level: int | None = None

    def start(self) -> None:
        if self._gpu is not None:
            self._torch.cuda.synchronize(self._gpu)
            self._torch.cuda.empty_cache()
            self._torch.cuda.reset_peak_memory_stats(self._gpu)
            self._level = int(self._torch.cuda.memory_allocated(self._gpu))
        else:
            self._level = _bytes("VmRSS") if _reset() else None

    def above(self) -> int | None:
        if self._level is None:
            return None
        if self._gpu is not None:
            self._torch.cuda.synchronize(self._gpu)
            return max(0, int(self._torch.cuda.max_memory_reserved(self._gpu)) - self._level)
        highest = _bytes("VmHWM")
        return None if highest is None else max(0, highest - self._level)


def _reset() -> bool:
    """Linux forgets the highest level where it is told 5; elsewhere it never falls, and says nothing of one batch."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _bytes(field: str) -> int | None:
    try:
        match = re.search(rf"^{field}:\s*(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def resolved(device: str) -> str:
    """``auto`` as ``load`` takes it: a GPU where there is one."""
    if device != "auto":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def in_words(device: str, cores: int) -> str:
    """What was measured on: ``cpu: 8 cores, 4 threads (name)``, ``cuda: name``."""
    torch: Any = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        return f"cuda: {torch.cuda.get_device_name(device)}"
    threads = f", {torch.get_num_threads()} threads of torch" if torch is not None else ""
    name = _processor()
    return f"{device}: {cores} cores{threads}{f' ({name})' if name else ''}"


def _processor() -> str:
    """As Linux calls it; empty elsewhere."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return match[1].strip() if match else ""
