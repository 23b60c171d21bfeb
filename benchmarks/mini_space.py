"""How `mini` was joined: chosen on 100 ImageNet photos by the rule below, then reported on two other sets, once.

``python benchmarks/mini_space.py IMAGENET_SAMPLE CLOTHING CIFAR10``: a folder of one photo for every tenth ImageNet
class (file names begin with the WordNet number), and two folders of classes.

The rule. All 100 classes in the photos are taken out of what the joint is made from (900 remain), and each photo is
told from the 100 left-out names: true zero-shot, 1 % by chance. Candidates are ConSE over the ten likeliest classes
and the ridge map at each penalty below; each with three ways to write a label. Most photos right wins; at a tie
the heavier penalty. ``classify`` and ``embed`` take the winner. The best ridge map is kept beside it, because the
ladder's upper rungs tune a matrix. Each has the temperature with the least cross-entropy on the same photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

import anmok
from anmok import media, words
from anmok.evidence.compare import mcnemar_midp
from anmok.evidence.intervals import wilson
from anmok.load import Model
from anmok.models.mini import conse, joined
from anmok.pairing import unit
from anmok.tasks import Classify

Array = NDArray[np.float32]
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
TEMPLATES = {"name": ("{}",), "photo": ("a photo of a {}.",), "both": ("{}", "a photo of a {}.")}


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """What the eye made of some photos, and which of ``labels`` each of them shows."""

    features: Array  # (N, F)
    chances: Array  # (N, 1000)
    labels: tuple[str, ...]
    shown: NDArray[np.int64]  # (N,)


@dataclass(frozen=True, slots=True)
class Joint:
    """One candidate: how pictures come into the text space (features, chances -> (N, D)), how labels are written."""

    name: str
    template: str
    vectors: Callable[[Photos], Array]

    def cosines(self, photos: Photos, model: Model) -> Array:
        ask = Classify(photos.labels, templates=TEMPLATES[self.template])
        return unit(self.vectors(photos)) @ model.towers.text_vectors(ask).T  # (N, K)

    def hits(self, photos: Photos, model: Model) -> NDArray[np.bool_]:
        return np.asarray(self.cosines(photos, model).argmax(1) == photos.shown)


def look(model: Model, paths: Sequence[Path], labels: Sequence[str], shown: Sequence[int]) -> Photos:
    features = np.stack([state.features for state in model.encode(paths)])  # (N, F)
    return Photos(features, eye(model).probabilities(features), tuple(labels), np.array(shown))


def imagenet(model: Model, folder: Path) -> Photos:
    """One photo for each class 0, 10, 20 ...: the classes are numbered in the order of their WordNet numbers."""
    paths = sorted(media.find(folder), key=lambda path: path.name.split("_")[0])
    names = words.imagenet_names()
    classes = range(0, 1000, 10)
    assert len(paths) == len(classes), f"{folder}: {len(paths)} photos, expected one for every tenth class"
    return look(model, paths, [names[i] for i in classes], range(len(paths)))


def folders(model: Model, folder: Path) -> Photos:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = [(path, i) for i, name in enumerate(names) for path in media.find(folder / name)]
    return look(model, [path for path, _ in found], names, [i for _, i in found])


def candidates(model: Model, kept: NDArray[np.int64]) -> list[Joint]:
    """All joints made from the classes ``kept`` alone."""
    weight, names = eye(model).class_weight[kept], model.kind.names[kept]

    def by_map(penalty: float) -> Callable[[Photos], Array]:
        matrix = joined(weight, names, penalty)  # (F, D)
        return lambda photos: photos.features @ matrix

    ways = [("ConSE", lambda photos: conse(photos.chances[:, kept], names))]
    ways += [(f"ridge {penalty:g}", by_map(penalty)) for penalty in PENALTIES]
    return [Joint(name, template, way) for name, way in ways for template in TEMPLATES]


def best(joints: Sequence[Joint], photos: Photos, model: Model) -> Joint:
    """Most photos right; the later, which is the heavier penalty, at a tie."""
    right = [int(joint.hits(photos, model).sum()) for joint in joints]
    return joints[max(range(len(joints)), key=lambda i: (right[i], i))]


def temperature(joint: Joint, photos: Photos, model: Model) -> float:
    """The factor on the cosines with the least cross-entropy."""
    cosines = joint.cosines(photos, model).astype(np.float64)

    def loss(logarithm: float) -> float:
        logits = np.exp(logarithm) * cosines
        return float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), photos.shown]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(0.0, 5.0), method="bounded").x))


def eye(model: Model) -> Any:
    """The picture part of `mini`: a model file's own, which no interface names."""
    return model.kind.eye


def line(joint: Joint, photos: Photos, model: Model) -> str:
    hits = joint.hits(photos, model)
    sure = wilson(int(hits.sum()), len(hits))
    share, low, high = 100 * hits.mean(), 100 * sure.low, 100 * sure.high
    return f"{joint.name:12s} {joint.template:6s} {share:5.1f} %  ({low:.1f} to {high:.1f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("others", type=Path, nargs="*")
    asked = parser.parse_args()
    model = anmok.load("mini")
    photos = imagenet(model, asked.imagenet)
    held_out = candidates(model, np.setdiff1d(np.arange(1000), np.arange(0, 1000, 10)))
    print(f"{len(photos.shown)} ImageNet photos, their classes left out, told from 100 names:")
    for joint in held_out:
        print("  " + line(joint, photos, model))
    winner = best(held_out, photos, model)
    ridge = best([joint for joint in held_out if joint.name.startswith("ridge")], photos, model)
    for joint in (winner, ridge):
        print(f"chosen: {joint.name}, label as {joint.template}, temperature {temperature(joint, photos, model):.1f}")
    by_winner, by_ridge = (joint.hits(photos, model) for joint in (winner, ridge))
    only = int((by_winner & ~by_ridge).sum()), int((by_ridge & ~by_winner).sum())
    print(f"only the winner has {only[0]} right, only the map {only[1]}: McNemar mid-p {mcnemar_midp(*only):.3f}")
    whole = {(joint.name, joint.template): joint for joint in candidates(model, np.arange(1000))}
    finals = [whole[joint.name, joint.template] for joint in (winner, ridge)]
    print("the same photos, nothing left out:", *(line(joint, photos, model) for joint in finals), sep="\n  ")
    for folder in asked.others:
        print(f"{folder.parent.name}/{folder.name}, reported only:")
        other = folders(model, folder)
        for joint in finals:
            print("  " + line(joint, other, model))


if __name__ == "__main__":
    main()
