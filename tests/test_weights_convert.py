"""A ``.pth`` becomes safetensors, and nothing in it is ever run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from anmok.errors import BadWeights, CannotWrite
from anmok.weights import to_safetensors
from anmok.weights.cache import sha256_of

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch's, before it refuses


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANMOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save(path: Path, content: object, *, is_legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not is_legacy)
    return path


@pytest.mark.parametrize("is_legacy", [False, True])
def test_the_tensors_come_back_equal(tmp_path: Path, is_legacy: bool) -> None:
    grid = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(
        {
            "weight": grid,
            "tied": grid,
            "turned": grid.T,
            "part": grid[1:, ::2],
            "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
            "count": torch.tensor(7),
            "empty": torch.zeros(0, 3),
        }
    )
    path = save(tmp_path / "net.pth", state, is_legacy=is_legacy)
    found = load_file(to_safetensors(path))
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
        assert found[name].is_contiguous()


def test_it_is_done_once_and_says_what_it_was_made_from(tmp_path: Path, cache: Path) -> None:
    path = save(tmp_path / "net.pth", {"weight": torch.ones(3)})
    made = to_safetensors(path)
    assert made.is_relative_to(cache)
    assert sorted(file.name for file in made.parent.iterdir()) == ["net.safetensors", "provenance.json"]
    said = json.loads(made.with_name("provenance.json").read_text())
    assert said["origin"] == "net.pth"
    assert said["revision"] == sha256_of(path)
    assert said["entries"]["net.safetensors"]["sha256"] == sha256_of(made)
    before = made.stat().st_mtime_ns
    assert to_safetensors(path) == made
    assert made.stat().st_mtime_ns == before


def test_another_checkpoint_of_the_same_name_is_another_file(tmp_path: Path) -> None:
    first = to_safetensors(save(tmp_path / "net.pth", {"weight": torch.ones(3)}))
    second = to_safetensors(save(tmp_path / "net.pth", {"weight": torch.zeros(3)}))
    assert first != second
    assert load_file(first)["weight"].sum() == 3
    assert load_file(second)["weight"].sum() == 0


def test_a_damaged_conversion_is_made_again(tmp_path: Path) -> None:
    path = save(tmp_path / "net.pth", {"weight": torch.ones(3)})
    made = to_safetensors(path)
    made.write_bytes(b"half")
    assert load_file(to_safetensors(path))["weight"].tolist() == [1, 1, 1]


def test_the_only_table_of_tensors_is_taken(tmp_path: Path) -> None:
    """As OpenMMLab saves it: the tensors beside facts of the run."""
    content = {"meta": {"epoch": 3, "name": "toy"}, "state_dict": {"weight": torch.ones(2)}}
    assert load_file(to_safetensors(save(tmp_path / "net.pth", content)))["weight"].tolist() == [1, 1]


def test_a_nested_state_dict_is_named_by_its_key(tmp_path: Path) -> None:
    ema = {"weight": torch.zeros(2)}
    path = save(tmp_path / "net.pth", {"epoch": 3, "model": {"weight": torch.ones(2)}, "ema": ema, "log": {}})
    assert load_file(to_safetensors(path, key="model"))["weight"].tolist() == [1, 1]
    with pytest.raises(BadWeights, match="nested under one of epoch, model, ema, log"):
        to_safetensors(path)
    with pytest.raises(BadWeights, match="has no 'state_dict' in it"):
        to_safetensors(path, key="state_dict")
    with pytest.raises(BadWeights, match="holds a dict, not a table of named tensors"):
        to_safetensors(path, key="log")


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_pickle_that_would_run_something_is_refused_unrun(tmp_path: Path, cache: Path, is_plain: bool) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.pth"
    if is_plain:
        path.write_bytes(pickle.dumps(Evil(marker), protocol=2))
    else:
        save(path, {"weight": torch.ones(2), "evil": Evil(marker)})
    with pytest.raises(BadWeights, match="could run any program; ask for its state dict") as caught:
        to_safetensors(path)
    assert "mkdir" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert not cache.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::UserWarning")
def test_torchscript_is_refused_with_the_reason(tmp_path: Path) -> None:
    net = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))  # type: ignore[no-untyped-call]
    torch.jit.save(net, tmp_path / "net.pt")
    with pytest.raises(BadWeights, match="is a TorchScript archive: it holds program code"):
        to_safetensors(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({}, "holds a dict, not a table"),
        ({1: torch.ones(2)}, "1 is a Tensor"),
        ({"a": torch.eye(3).to_sparse()}, "sparse, quantised or empty"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, "cannot be written as safetensors"),
    ],
)
def test_what_is_no_table_of_dense_tensors_is_refused(
    tmp_path: Path, cache: Path, content: object, reason: str
) -> None:
    path = save(tmp_path / "net.pth", content)
    with pytest.raises(BadWeights, match=reason):
        to_safetensors(path)
    assert list(cache.rglob("*.*")) == []


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(BadWeights):
        to_safetensors(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_a_damaged_checkpoint_is_read_or_refused(tmp_path: Path, data: st.DataObject, is_legacy: bool) -> None:
    path = save(tmp_path / "whole.pth", {"weight": torch.arange(6.0), "bias": torch.ones(2)}, is_legacy=is_legacy)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # A pickle names things by their addresses, so that its length differs by some bytes from run to run.
        content[data.draw(st.integers(0, 2**16)) % len(content)] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(content)
    with contextlib.suppress(BadWeights):  # any other exception fails
        assert len(load_file(to_safetensors(damaged))) >= 1


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "net.pth", {"weight": torch.ones(3)})
    monkeypatch.setenv("ANMOK_CACHE", str(path / "below"))
    with pytest.raises(CannotWrite, match="set ANMOK_CACHE"):
        to_safetensors(path)
