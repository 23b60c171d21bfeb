"""Folders that the page's Label tab may open."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from conftest import write_photos
from serving import png, scene


@pytest.fixture(name="root", scope="module")
def root_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label")
    for name in ("photos", "climbed"):
        write_photos(folder / name, 12, ("red", "blue"))
    for name in ("parts", "taken"):
        (folder / name).mkdir()
        for i in range(6):
            (folder / name / f"{i}.png").write_bytes(png(scene({"red": (10 + i, 10, 40 + i, 40)})))
    return folder


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file
