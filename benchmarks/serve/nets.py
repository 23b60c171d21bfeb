"""The nets as a user of any server would write them down: bytes to an array, arrays to vectors.

Every peer runs this very code, in the thread or process that its own documentation says; so does nobody else.
``mini`` is our model file called directly, for no one else has it. The ViT is transformers' class with Pillow's
preprocessing. Imported in the peers' environments too: nothing at module level but what they all have.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve import weights

Array = NDArray[np.float32]

THREADS = 2  # of torch, over all workers of a server together
BATCH = 32  # pictures, at most, in every server


class Net(Protocol):
    def prepare(self, data: bytes) -> Array:
        """A file to an array (3, h, w)."""
        ...

    def vectors(self, batch: Sequence[Array]) -> Array:
        """Arrays to unit rows (B, D)."""
        ...


def net(threads: int = THREADS) -> Net:
    """The net that the environment names: ``BENCH_MODEL`` is ``mini`` or ``vit-b32``, ``BENCH_HOME`` the folder with
    the random weights."""
    import torch

    torch.set_num_threads(threads)
    return Mini() if os.environ["BENCH_MODEL"] == "mini" else Vit(weights.folder(Path(os.environ["BENCH_HOME"])))


class Mini:
    """Vectors of 384 values."""

    def __init__(self) -> None:
        import anmok

        self._kind: Any = anmok.load("mini", device="cpu").kind

    def prepare(self, data: bytes) -> Array:
        from anmok import media

        pixels: Array = self._kind.prepare(media.read(data)).pixels  # (3, 260, 260)
        return pixels

    def vectors(self, batch: Sequence[Array]) -> Array:
        rows: Array = self._kind.word_vectors(self._kind.encode(np.stack(batch))["features"])  # (B, 384)
        return rows


class Vit:
    """Vectors of 512 values."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPVisionModelWithProjection

        self._net: Any = CLIPVisionModelWithProjection.from_pretrained(folder)
        self._net.eval()  # type: ignore[no-untyped-call]  # of transformers
        self._mean = np.asarray(weights.MEAN, np.float32) * 255
        self._std = np.asarray(weights.STD, np.float32) * 255

    def prepare(self, data: bytes) -> Array:
        from PIL import Image as pillow

        image = pillow.open(io.BytesIO(data)).convert("RGB")
        scale = weights.SIZE / min(image.size)
        width, height = (max(weights.SIZE, int(side * scale)) for side in image.size)  # cut, as CLIP's own does
        image = image.resize((width, height), pillow.Resampling.BICUBIC)
        left, top = (width - weights.SIZE) // 2, (height - weights.SIZE) // 2
        middle = image.crop((left, top, left + weights.SIZE, top + weights.SIZE))
        levels = (np.asarray(middle, np.float32) - self._mean) / self._std  # (224, 224, 3)
        return np.ascontiguousarray(levels.transpose(2, 0, 1))  # (3, 224, 224)

    def vectors(self, batch: Sequence[Array]) -> Array:
        import torch

        with torch.inference_mode():
            rows = self._net(pixel_values=torch.from_numpy(np.stack(batch))).image_embeds  # (B, 512)
            unit: Array = (rows / rows.norm(dim=1, keepdim=True)).numpy()
        return unit
