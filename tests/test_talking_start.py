"""What a conversation imports before its first letter: a model that only reads brings no eyes with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anmok.nets import gguf_files
from anmok.nets.families import ELSEWHERE, FAMILIES, family_of
from anmok.nets.own_families import OWN_FAMILIES
from toy_gguf import net, written

# What sees, hears, or is read out of other files, and what only transformers needs; each takes its time.
_NOT_WANTED = (
    "anmok.nets.checkpoints",
    "anmok.nets.gemma3n",
    "anmok.nets.hearing_gemma",
    "anmok.nets.hyperclovax_omni",
    "anmok.nets.onevision15",
    "anmok.nets.own_families",
    "anmok.nets.toys",
    "scipy",
    "sympy",
    "torch._dynamo",
    "transformers",
)
_LIGHT = {"anmok.nets.eyes", "anmok.nets.eyes.reading"}  # what all eyes have in common
_ASKED = """
import json, sys
from pathlib import Path
from anmok.load.model import Model
from anmok.catalogue import card
from anmok.inputs import Conversation
from anmok.models.talking import Talks
from anmok.geometry import Pixels
from anmok.tasks import Chat, Setup, TextRules

pixels, files = Pixels(16, "squash", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), {{"a.gguf": Path({path!r})}}
setup = Setup("toy", "llama", pixels, TextRules(), "softmax", ("en",), runtime="fastest", files=files)
[reply] = Model(card("smollm2-135m"), Talks.from_files(setup), setup).run([Conversation.about(question="a")], Chat(2))
print(json.dumps([reply.tokens_out, sorted(sys.modules)]))
"""


def _imported(path: Path) -> set[str]:
    """By a process that asks a net in a GGUF file one thing."""
    code = _ASKED.format(path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said, names = json.loads(done.stdout)
    assert said in (1, 2)
    return set(names)


@pytest.mark.slow
def test_a_model_that_only_reads_brings_no_eyes(tmp_path: Path) -> None:
    names = _imported(written(tmp_path / "a.gguf", net()))
    assert {name for name in names if name.startswith("anmok.nets.eyes")} <= _LIGHT
    assert "anmok.nets.lean_gguf" in names
    assert not names & set(_NOT_WANTED)


@pytest.mark.parametrize("kind", [*FAMILIES, *ELSEWHERE])
def test_each_row_is_found_by_its_name(kind: str) -> None:
    """Those elsewhere by what their modules have, of which none is left out."""
    found = family_of(kind, "card")
    assert bool(found.net) != (found.own is not None)
    assert found == OWN_FAMILIES.get(kind, found)
    assert set(OWN_FAMILIES) <= set(ELSEWHERE)
    assert not set(ELSEWHERE) & set(FAMILIES)


def test_a_conversation_is_told_of_a_packed_net_what_it_would_be_of_a_whole_one(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf", made := net())
    packed = gguf_files.opened(path, None, "toy")
    assert packed.net is None
    text, wanted = packed.config.get_text_config(), made.config.get_text_config()
    assert text.vocab_size == wanted.vocab_size
    assert text.max_position_embeddings == wanted.max_position_embeddings == 128
    assert text.model_type == wanted.model_type == "llama"
