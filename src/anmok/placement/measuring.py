"""Each model on the device that is here: bytes of its weights, and seconds and bytes of batches of 1 to 32 items.

What is timed is ``Model.run`` on JPEG files in memory, as a request brings them: decoding, the net and the answer. HTTP
is left out. The figures hold for this device and no other.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image as pillow

from anmok.catalogue import Card
from anmok.engine import Limits
from anmok.errors import Unsupported
from anmok.inputs import Item, Prompted
from anmok.load import Model
from anmok.placement.costs import Measured, Timing, spread_of
from anmok.placement.memory import Watermark, in_words
from anmok.tasks import Ask, Classify, Depth, Detect, Embed, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment

SIZES: Final = (1, 2, 4, 8, 16, 32)
_WORDS: Final = ("cat", "dog", "car", "tree", "house", "person", "boat", "bird", "chair", "bottle")
_SECONDS: Final = 2.0  # for the runs of one size, if there are enough of them then
_FEWEST, _MOST = 3, 25  # runs of one size
_PLAIN: Final[dict[str, Callable[[], Ask[Any, Any]]]] = {
    "embed": Embed,
    "depth": Depth,
    "pose": Pose,
    "gaze": Gaze,
    "parse": Parse,
    "normals": Normals,
    "matte": Matting,
}


def measure(
    name: str,
    task: str,
    loader: Callable[[], Model],
    limits: Limits,
    *,
    device: str = "cpu",
    pixels: tuple[int, int] = (640, 480),
    seconds: float = _SECONDS,
) -> Measured:
    """Loads the model, times it, and closes it.

    Sizes that the engine would not use are left out: those above ``batch_items``, and those beyond one that took twice
    ``batch_seconds``, but for 1 and 2.

    Args:
        name: that the figures are kept under.
        task: what it is asked.
        loader: makes the model, on that device.
        limits: of the engine.
        device: where the loader puts it; not ``auto``.
        pixels: width and height of the pictures.
        seconds: for the runs of each size.

    Raises:
        Unsupported: the task is not one of single pictures.
        AnmokError: what keeps the model from being loaded, or from answering.
    """
    began = time.perf_counter()
    with loader() as model:
        loaded = time.perf_counter() - began
        items, ask = question(model.card, task, pixels, max(SIZES), is_adapted=model.adapter is not None)
        mark = Watermark(device)
        mark.start()
        timings: list[Timing] = []
        for size in _sizes(limits):
            timings.append(_timed(model, items[:size], ask, mark, seconds))
            if timings[-1].seconds > 2 * limits.batch_seconds and size > 1:
                break
        words = in_words(device, os.cpu_count() or 1)
        return Measured(name, task, words, model.memory_bytes, tuple(timings), pixels, loaded)


def question(
    card: Card, task: str, pixels: tuple[int, int], count: int, *, is_adapted: bool = False
) -> tuple[list[Item], Ask[Any, Any]]:
    """So many pictures, no two alike, and what to ask about them.

    Raises:
        Unsupported: a task of clips, or one that the card does not have.
    """
    if task not in card.tasks or task == "track":
        can = ", ".join(one for one in card.tasks if one != "track")
        raise Unsupported(f"{card.name}, {task}: a plan is for tasks of single pictures; here these are: {can}")
    images = [picture(pixels, seed) for seed in range(count)]
    if task in _PLAIN:
        return list(images), _PLAIN[task]()
    words = _WORDS if card.languages and not is_adapted else None
    if task == "classify":
        return list(images), Classify(words)
    if task == "point":
        return list(images), Pointing(_WORDS)
    if task == "detect":
        return list(images), Detect(words)
    if words is not None:
        return list(images), Segment(words)
    width, height = pixels  # without words it is pointed at what is to be cut out
    box = (width / 4, height / 4, 3 * width / 4, 3 * height / 4)
    return [Prompted(image, boxes=(box,)) for image in images], Segment()


def picture(pixels: tuple[int, int], seed: int) -> bytes:
    """A JPEG of that width and height: patches of colour with some grain, about as hard to decode as a photograph."""
    random = np.random.default_rng(seed)
    coarse = pillow.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(pixels, pillow.Resampling.BICUBIC), np.float32)  # (H, W, 3)
    grain = random.normal(0, 6, smooth.shape)
    stream = io.BytesIO()
    pillow.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _sizes(limits: Limits) -> list[int]:
    """Powers of two below the largest batch, and that one itself."""
    most = min(limits.batch_items, max(SIZES))
    return sorted({*(size for size in SIZES if size < most), most})


def _timed(model: Model, items: Sequence[Item], ask: Ask[Any, Any], mark: Watermark, seconds: float) -> Timing:
    """The first run warms up what grows with the size of a batch; it counts for the memory, not for the time."""
    model.run(items, ask)
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while len(taken) < _FEWEST or (time.perf_counter() < ends and len(taken) < _MOST):
        began = time.perf_counter()
        model.run(items, ask)
        taken.append(time.perf_counter() - began)
    return Timing(len(items), float(np.median(taken)), spread_of(taken), len(taken), mark.above())
