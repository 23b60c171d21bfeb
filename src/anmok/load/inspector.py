"""A model that sees patches, and one that judges them by a memory of good pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok import geometry
from anmok.catalogue import Card
from anmok.errors import BadRequest, Unsupported
from anmok.geometry import Pixels, View
from anmok.inputs import Encoded
from anmok.inspecting import p_values
from anmok.load.bank import Bank
from anmok.results import AnomalyMap
from anmok.tasks import Inspect, SeesPatches, Setup

Array = NDArray[np.float32]

_SIGMA = 4.0  # pixels of the canvas by which a map of distances is smoothed, as AnomalyDINO and PatchCore do
_LARGEST = 1024


def close_pixels(pixels: Pixels, size: int) -> Pixels:
    """How pictures are brought to the canvas for inspection: whole, for a flaw may lie at the edge.

    Raises:
        BadRequest: a side that no net here is made for.
    """
    side = size or pixels.size
    if not 32 <= side <= _LARGEST:
        raise BadRequest(f"size {size}: want a side between 32 and {_LARGEST} pixels, or 0 for the card's own")
    return replace(pixels, size=side, fit="squash", crop=1.0, longest=0)


class Inspector:
    """The states are patches of the base, ``patches`` float32 (h, w, C), beside its ``features``. Without a bank it
    only makes them."""

    def __init__(self, setup: Setup, base: Any, bank: Bank | None) -> None:
        if not isinstance(base, SeesPatches):
            raise Unsupported(
                f"{setup.name} shows no patches of its pictures; mini, the DINO and the CLIP models do, as --model mini"
            )
        self._setup = setup
        self._base = base
        self._bank = bank

    @property
    def nbytes(self) -> int:
        weights: int = getattr(self._base, "nbytes", 0)
        return weights + (0 if self._bank is None else self._bank.nbytes)

    def prepare(self, image: NDArray[np.uint8]) -> View:
        return geometry.view(image, self._setup.pixels)

    def encode(self, batch: NDArray[Any]) -> Mapping[str, Array]:
        return self._base.patches(batch)

    def inspect(self, states: Sequence[Encoded], ask: Inspect) -> list[AnomalyMap]:
        return [self._inspected(state, ask) for state in states]

    def _inspected(self, state: Encoded, ask: Inspect) -> AnomalyMap:
        assert self._bank is not None
        judged = self._bank.memory.judge(np.asarray(state.maps["patches"], np.float32))
        threshold = ask.threshold
        if threshold is None and self._bank.limit is not None:
            threshold = self._bank.limit.threshold
        p_value = float(p_values([judged.score], self._bank.normals)[0]) if len(self._bank.normals) else None
        side = self._setup.pixels.size
        return AnomalyMap(judged.score, spread(judged.distances, side, state.place.size_hw), threshold, p_value)


def looking_closely(
    model: tuple[Card, Any, Setup], maker: str, size: int, bank: Bank | None
) -> tuple[Card, Inspector, Setup]:
    """Card, kind and setup of what sees the patches of a model with these.

    Raises:
        Unsupported: it shows no patches.
        WrongState: the memory holds patches of another model.
    """
    card, base, setup = model
    if bank is not None:
        bank.check(maker)
    closer = replace(setup, pixels=close_pixels(setup.pixels, size if bank is None else bank.size))
    tasks = () if bank is None else (Inspect.task,)
    # A name of its own, so that a state of patches is never taken for one of the base.
    seeing = replace(card, name=f"{card.name}:patches", pixels=closer.pixels, tasks=tasks)
    return seeing, Inspector(closer, base, bank), closer


def spread(distances: Array, side: int, size_hw: tuple[int, int]) -> Array:
    """Distances of patches (h, w) over the picture's pixels (H, W): bilinear, smoothed on the canvas of ``side``."""
    from scipy.ndimage import gaussian_filter

    canvas = pillow.fromarray(np.asarray(distances, np.float32)).resize((side, side), pillow.Resampling.BILINEAR)
    smooth = gaussian_filter(np.asarray(canvas), _SIGMA, mode="nearest")  # (side, side)
    picture = pillow.fromarray(smooth).resize((size_hw[1], size_hw[0]), pillow.Resampling.BILINEAR)
    return np.maximum(np.asarray(picture, np.float32), 0)
