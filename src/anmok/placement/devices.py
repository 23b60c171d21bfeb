"""What models are placed on: ``3x24GB``, ``1x80GB,2x24GB``, or the processor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anmok.errors import BadRequest

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)", re.IGNORECASE)
_GROUP = re.compile(r"(?:(\d+)\s*x\s*)?(.+)", re.IGNORECASE)
_MOST = 64


@dataclass(frozen=True, slots=True)
class Device:
    """``kind`` is how it was written, ``24GB``; ``slowness`` how many times as long as on the device that was
    measured everything takes here. Two devices that differ in nothing but their name are one to the search."""

    name: str  # "gpu0"
    address: str  # "cuda:0": what `load` is told
    kind: str
    memory_bytes: int
    slowness: float = 1.0


def nbytes(text: str, what: str) -> int:
    """``24GB`` is 24 * 10^9, ``24GiB`` 24 * 2^30.

    Raises:
        BadRequest: it is neither, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size <= 0:
        raise BadRequest(f"{what} {text!r}: want a size as 24GB or 512MiB")
    return size


def devices(text: str, *, memory: int | None = None, scales: Mapping[str, float] | None = None) -> tuple[Device, ...]:
    """All devices of ``3x24GB``, ``1x80GB,2x24GB`` or ``cpu``, numbered in that order.

    Args:
        text: what was typed.
        memory: bytes for the models on the processor.
        scales: by kind, or for all under an empty name, what the measured times are multiplied by.

    Raises:
        BadRequest: it is none of these, or a scale names a kind that is not there.
    """
    scales = scales or {}
    found: list[Device] = []
    for part in (part.strip() for part in text.split(",")):
        match = _GROUP.fullmatch(part)
        count, kind = (int(match[1] or 1), match[2].strip()) if match else (0, part)
        slowness = scales.get(kind, scales.get("", 1.0))
        if kind.lower() == "cpu":
            found += _processor(count, memory, slowness)
            continue
        size = nbytes(kind, "--gpus")
        if not 0 < count <= _MOST:
            raise BadRequest(f"--gpus {part!r}: want 1 to {_MOST} devices")
        gpus = sum(one.kind != "cpu" for one in found)
        numbers = range(gpus, gpus + count)
        found += [Device(f"gpu{number}", f"cuda:{number}", kind, size, slowness) for number in numbers]
    if len(found) > _MOST:
        raise BadRequest(f"--gpus {text!r}: at most {_MOST} devices")
    unknown = sorted(set(scales) - {one.kind for one in found} - {""})
    if unknown:
        kinds = ", ".join(sorted({one.kind for one in found}))
        raise BadRequest(f"--scale {unknown[0]}: no such device; --gpus {text} has {kinds}")
    return tuple(found)


def scales(texts: Sequence[str]) -> dict[str, float]:
    """``0.1`` for all devices, ``80GB=0.05`` for those of one kind.

    Raises:
        BadRequest: no number above 0.
    """
    found: dict[str, float] = {}
    for text in texts:
        kind, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise BadRequest(f"--scale {text!r}: want a factor above 0: 0.1, or 80GB=0.05 for one kind of device")
        found[kind.strip()] = value
    return found


def _processor(count: int, memory: int | None, slowness: float) -> list[Device]:
    if count != 1:
        raise BadRequest("--gpus cpu: there is one processor")
    if memory is None:
        raise BadRequest("--gpus cpu needs --memory 12GB: how much of it the models may take")
    return [Device("cpu", "cpu", "cpu", memory, slowness)]
