"""GGUF files are opened by the package, faster, and to the same contents."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

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


def test_lists_of_all_kinds_and_what_is_cut_off(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "lists.gguf", "llama")
    writer.add_array("toy.words", ["", "안목", "a" * 300])
    writer.add_array("toy.numbers", [1, -2, 3])
    writer.add_array("toy.scores", [0.5, -1.25])
    writer.add_array("toy.flags", [True, False])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    ours, theirs = reading(tmp_path / "lists.gguf", "toy"), gguf.GGUFReader(tmp_path / "lists.gguf")
    assert {key: one.contents() for key, one in ours.fields.items()} == {
        key: one.contents() for key, one in theirs.fields.items()
    }
    assert ours.fields["toy.words"].contents() == ["", "안목", "a" * 300]
    for name in ("toy.words", "toy.numbers", "toy.scores", "toy.flags"):
        assert ours.fields[name].contents(1) == theirs.fields[name].contents(1)
        assert ours.fields[name].contents(slice(0, 2)) == theirs.fields[name].contents(slice(0, 2))
    whole = (tmp_path / "lists.gguf").read_bytes()
    for end in (whole.index("안목".encode()) - 3, whole.index(b"aaa") + 7):  # within a length, within a word
        (tmp_path / "cut.gguf").write_bytes(whole[:end])
        with pytest.raises(IndexError, match="cut off"):
            reading(tmp_path / "cut.gguf", "toy")
