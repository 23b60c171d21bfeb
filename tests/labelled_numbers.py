"""Pictures that show their number, a model that sees nothing else, and labellers who know the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from anmok.inputs import Source
from anmok.labelling import LabelSession, Look, Task
from anmok.ladder import dataset
from anmok.load import tiny
from anmok.results import Failure
from conftest import coloured

FAKE = tiny("fake")
LABELS = ("red", "blue")


class Stub:
    """Looks at files that hold a number: row ``number`` of a table of features."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.features = features
        self.looked = 0

    def look(self, images: Sequence[Source], labels: tuple[str, ...]) -> list[Look | Failure]:
        self.looked += len(images)
        return [Look(self.features[int(one)] if isinstance(one, bytes) else self.features[:2].sum(0)) for one in images]


def numbered(folder: Path, count: int) -> Path:
    """Files that are images by name alone: the stub looks at the number in them."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i:05d}.png").write_bytes(str(i).encode())
    return folder


def drawn(root: Path) -> Path:
    """240 small coloured pictures, half red and half blue, whose names do not say which."""
    rng = np.random.default_rng(3)
    (root / "공장").mkdir(parents=True)
    for i in range(240):
        place = root / "공장" if i % 5 == 0 else root
        pillow.fromarray(coloured(LABELS[i % 2], rng)).save(place / f"{i:03d}.png")
    return root


def number_of(task: Task) -> int:
    return int(Path(task.path).stem)


def truth_of(task: Task) -> str:
    return LABELS[int(Path(task.path).stem) % 2]


def labelled(session: LabelSession, count: int, answer: Callable[[Task], str], by: str = "") -> list[Task]:
    done = []
    for _ in range(count):
        [task] = session.next(by=by)
        session.answer(task, answer(task), by=by, seconds=1.0)
        done.append(task)
    return done


def rows(found: dataset.Dataset) -> list[tuple[Path, int, bool]]:
    assert found.labels is not None
    assert found.is_test is not None
    return list(zip(found.paths, found.labels.tolist(), found.is_test.tolist(), strict=True))
