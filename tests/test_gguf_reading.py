"""GGUF files are opened by the package, faster, and to the same contents."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from anmok.nets.gguf_reading import reading
from toy_gguf import net, written


def test_facts_and_tensors_are_the_packages(tmp_path: Path) -> None:
    path = tmp_path / "toy.gguf"
    written(path, net())
    ours, theirs = reading(path, "toy"), gguf.GGUFReader(path)
    assert {key: one.contents() for key, one in ours.fields.items()} == {
        key: one.contents() for key, one in theirs.fields.items()
    }
    assert [one.name for one in ours.tensors] == [one.name for one in theirs.tensors]
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert one.tensor_type == other.tensor_type
        np.testing.assert_array_equal(one.data, other.data)


def test_slices_are_of_a_plain_array(tmp_path: Path) -> None:
    """That is what makes it fast: a mapped one asks about shared memory at each slice."""
    written(tmp_path / "toy.gguf", net())
    file = reading(tmp_path / "toy.gguf", "toy")
    assert all(type(part) is np.ndarray for field in file.fields.values() for part in field.parts[1:])
