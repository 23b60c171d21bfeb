"""transformers' ``generate``: ``python -m benchmarks.chat.workers.transformers_worker MODEL THREADS DTYPE``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.chat import shapes
from benchmarks.chat.workers import loop


class _Each(BaseStreamer):
    def __init__(self, told: loop.Told) -> None:
        self._told, self._is_prompt = told, True

    def put(self, value: torch.Tensor) -> None:
        if self._is_prompt:  # the first call hands the prompt back
            self._is_prompt = False
        else:
            self._told(int(value.reshape(-1)[-1]))

    def end(self) -> None:
        pass


def main() -> None:
    model, threads, dtype = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    kind = getattr(torch, dtype)
    if model == shapes.VLM:
        net = shapes.smolvlm().to(kind)
    else:
        path = Path(model)
        net = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True, dtype=kind)
    net.eval()

    def answer(question: dict[str, object], told: loop.Told) -> int:
        ids, new = torch.tensor([question["ids"]]), int(str(question["new"]))
        tiles = int((ids == shapes.IMAGE).sum()) // shapes.ROWS if model == shapes.VLM else 0
        seen = (
            {"pixel_values": shapes.picture(tiles).to(kind), "pixel_attention_mask": shapes.mask(tiles)}
            if tiles
            else {}
        )
        how = {"do_sample": False, "max_new_tokens": new, "min_new_tokens": new, "streamer": _Each(told)}
        net.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **seen, **how)
        return ids.shape[1]

    loop.run(answer)


if __name__ == "__main__":
    main()
