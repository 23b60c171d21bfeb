"""What goes in and what comes out: a good picture, a made one, and where that came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import BadData, BadMedia
from anmok.media import Image
from anmok.results import Masks


@dataclass(frozen=True, slots=True, eq=False)
class Good:
    """A picture without a defect. ``mask`` is a picture of the same size, bright where the part is; without one the
    part is looked for. An array is uint8 (H, W, 3)."""

    image: Path | Image
    mask: Path | NDArray[np.bool_] | None = None

    @property
    def name(self) -> str:
        return self.image.name if isinstance(self.image, Path) else "array"

    def read(self) -> tuple[Image, str]:
        """The pixels, uint8 (H, W, 3), and the SHA-256 of the file (of the pixels, for an array).

        Raises:
            BadMedia: it cannot be read.
        """
        if not isinstance(self.image, Path):
            pixels = media.read(self.image)
            return pixels, hashlib.sha256(pixels.tobytes()).hexdigest()
        try:
            data = self.image.read_bytes()
        except OSError as error:
            raise BadMedia(f"{self.image}: cannot be read ({error.strerror})") from None
        pixels, facts = media.decode_with_facts(data, str(self.image))
        return pixels, facts.sha256

    def part(self, size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The given mask, bool (H, W).

        Raises:
            BadData: it has another size than the picture, or is empty.
        """
        if self.mask is None:
            return None
        where = self.mask if isinstance(self.mask, Path) else f"mask of {self.name}"
        mask = media.read(self.mask)[..., 0] > 127 if isinstance(self.mask, Path) else self.mask  # (H, W)
        if mask.shape != size_hw or not mask.any():
            height, width = size_hw
            raise BadData(f"{where}: want a mask of {width} x {height} pixels, bright where the part is")
        return mask


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a made picture came from. ``seed`` and ``index`` make it again.

    ``group`` is the SHA-256 of the real picture that it was made from (``Facts.sha256`` of that file), so that splits
    keep the two together; of several, that of the first, and the others stand in ``also``. It is empty where no real
    picture is in it.
    """

    recipe: str
    seed: int
    index: int
    source: str = ""
    group: str = ""
    generator: str = "anmok"
    licence: str = ""
    also: tuple[str, ...] = ()

    @property
    def is_synthetic(self) -> bool:
        """Always: such a picture never stands in a test or calibration set."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """One made picture, uint8 (H, W, 3), with the mask of everything that was put into it.

    ``label`` is its class. ``source_index`` counts in the sources that were given, and is -1 where there are none.
    """

    image: Image
    masks: Masks
    label: str
    source_index: int
    provenance: Provenance

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The tight box around each mask, float32 (N, 4): left, top, right, bottom, the latter two exclusive."""
        return self.masks.xyxy
