"""Ours: ``python -m benchmarks.chat.workers.anmok_worker MODEL THREADS gguf|float32|bfloat16|int8|int4``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from anmok.nets.lean import Lean
from anmok.nets.lean_gguf import opened
from benchmarks.chat import shapes
from benchmarks.chat.workers import loop


def main() -> None:
    model, threads, kind = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    if model == shapes.VLM:
        net = shapes.smolvlm()
        lean, seen = Lean.of(net, kind), shapes.Sight(net, is_exact=kind == "float32")
    else:
        from transformers import AutoModelForCausalLM

        path = Path(model)
        where = {"gguf_file": path.name, "local_files_only": True, "dtype": torch.float32}
        lean = (
            opened(path)
            if kind == "gguf"
            else Lean.of(AutoModelForCausalLM.from_pretrained(path.parent, **where), kind)
        )
        seen = None

    def answer(question: dict[str, object], told: loop.Told) -> int:
        memory, rows = lean.memory(), torch.tensor(question["ids"])
        read = len(rows)
        if seen is not None:
            rows = seen.put(lean.embedded(rows), rows)  # (T, W)
        for _ in range(int(str(question["new"]))):
            token = int(lean.read(rows, memory).argmax())
            told(token)
            rows = torch.tensor([token])
        return read

    loop.run(answer)


if __name__ == "__main__":
    main()
