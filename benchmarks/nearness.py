"""How near the fastest runtime stays to the exact one: ``python -m benchmarks.nearness [TEXT ...]``.

SmolLM2-135M out of its file, on beginnings of texts (this project's own pages, unless others are named): how far the
chances of the next token are from those of transformers in float32 with the same weights, as Kullback and Leibler's
divergence in nats; after the prompt, and for each of eight tokens behind it, which go on from what the prompt has left.
Then the rows of a tower of SmolVLM-256M's shape with random weights: how far they are from the exact ones, of their
length.

Forms of prompts: token by token with the file's four bits; by bfloat16, or by float32 where the processor has no
instructions for it; and by bytes, where it has instructions for those: beside bfloat16, and long prompts by them alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from anmok.nets import lean_layers, lean_tower
from anmok.nets.lean import Lean, lay_out_senses, nearness
from anmok.nets.lean_gguf import opened
from anmok.nets.lean_weights import multiplies_bfloat16, multiplies_bytes
from benchmarks.chat import shapes
from benchmarks.chat.files import vocabulary

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "README.ko.md", "docs/tokens.ko.md", "docs/tutorial.md", "src/anmok/nets/lean.py")
PART = 400  # tokens of a text, so many after another
PARTS = 4  # of each text, at most
LENGTHS = (32, 64, 100, 200)  # tokens of a prompt
LONG = (300, 390)  # of one that is read by bytes alone
AFTER = 8
SINGLE = "token by token"
WIDE = "bfloat16" if multiplies_bfloat16() else "float32"


@dataclass(frozen=True, slots=True)
class Case:
    """Tokens (T,) and the exact log-chances behind each, (T, V)."""

    ids: Tensor
    exact: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nearness", description=__doc__.split("\n")[0])
    parser.add_argument("texts", nargs="*", type=Path, default=[ROOT / page for page in PAGES])
    path, texts = vocabulary(), parser.parse_args().texts
    cases = list(_cases(path, [one.read_text(encoding="utf-8") for one in texts]))
    print(f"{len(cases)} beginnings of {len(texts)} texts, means (quartiles)\n")
    heads = [f"after prompts of {', '.join(map(str, lengths))} tokens" for lengths in (LENGTHS, LONG)]
    print(f"| prompts by | {' | '.join(heads)} | for eight tokens behind each | same likeliest token |")
    print("|---|---|---|---|---|")
    for name, is_bytes in ((SINGLE, False), (WIDE, False), ("bytes", True)):
        if is_bytes and not multiplies_bytes():
            print(f"| {name} | this processor has no instructions for them | | | |")
            continue
        with mock.patch.object(lean_layers, "multiplies_bytes", lambda is_bytes=is_bytes: is_bytes):
            lean = opened(path)
        print(f"| {name} | {_line(lean, cases, is_single=name == SINGLE)} |", flush=True)
    print(f"\nA tower's rows: {_tower()}")


def _cases(path: Path, texts: list[str]) -> Iterator[Case]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
    net: Any = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **where)
    net.eval()
    for text in texts:
        parts = torch.split(torch.tensor(tokenizer(text)["input_ids"]), PART)
        for ids in [one for one in parts if len(one) == PART][:PARTS]:
            with torch.inference_mode():
                yield Case(ids, net(input_ids=ids[None]).logits[0].log_softmax(-1))


def _line(lean: Lean, cases: list[Case], *, is_single: bool) -> str:
    first: dict[bool, list[float]] = {False: [], True: []}
    behind, same = [], []
    for case in cases:
        for length in (*LENGTHS, *LONG):
            memory = lean.memory()
            for part in torch.split(case.ids[:length], 1 if is_single else length):
                logits = lean.read(part, memory)
            first[length in LONG].append(_apart(case.exact[length - 1], logits))
            for i in range(length, length + AFTER):
                logits = lean.read(case.ids[i : i + 1], memory)
                behind.append(_apart(case.exact[i], logits))
                same.append(bool(case.exact[i].argmax() == logits.argmax()))
    return f"{_spread(first[False])} | {_spread(first[True])} | {_spread(behind)} | {100 * np.mean(same):.0f} %"


def _apart(exact: Tensor, logits: Tensor) -> float:
    return float((exact.exp() * (exact - logits.log_softmax(-1))).sum())


def _spread(nats: list[float]) -> str:
    low, high = np.percentile(nats, [25, 75])
    return f"{np.mean(nats):.4f} ({low:.4f} to {high:.4f})"


def _tower() -> str:
    told = []
    for name, is_bytes in ((WIDE, False), (nearness().strip("~") or WIDE, True)):
        net = shapes.smolvlm()
        with torch.inference_mode():
            exact = _rows(net)
            with mock.patch.object(lean_tower, "multiplies_bytes", lambda is_bytes=is_bytes: is_bytes):
                lay_out_senses(net)
            apart = (_rows(net) - exact).norm(dim=-1) / exact.norm(dim=-1)  # (tiles * 64,)
        told.append(f"by {name} {100 * float(apart.median()):.2f} % (largest {100 * float(apart.max()):.2f} %)")
    return ", ".join(told)


def _rows(net: Any) -> Tensor:
    """float32 (128, 576) of two tiles."""
    return torch.cat(list(net.get_image_features(shapes.picture(2), shapes.mask(2)).pooler_output))


if __name__ == "__main__":
    main()
