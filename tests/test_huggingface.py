"""Data sets of the `datasets` library, saved on disk and read as any folder is."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from anmok.errors import BadData, WeightsUnavailable
from anmok.ladder import huggingface

NAMES = ["red", "green"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))


def rows(labels: list[int | None]) -> datasets.Dataset:
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)})
    pictures = [Image.new("RGB", (8, 8), (255 - index, 7 * index, 0)) for index in range(len(labels))]
    pairs = [{"photo": picture, "kind": label} for picture, label in zip(pictures, labels, strict=True)]
    return datasets.Dataset.from_list(pairs, features=features)


def saved(found: datasets.Dataset | datasets.DatasetDict, folder: Path) -> Path:
    found.save_to_disk(str(folder))
    return folder


def test_one_split_becomes_images_and_class_names(tmp_path: Path) -> None:
    folder = saved(rows([0, 1, 1, 0]), tmp_path / "one")
    assert huggingface.is_saved(folder)
    found = huggingface.read(str(folder))
    assert found.classes == ("red", "green")
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.is_test is None
    reds = [np.asarray(Image.open(path))[0, 0, 0] for path in found.paths]
    assert reds == [255, 254, 253, 252]  # in the order of the rows


def test_a_split_called_test_is_the_test_set(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": rows([0, 1, 0]), "test": rows([1, 0]), "validation": rows([1])})
    found = huggingface.read(str(saved(both, tmp_path / "both")))
    assert found.is_test is not None
    assert found.is_test.tolist() == [False, False, False, True, True]
    assert found.labels.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("missing", [-1, None])
def test_rows_without_a_label_are_left_out_with_their_pictures(tmp_path: Path, missing: int | None) -> None:
    both = datasets.DatasetDict({"train": rows([0, missing, 1]), "test": rows([missing, missing])})
    found = huggingface.read(str(saved(both, tmp_path / "both")))
    assert found.labels.tolist() == [0, 1]
    assert found.is_test is None
    assert [np.asarray(Image.open(path))[0, 0, 0] for path in found.paths] == [255, 253]


def test_the_files_are_written_once(tmp_path: Path) -> None:
    folder = saved(rows([0, 1]), tmp_path / "one")
    first = huggingface.read(str(folder)).paths
    written = [path.stat().st_mtime_ns for path in first]
    assert [path.stat().st_mtime_ns for path in huggingface.read(str(folder)).paths] == written


def test_a_table_without_pictures_is_refused(tmp_path: Path) -> None:
    folder = saved(datasets.Dataset.from_dict({"text": ["a", "b"]}), tmp_path / "text")
    with pytest.raises(BadData, match="no column of type Image among text"):
        huggingface.read(str(folder))


def test_a_folder_cut_short_says_so(tmp_path: Path) -> None:
    folder = saved(rows([0, 1]), tmp_path / "one")
    next(folder.glob("*.arrow")).unlink()
    with pytest.raises(WeightsUnavailable, match="cannot be loaded"):
        huggingface.read(str(folder))
