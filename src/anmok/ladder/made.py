"""Made pictures on the ladder: from a folder that ``anmok synth`` wrote, or made now of good pictures of the pool.

They are learned from and nothing else. One whose source is tested on is left out, one that lies among the real
pictures is an error, and none ever tests, judges or calibrates.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.errors import BadData, BadRequest
from anmok.files import cannot_write
from anmok.ladder.features import look
from anmok.ladder.grouping import near_copies
from anmok.ladder.rungs.mixed import Extra
from anmok.ladder.wishes import MadeWish
from anmok.load import Model
from anmok.synth import KINDS, MAX_RATIO, Entry, Good, Kind, Made, Maker, Provenance, Recipe, read_table
from anmok.weights import cache_dir

if TYPE_CHECKING:
    from anmok.ladder.plan import Plan
    from anmok.ladder.prepare import Scene

Progress = Callable[[int, int], None]

_CHUNK = 32  # made pictures on the disk at a time
_UNKNOWN = "not known"
_NOTHING = np.zeros((1, 1, 3), np.uint8)  # in place of a picture that was looked at


@dataclass(frozen=True, slots=True, eq=False)
class MadePictures:
    """What may be learned from, where it came from, and what was left out and why."""

    extra: Extra
    provenance: str  # for the books: generators and recipes
    licences: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def with_made(scene: Scene, model: Model, plan: Plan, progress: Progress | None = None) -> Scene:
    """The scene with the made pictures that the plan wishes for, if any, before anything is fitted or tested.

    Raises:
        BadData: none of them may be used, or some are among the real pictures.
        BadRequest: no good pictures in the pool, or a folder inside the real ones.
    """
    wish = plan.synthetic
    if wish is None:
        return scene
    if wish.folder:
        made = _of_folder(scene, model, Path(wish.folder), progress)
    else:
        made = _made_now(scene, model, wish, plan.seed, progress)
    return replace(scene, made=made, warnings=(*scene.warnings, *made.warnings))


@dataclass(frozen=True, slots=True)
class _Known:
    """The real pictures by their SHA-256: their groups, and which groups may be learned from."""

    groups: dict[str, int]
    pool: frozenset[int]

    @classmethod
    def of(cls, scene: Scene) -> _Known:
        numbers = scene.grouping.groups
        groups = {facts.sha256: int(numbers[i]) for i, facts in enumerate(scene.looked.facts)}
        return cls(groups, frozenset(int(group) for group in numbers[scene.pool]))

    def sources(self, one: Provenance) -> frozenset[int]:
        return frozenset(self.groups[sha] for sha in (one.group, *one.also) if sha in self.groups)

    def is_stranger(self, one: Provenance) -> bool:
        """Made of a real picture that is not among the data."""
        return any(sha and sha not in self.groups for sha in (one.group, *one.also))


def _of_folder(scene: Scene, model: Model, folder: Path, progress: Progress | None) -> MadePictures:
    if any(path.resolve().is_relative_to(folder.resolve()) for path in scene.dataset.paths):
        raise BadRequest(f"{folder} lies among the real pictures, which are tested on: move it out")
    known, classes = _Known.of(scene), scene.dataset.classes
    kept, warnings = _kept(read_table(folder), scene, known)
    if not kept:
        raise BadData(f"{folder}: no picture in it may be used ({'; '.join(warnings)})")
    looked = look([folder / entry.image for entry in kept], model, progress=progress)
    if looked.failures:
        raise BadData(f"{folder}: {looked.failures[0][1]}; let anmok synth write it anew")
    twins = sum(facts.sha256 in known.groups for facts in looked.facts)
    if twins:
        raise BadData(f"{twins} pictures of {folder} are among the real ones, which are tested on: take them out")
    is_stranger = np.asarray([known.is_stranger(entry.provenance) for entry in kept])
    # A source that nobody knows may be a test picture under another name: then what was made of it gives it away.
    is_like_tested = is_stranger & near_copies(scene.looked, scene.test, looked)
    if is_like_tested.any():
        warnings.append(f"made pictures that are near-copies of test pictures, left out: {int(is_like_tested.sum())}")
    rows = np.flatnonzero(~is_like_tested)  # (j,)
    if not len(rows):
        raise BadData(f"{folder}: no picture in it may be used ({'; '.join(warnings)})")
    labels = np.asarray([classes.index(kept[i].label) for i in rows], np.int64)
    return _gathered(looked.features[rows], labels, [kept[i].provenance for i in rows], known, warnings)


def _kept(entries: Sequence[Entry], scene: Scene, known: _Known) -> tuple[list[Entry], list[str]]:
    """What may be learned from, and what may not."""
    classes = scene.dataset.classes
    strange = Counter(entry.label for entry in entries if entry.label not in classes)
    named = [entry for entry in entries if entry.label in classes]
    free = [entry for entry in named if known.sources(entry.provenance) <= known.pool]
    room = _room(scene)
    kept = []
    for entry in free:
        room[entry.label] -= 1
        if room[entry.label] >= 0:
            kept.append(entry)
    warnings = []
    if strange:
        listed = ", ".join(f"{name} ({number})" for name, number in sorted(strange.items())[:4])
        warnings.append(f"made pictures of classes that the real ones do not have, left out: {listed}")
    if len(named) > len(free):
        warnings.append(f"made pictures whose source is tested on, left out: {len(named) - len(free)}")
    if len(free) > len(kept):
        warnings.append(f"made pictures beyond ten for each real one, left out: {len(free) - len(kept)}")
    return kept, warnings


def _made_now(scene: Scene, model: Model, wish: MadeWish, seed: int, progress: Progress | None) -> MadePictures:
    dataset = scene.dataset
    good, classes = dataset.classes.index(wish.good), dict(wish.kinds)
    sources = [Good(dataset.paths[i]) for i in scene.pool if scene.labels[i] == good]
    if not sources:
        raise BadRequest(f"no picture of {wish.good} in the development pool to put defects into; give another --good")
    kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in classes)
    room = _room(scene)
    count = min(wish.count, sum(room[name] for name in set(classes.values())))
    maker = Maker(sources, Recipe(kinds=kinds, good_label=wish.good, licence=dataset.licence), seed)
    rows: list[NDArray[np.float32]] = []
    made: list[Made] = []
    for first in range(0, count, _CHUNK):
        new = [one for index in range(first, min(first + _CHUNK, count)) if (one := _one(maker, index)) is not None]
        if new:
            rows.append(_features(new, model))
        made += [replace(one, image=_NOTHING) for one in new]
        if progress is not None:
            progress(min(first + _CHUNK, count), count)
    if not made:
        raise BadData(f"no room for {' or '.join(kinds)} in any picture of {wish.good}; name other kinds")
    warnings = [f"tries without room for the defect in the good picture: {count - len(made)}"] * (len(made) < count)
    labels = np.asarray([dataset.classes.index(classes[one.label]) for one in made], np.int64)
    return _gathered(np.concatenate(rows), labels, [one.provenance for one in made], _Known.of(scene), warnings)


def _one(maker: Maker, index: int) -> Made | None:
    """None where no kind finds a place in the source."""
    try:
        return maker(index)
    except BadData:
        return None


def _features(made: Sequence[Made], model: Model) -> NDArray[np.float32]:
    """(k, F). On the disk for as long as they are looked at; what the model made of them is kept."""
    with cannot_write(cache_dir()):
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="made-") as place:
            paths = [Path(place) / f"{number}.png" for number in range(len(made))]
            for one, path in zip(made, paths, strict=True):
                pillow.fromarray(one.image).save(path, compress_level=1)
            return look(paths, model).features


def _room(scene: Scene) -> dict[str, int]:
    """How many made pictures a class may have; one without real ones as many as the usual class."""
    classes = scene.dataset.classes
    counts = np.bincount(scene.labels[scene.pool], minlength=len(classes))  # (K,)
    usual = float(np.median(counts[counts > 0]))
    return {name: int(MAX_RATIO * (count or usual)) for name, count in zip(classes, counts.tolist(), strict=True)}


def _gathered(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    told: Sequence[Provenance],
    known: _Known,
    warnings: Sequence[str],
) -> MadePictures:
    makers = sorted({(one.generator, one.recipe) for one in told})
    licences = sorted({(f"made pictures ({one.generator})", one.licence or _UNKNOWN) for one in told})
    provenance = f"{len(told)} made: " + ", ".join(f"{generator} {recipe}" for generator, recipe in makers)
    extra = Extra(features, labels, tuple(known.sources(one) for one in told))
    return MadePictures(extra, provenance, tuple(licences), tuple(warnings))
