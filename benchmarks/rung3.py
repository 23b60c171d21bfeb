"""Rung 3 with the projection free in the whole shared space, or only where the class texts differ: which is better?

``python benchmarks/rung3.py FOLDER...``: folders of classes. For each, a third of the images answers, the rest is
drawn from: 1 to 16 images of each class, ten draws. Prints the mean accuracy and the seconds of a fit.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

import anmok
from anmok import media
from anmok.evidence.draws import support_draws
from anmok.ladder.rungs import prolip
from anmok.tasks import Classify

SHOTS, DRAWS = (1, 2, 4, 8, 16), 10
WAYS = {"where the texts differ": prolip.axes, "whole space": lambda differences: np.eye(differences.shape[1])}


def compare(folder: Path) -> None:
    model = anmok.load("mini")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = [(path, i) for i, name in enumerate(names) for path in media.find(folder / name)]
    features = np.stack([state.features for state in model.encode([path for path, _ in found])])  # (N, F)
    labels = np.array([i for _, i in found])
    order = np.random.default_rng(0).permutation(len(labels))
    held, pool = order[: len(order) // 3], order[len(order) // 3 :]
    towers, texts = model.towers, model.towers.text_vectors(Classify(tuple(names)))
    draws = support_draws(labels[pool], SHOTS, DRAWS, seed=0)
    print(f"{folder}: {len(pool)} images to draw from, {len(held)} answer")
    for shots in SHOTS:
        for way, axes in WAYS.items():
            right, start = [], time.perf_counter()
            with mock.patch.object(prolip, "axes", axes), threadpool_limits(1, user_api="blas"):
                for rows in draws[shots]:
                    support = features[pool][rows], labels[pool][rows]
                    head = prolip.prolip(*support, texts, towers.projection, towers.temperature, shots)
                    right.append(100 * (head.logits(features[held]).argmax(1) == labels[held]).mean())
            each = (time.perf_counter() - start) / DRAWS
            print(f"  {shots:2d} shots, {way:22s} {np.mean(right):5.1f} % +- {np.std(right):.1f} %  {each:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        compare(folder)


if __name__ == "__main__":
    main()
