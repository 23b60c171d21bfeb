"""The page on a server with fakes, a folder to look at, and zips to send to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client
from PIL import Image as pillow

from anmok.server.settings import Served, Settings
from anmok.ui import Host
from audit_samples import noise, write_csv
from browser import served

MODELS = tuple(Served.of(name) for name in ("fake", "fake-places"))


# Gradio asks pandas for options that go away, and leaves event loops open that it made for itself.
_OLD, _OPEN = "ignore::pandas.errors.Pandas4Warning", "ignore:unclosed:ResourceWarning"
GRADIO = [pytest.mark.filterwarnings(_OLD), pytest.mark.filterwarnings(_OPEN)]


@dataclass(frozen=True)
class Shown:
    """A page that listens; its languages stand at ``address`` + "en/" and "ko/"."""

    address: str


@contextlib.contextmanager
def shown(
    root: Path | None, changed: Callable[[Host], Host] = lambda host: replace(host, serve=None)
) -> Iterator[Shown]:
    """A server with the page at ``/ui``; where nothing is said, one that takes on no models."""
    try:
        with served.shown(root, settings=Settings(models=MODELS), changed=changed) as found:
            yield Shown(f"{found.address}/ui/")
    finally:
        asyncio.set_event_loop(None)
        gc.collect()  # while the warnings of what gradio leaves open are told of as they should be


def host_of(engine: Any, root: Path | None, **named: Any) -> Host:
    return Host(engine, {one.name: one.card for one in MODELS}, root=root, **named)


def zipped(path: Path, files: Mapping[str, bytes | Path]) -> Path:
    """A zip with those files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
    return path


def zip_of(folder: Path, path: Path) -> Path:
    """A folder as people pack it, with the folder itself in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return zipped(path, {f"{folder.name}/{file.relative_to(folder).as_posix()}": file for file in files})


def line(root: Path, images: int = 60, seed: int = 3) -> Path:
    """``root/line`` with images named after their label, every tenth a copy of one before; ``root/told.csv`` with
    predictions of a third of them, nine in ten right."""
    rng = np.random.default_rng(seed)
    folder = root / "line"
    folder.mkdir(parents=True)
    rows: list[tuple[str, str, str, str]] = []
    for number in range(images):
        label = "bad" if number // 10 % 2 else "good"
        name = f"{label}_{number:04d}.png"
        if number % 10 == 9:
            pillow.open(folder / rows[-1][0]).resize((44, 44)).save(folder / name)
        else:
            pillow.fromarray(noise(1000 * seed + number)).save(folder / name)
        is_tested = number % 3 == 0
        is_right = rng.random() < 0.9
        answer = (label if is_right else "good" if label == "bad" else "bad") if is_tested else ""
        rows.append((name, label, answer, "test" if is_tested else "train"))
    write_csv(root / "told.csv", ["image", "label", "pred", "split"], rows)
    return folder


def happened(client: Client, event: int, *values: Any) -> list[Any]:
    """What the page answers when that event, one that programs may not ask for, happens in a browser."""
    place = {"session_hash": client.session_hash}
    body = {"data": list(values), "fn_index": event, **place}
    httpx.post(f"{client.src_prefixed}queue/join", json=body).raise_for_status()
    told = httpx.get(f"{client.src_prefixed}queue/data", params=place, timeout=60).text.splitlines()
    messages = [json.loads(one.removeprefix("data: ")) for one in told if one.startswith("data: ")]
    [done] = [one for one in messages if one["msg"] == "process_completed"]
    assert done["success"]
    return list(done["output"]["data"])


def until(met: Callable[[], bool], wait: Callable[[float], Any], tries: int = 200) -> None:
    """Asks again and again, with ``wait(seconds)`` between."""
    for _ in range(tries):
        if met():
            return
        wait(0.1)
    raise AssertionError("it did not come to be")
