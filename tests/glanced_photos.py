"""Photographs for a first look: four classes of uneven size, a copy, and what is seen of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

import anmok as library
from anmok.ladder import Plan
from anmok.ladder.dataset import Dataset, read
from anmok.ladder.glance import MORE, Glance, drawn, glance, pictures, prospects
from anmok.ladder.report.figures import Lang
from anmok.ladder.report.glance import render_glance
from conftest import coloured
from test_report import Page

PLAN = Plan("fake")
CLASSES = ("red", "green", "blue", "white")
PER_COLOUR = {"red": 9, "green": 7, "blue": 5}


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-one pictures in three colours, a copy of one, and a file that is no picture; flat, without labels."""
    root = tmp_path_factory.mktemp("glance") / "flat"
    root.mkdir()
    rng = np.random.default_rng(3)
    for colour, count in PER_COLOUR.items():
        for _ in range(count):
            pillow.fromarray(coloured(colour, rng)).save(root / f"{rng.integers(16**8):08x}.png")
    first = min(root.iterdir())
    (root / "zz-copy.png").write_bytes(first.read_bytes())
    (root / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(name="dataset", scope="module")
def dataset_fixture(folder: Path) -> Dataset:
    return read(folder, classes=CLASSES)


@pytest.fixture(name="seen")
def seen_fixture(dataset: Dataset) -> Glance:
    return glance(dataset, library.load("fake"), PLAN, commands=("anmok ladder flat", "anmok ladder flat --labels x"))


def page_of(seen: Glance, dataset: Dataset, lang: Lang = "en") -> Page:
    return Page(render_glance(seen, pictures(seen, dataset), lang))


def many(count: int, seen: Glance) -> Glance:
    """As ``seen``, with a sample out of ``count`` images."""
    names = drawn([f"{i:04d}.png" for i in range(count)], 0)
    return replace(seen, sample=names[:MORE], prospects=prospects(count, PLAN.test_share))
