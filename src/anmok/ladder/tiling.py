"""What rung T sees: every photo tile by tile, as finely as the budget allows, through the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anmok import features, media
from anmok.evidence.splits import folds
from anmok.features import Cache
from anmok.ladder.evaluate import Evaluated, Held, Price, cross_fitted, learned
from anmok.ladder.prepare import Scene
from anmok.ladder.rungs.fitting import Material
from anmok.ladder.tuning.ground import Ground
from anmok.ladder.tuning.skipped import Skipped, too_long
from anmok.load import Head, Model, Tiled
from anmok.load.closely import margin_of
from anmok.tasks import Embed
from anmok.tiles import MOST, Tiling, cut, joined

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Told = Callable[[int, int], None]

KEY: Final = "T"
LARGE: Final = 2.0  # times the card's pixels on the longer side, below which tiles show nothing that the whole does not
_FINEST: Final = 0.9  # of the card's pixels: smaller tiles would only be enlarged
_OVERLAP: Final = 6  # neighbours share one in so many pixels of a tile
_SHARE: Final = 0.5  # of the budget: the rungs that tune are to have some
_AT_ONCE: Final = 64  # tiles of a photo that are cut out at a time


@dataclass(frozen=True, slots=True, eq=False)
class Closer:
    """The pool and the held-out photos on joined features (., 3 F), how they were cut, and what such a look costs."""

    material: Material
    held: Held
    price: Price
    tiling: Tiling

    def answered(self, shots: int | None, draws: Sequence[Labels]) -> Evaluated:
        """The rung on each support set."""
        return self._shipped(learned(KEY, shots, self.material, draws, self.held, self.price))

    def cross_fitted(self, count: int) -> Evaluated:
        """Where there is no test set, by so many folds."""
        fold = folds(self.material.labels, self.material.groups, count, self.material.seed)
        return self._shipped(cross_fitted(KEY, self.material, fold, self.held, self.price))

    def _shipped(self, found: Evaluated) -> Evaluated:
        """With a head that knows how photos are to be cut."""
        assert isinstance(found.head, Head)
        step = replace(found.step, variant=f"{found.step.variant}; tiles of {self.tiling.size} pixels")
        return replace(found, head=Tiled(found.head, self.tiling), step=step)


def look_closer(ground: Ground, seconds: float) -> Closer | Skipped:
    """The photos in the finest tiles that take no more than a part of ``seconds``, or why they are not cut.

    Raises:
        CannotWrite: the cache folder cannot be written.
    """
    scene, side = ground.scene, ground.model.card.pixels.size
    longer = int(np.median([max(facts.width, facts.height) for facts in scene.looked.facts]))
    if longer < LARGE * side:
        return Skipped(KEY, f"photos of {longer} pixels on the longer side; tiles are for {LARGE * side:g} or more")
    tilings = [one for one in possible(longer, side) if _most(scene, one) <= MOST]
    if not tilings:
        return Skipped(KEY, f"the largest photo would have more than {MOST} tiles")
    taken = [_seconds(ground, tiling) for tiling in tilings]
    affordable = [one for one, needed in zip(tilings, taken, strict=True) if needed <= _SHARE * seconds]
    if not affordable:
        return Skipped(KEY, too_long(taken[0] / _SHARE))
    tiling = affordable[-1]
    rows = looked_at(scene, ground.model, tiling, ground.told("tiles"))
    material = replace(ground.material, features=rows[scene.pool], towers=None, flipped=None, made=None)
    held = replace(ground.held, features=rows[scene.test])
    return Closer(material, held, _price(ground, tiling), tiling)


def possible(longer: int, side: int) -> list[Tiling]:
    """From coarse to fine: 2, 3, 4 ... tiles along a photo's longer side, down to tiles of the ``side`` that a card
    sees. Neighbours share a sixth."""
    found = []
    for along in range(2, MOST):
        size = round(longer / (along - (along - 1) / _OVERLAP))
        if size < _FINEST * side:
            break
        found.append(Tiling(size, size // _OVERLAP))
    return found


def looked_at(scene: Scene, model: Model, tiling: Tiling, told: Told | None = None) -> Array:
    """Joined features of every photo, (n, 3 F), in the order of the scene. A kill costs one photo."""
    rows = []
    with features.opened() as cache:
        for number, (path, facts) in enumerate(zip(scene.dataset.paths, scene.looked.facts, strict=True)):
            # The facts are of the file as it lies; the number of tiles is the same when it is turned.
            count = tiling.count(facts.height, facts.width)
            tiles = _tiles_of(cache, path, facts.sha256, model, tiling, count)
            rows.append(joined(scene.looked.features[number], tiles))
            if told is not None:
                told(number + 1, len(scene.dataset.paths))
    return np.stack(rows)  # (n, 3 F)


def _tiles_of(cache: Cache, path: Path, sha: str, model: Model, tiling: Tiling, count: int) -> Array:
    """(T, F) of one photo, out of the cache or looked at now."""
    known = cache.vectors([sha], model.maker, _view(tiling)).get(sha)
    if known is not None:
        return known.reshape(count, -1)
    photo = media.read(path)
    margin = margin_of(tiling, model.card.pixels)
    rows = []
    corners = tiling.corners(*photo.shape[:2])
    for start in range(0, len(corners), _AT_ONCE):
        parts = [cut(photo, corner, tiling.size, margin) for corner in corners[start : start + _AT_ONCE]]
        rows += [answer.vector for answer in model.run(parts, Embed(space="features"))]
    tiles = np.stack(rows)  # (T, F)
    cache.add({sha: tiles.ravel()}, model.maker, _view(tiling))
    return tiles


def _view(tiling: Tiling) -> str:
    """Of the features of all tiles of a photo, one after another, in the cache."""
    return f"tiles:{tiling.size}:{tiling.overlap}"


def _most(scene: Scene, tiling: Tiling) -> int:
    """Tiles of the photo that has most of them."""
    return max(tiling.count(one.height, one.width) for one in scene.looked.facts)


def _seconds(ground: Ground, tiling: Tiling) -> float:
    """For all photos that are not in the cache."""
    shas = [facts.sha256 for facts in ground.scene.looked.facts]
    with features.opened() as cache:
        known = cache.vectors(shas, ground.model.maker, _view(tiling))
    tiles = [tiling.count(one.height, one.width) for one in ground.scene.looked.facts if one.sha256 not in known]
    return sum(tiles) * ground.price.ms_per_image / 1e3


def _price(ground: Ground, tiling: Tiling) -> Price:
    """As many looks as the median photo takes, each at the price of one: timed together with the other rungs'."""
    looks = 1 + float(np.median([tiling.count(one.height, one.width) for one in ground.scene.looked.facts]))
    return replace(ground.price, ms_per_image=looks * ground.price.ms_per_image)
