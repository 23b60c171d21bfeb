"""Data sets of the `datasets` library, saved on disk and read as any folder is."""

from __future__ import annotations

import shutil
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
    assert found.warnings == ("images without a label left out: 3",)
    assert len(list(found.root.rglob("*.png"))) == 2  # and nobody waits for pictures that are not used
    assert [np.asarray(Image.open(path))[0, 0, 0] for path in found.paths] == [255, 253]


def test_a_set_without_any_label_is_refused(tmp_path: Path) -> None:
    folder = saved(rows([-1, -1]), tmp_path / "none")
    with pytest.raises(BadData, match="not one row has a label"):
        huggingface.read(str(folder))


def test_a_new_test_split_is_not_read_from_the_old_files(tmp_path: Path) -> None:
    train, folder = rows([0, 1]), tmp_path / "both"
    train.save_to_disk(str(tmp_path / "train"))
    train = datasets.load_from_disk(str(tmp_path / "train"))
    first = huggingface.read(str(saved(datasets.DatasetDict({"train": train, "test": rows([0])}), folder)))
    shutil.rmtree(folder)
    again = huggingface.read(str(saved(datasets.DatasetDict({"train": train, "test": rows([1, 0])}), folder)))
    assert len(first.paths) == 3
    assert len(again.paths) == 4


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
