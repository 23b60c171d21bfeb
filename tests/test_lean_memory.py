"""What one conversation leaves behind, the next one takes, and sees nothing of."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from anmok.nets import lean_memory
from anmok.nets.lean import Lean
from test_lean import llama, text


def test_the_next_conversation_takes_the_room_of_the_last() -> None:
    lean = Lean.of(llama())
    first = lean.memory()
    want = lean.read(text(300), lean.memory())  # nobody holds that one any more
    second = lean.memory()
    assert second.nbytes > first.nbytes
    assert second.length == 0
    assert torch.equal(lean.read(text(300), second), want)
    assert torch.equal(lean.read(text(20, seed=1), first), lean.read(text(20, seed=1), lean.memory()))


def test_two_at_a_time_have_a_room_each() -> None:
    lean = Lean.of(llama())
    lean.read(text(300), lean.memory())
    one, other = lean.memory(), lean.memory()
    assert one.room(1).data_ptr() != other.room(1).data_ptr()
    beside = one.beside()
    assert beside.room(1).data_ptr() not in (one.room(1).data_ptr(), other.room(1).data_ptr())


def test_conversations_word_by_word_in_turn_and_at_once_are_those_by_themselves() -> None:
    """A row is worked on in buffers that outlive it: each conversation has its own, a copy as well."""
    lean, ids = Lean.of(llama(), "int8"), text(60)
    alone = lean.memory()
    want = [lean.read(one, alone) for one in ids.split(1)]
    first, other = lean.memory(), lean.memory()
    for i in range(20):
        assert torch.equal(lean.read(ids[i : i + 1], first), want[i])
        lean.read(ids[-1 - i :][:1], other)
    beside = first.beside()
    assert beside.desk is not first.desk
    with ThreadPoolExecutor(2) as pool:
        for i in range(20, 60):
            made = [pool.submit(lean.read, ids[i : i + 1], one) for one in (first, beside)]
            assert all(torch.equal(one.result(), want[i]) for one in made)


def test_a_memory_that_was_stored_goes_on_as_it_was() -> None:
    lean, ids = Lean.of(llama()), text(30)
    memory = lean.memory()
    for one in ids.split(1):
        lean.read(one, memory)
    stored = pickle.loads(pickle.dumps(memory))  # noqa: S301 - ours, a line ago
    for other in (stored, copy.deepcopy(memory), memory.beside()):
        assert torch.equal(lean.read(ids[:1], other), lean.read(ids[:1], memory.beside()))


def test_a_copy_that_fails_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lean = Lean.of(llama())
    memory = lean.memory()
    lean.read(text(20), memory)

    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "clone", full)
        with pytest.raises(RuntimeError, match="no room"):
            memory.beside()
    gc.collect()
    assert lean.memory().room(1).data_ptr() != memory.room(1).data_ptr()


def test_nothing_is_said_where_the_interpreter_ends() -> None:
    """Names of modules go before what they made."""
    script = "from test_lean import llama\nfrom anmok.nets.lean import Lean\nmemory = Lean.of(llama()).memory()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stderr == ""


def test_what_is_large_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_memory, "_MOST_SPARE", 2**20)
    lean = Lean.of(llama())
    fresh = lean.memory().nbytes
    assert fresh < 2**20
    lean.read(text(1500), lean.memory())
    gc.collect()
    assert lean.memory().nbytes == fresh
