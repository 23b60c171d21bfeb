"""Pictures with defects, one at a time: each depends on its recipe, seed and index, and on nothing that came before."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.geometry import Rle
from anmok.media import Image
from anmok.results import Masks
from anmok.synth.blending import settle
from anmok.synth.cameras import photograph
from anmok.synth.filters import Mask
from anmok.synth.noise import log_uniform
from anmok.synth.painting import Canvas, Spot, paint
from anmok.synth.pictures import Good, Made, Provenance
from anmok.synth.placing import OPAQUE, OWN_CONTRAST, can_have, occupy, propose
from anmok.synth.recipes import Kind, Recipe
from anmok.synth.scenes import Scene, look
from anmok.synth.surfaces import Surface, check_surface, surface

_ORDER, _DRAW, _KINDS = 1, 2, 3  # streams of random numbers that know nothing of one another
_TRIES = 80
_PART_OF_RANGE: dict[Kind, tuple[float, float]] = {"dent": (0, 0.25), "hole": (0.5, 1)}  # of contrasts
_AHEAD = 8  # pictures per worker that may wait for whoever takes them
_KEPT = 4  # scenes; sources that follow each other in one round are all different


class Maker:
    """Makes the picture of any index. Reads each source as it comes by; equal in every process.

    Raises:
        BadRequest: there are no sources.
    """

    def __init__(self, sources: Sequence[Path | Good], recipe: Recipe, seed: int) -> None:
        if not sources:
            raise BadRequest("no good pictures to put defects into: give a folder that has some")
        if seed < 0:
            raise BadRequest(f"seed {seed}: want a whole number from 0 on")
        self.sources = tuple(one if isinstance(one, Good) else Good(one) for one in sources)
        self.recipe, self.seed = recipe, seed
        self._scene = lru_cache(maxsize=_KEPT)(self._looked_at)

    def __call__(self, index: int) -> Made:
        """The picture of that index, from 0 on.

        Raises:
            BadMedia: its source cannot be read.
            BadData: none of the kinds finds a place in its source.
        """
        number = int(self._round(index // len(self.sources))[index % len(self.sources)])
        scene, group = self._scene(number)
        rng = np.random.default_rng([self.seed, _DRAW, index])
        is_control = rng.random() < self.recipe.controls
        count = 0 if is_control else int(rng.integers(self.recipe.defects[0], self.recipe.defects[1] + 1))
        kind, image, masks = self._with_defects(number, scene, index, count, rng)
        if self.recipe.camera is not None:
            image, masks = photograph(image, masks, self.recipe.camera, rng)
        label = (self.recipe.label or str(kind)) if masks else self.recipe.good_label
        recipe, name = self.recipe, self.sources[number].name
        provenance = Provenance(recipe.digest, self.seed, index, name, group, licence=recipe.licence)
        return Made(image, _result(masks, kind, recipe.kinds, image), label, number, provenance)

    def _looked_at(self, number: int) -> tuple[Scene, str]:
        good = self.sources[number]
        image, group = good.read()
        part = good.part((image.shape[0], image.shape[1]))
        return look(image, part, self.recipe.inside == "everywhere"), group

    def _round(self, number: int) -> NDArray[np.int64]:
        """Every source once, in an order that this round alone has."""
        return np.random.default_rng([self.seed, _ORDER, number]).permutation(len(self.sources))

    def _turn(self, index: int) -> list[Kind]:
        """The kinds in the order in which they are tried: each is first as often as any other."""
        kinds = self.recipe.kinds
        order = np.random.default_rng([self.seed, _KINDS, index // len(kinds)]).permutation(len(kinds))
        first = index % len(kinds)
        return [kinds[i] for i in (*order[first:], *order[:first])]

    def _with_defects(
        self, number: int, scene: Scene, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Kind | None, Image, list[Mask]]:
        if count == 0:
            return None, scene.image, []
        for kind in self._turn(index):
            if not can_have(kind, scene):
                continue
            image, masks = put(kind, scene, count, self.recipe, rng)
            if len(masks) >= max(self.recipe.defects[0], 1):
                return kind, image, masks
        least, most = (100 * share for share in self.recipe.area)
        raise BadData(
            f"{self.sources[number].name}: no room for {' or '.join(self.recipe.kinds)} of "
            f"{least:.2f} to {most:.2f} % of the picture and the asked contrast; "
            "widen area or contrast, or leave the picture out"
        )


def make(sources: Sequence[Path | Good], recipe: Recipe, count: int, seed: int, *, workers: int = 1) -> Iterator[Made]:
    """``count`` pictures with defects, made of good ones. Sources and kinds take turns, so that all are used alike.

    The picture of an index is the same whatever ``count`` is and in whichever process or order it is made
    (``Maker`` makes any single one; ``workers`` is the number of processes). Before the camera a picture differs
    from its source inside the masks, at every pixel of them, and nowhere else.

    Raises:
        BadRequest: no sources, or a negative count or seed.
        BadMedia: a source cannot be read.
        BadData: a mask of a part does not fit, or no kind finds a place in a source.
    """
    if count < 0 or workers < 1:
        raise BadRequest(f"count {count} and workers {workers}: want 0 or more pictures, and at least one worker")
    maker = Maker(sources, recipe, seed)
    if workers == 1 or count < 2:
        return (maker(index) for index in range(count))
    return _in_processes(maker, count, workers)


def drawn(kind: Surface, size_hw: tuple[int, int], count: int, seed: int) -> Iterator[Made]:
    """``count`` surfaces as made pictures without a defect, labelled good: ground to try the tools on.

    Raises:
        BadRequest: no such surface, or a size or count that makes no sense.
    """
    check_surface(kind, size_hw)
    if count < 0 or seed < 0:
        raise BadRequest(f"count {count} and seed {seed}: want 0 or more")
    return (_blank(kind, size_hw, index, seed) for index in range(count))


def _blank(kind: Surface, size_hw: tuple[int, int], index: int, seed: int) -> Made:
    # A seed of its own for each picture: seed + index would be those of the next seed's pictures too.
    own = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    provenance = Provenance(kind, seed, index, licence="CC0-1.0")
    return Made(surface(kind, size_hw, own), Masks.none((), size_hw), "good", -1, provenance)


def _in_processes(maker: Maker, count: int, workers: int) -> Iterator[Made]:
    # Fresh processes: a copy of this one could hold locks of threads that it does not have.
    start = multiprocessing.get_context("spawn")
    told = (maker.sources, maker.recipe, maker.seed)
    with ProcessPoolExecutor(workers, start, _begin, told) as pool:
        ahead = workers * _AHEAD
        coming = deque(pool.submit(_next, index) for index in range(min(ahead, count)))
        try:
            for index in range(count):
                if index + ahead < count:
                    coming.append(pool.submit(_next, index + ahead))
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


_here: list[Maker] = []  # of a worker process


def _begin(sources: Sequence[Path | Good], recipe: Recipe, seed: int) -> None:
    _here[:] = [Maker(sources, recipe, seed)]


def _next(index: int) -> Made:
    return _here[0](index)


def put(kind: Kind, scene: Scene, count: int, recipe: Recipe, rng: np.random.Generator) -> tuple[Image, list[Mask]]:
    """Up to ``count`` defects of one kind: the picture, and a mask bool (H, W) for each that found a place."""
    image, taken = scene.image.copy(), np.zeros(scene.inside.shape, np.bool_)
    towards = rng.uniform(0, 2 * np.pi) if scene.light is None else scene.light + rng.normal(0, 0.2)
    light = (float(np.cos(towards)), float(np.sin(towards)))
    masks: list[Mask] = []
    for _ in range(_TRIES * count):
        if len(masks) == count:
            break
        spot = propose(kind, scene, taken, recipe, rng)
        if spot is None:
            continue
        after = _painted(kind, scene, spot, recipe, (light, rng))
        if after is None:
            continue
        image[spot.window] = after
        masks.append(np.zeros(taken.shape, np.bool_))
        masks[-1][spot.window] = spot.cover > 0
        occupy(taken, spot)
    return image, masks


def _painted(
    kind: Kind, scene: Scene, spot: Spot, recipe: Recipe, chance: tuple[tuple[float, float], np.random.Generator]
) -> Image | None:
    light, rng = chance
    before = scene.image[spot.window]  # (h, w, 3); spots do not overlap, so it is still as it was
    contrast = _contrast(kind, recipe, rng)
    wanted = paint(kind, Canvas(scene, spot, before.astype(np.float32), light, contrast), rng)
    is_scaled = kind not in (*OWN_CONTRAST, *OPAQUE)
    return settle(before, wanted, spot.cover, contrast if is_scaled else None, recipe.contrast[0])


def _contrast(kind: Kind, recipe: Recipe, rng: np.random.Generator) -> float:
    """How strong it is to be. A shaded bowl is dark on one side and bright on the other:
    strong ones look painted. A hole is dark."""
    low, high = (max(end, 1e-3) for end in recipe.contrast)
    least, most = _PART_OF_RANGE.get(kind, (0.0, 1.0))
    return log_uniform(low + least * (high - low), low + most * (high - low), rng)


def _result(masks: list[Mask], kind: Kind | None, kinds: tuple[Kind, ...], image: Image) -> Masks:
    size_hw = (image.shape[0], image.shape[1])
    if kind is None:
        return Masks.none(kinds, size_hw)
    ids = np.full(len(masks), kinds.index(kind), np.int64)
    return Masks(tuple(Rle.of(mask) for mask in masks), np.ones(len(masks), np.float32), ids, kinds, size_hw)
