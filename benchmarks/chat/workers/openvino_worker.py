"""OpenVINO GenAI: ``openvino_worker.py MODEL THREADS``, in its own environment.

``MODEL`` is a GGUF, which it reads itself, or a folder of :mod:`benchmarks.chat.openvino_folder`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openvino
import openvino_genai as genai

from benchmarks.chat.workers import loop

SIDE = 512


class _Each(genai.StreamerBase):
    def __init__(self, told: loop.Told) -> None:
        super().__init__()
        self._told = told

    def write(self, token: int | list[int]) -> genai.StreamingStatus:
        for one in token if isinstance(token, list) else [token]:
            self._told(int(one))
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        pass


def main() -> None:
    model, threads = Path(sys.argv[1]), int(sys.argv[2])
    loop.run(_seeing(model, threads) if model.is_dir() else _reading(model, threads))


def _reading(model: Path, threads: int) -> loop.Answer:
    net = genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)

    def answer(question: dict[str, object], told: loop.Told) -> int:
        ids = np.array([question["ids"]], np.int64)  # (1, T)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        done = net.generate(inputs, _settings(question), _Each(told))
        return int(done.perf_metrics.get_num_input_tokens())

    return answer


def _seeing(model: Path, threads: int) -> loop.Answer:
    net = genai.VLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)
    pixels = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)

    def answer(question: dict[str, object], told: loop.Told) -> int:
        tiles = int(str(question["tiles"]))
        before, after = loop.texts(question, own=tiles)  # LLaVA ends each picture with a new line
        prompt, how = f"{before}{'<image>' * tiles}{after}", _settings(question)
        how.apply_chat_template = False
        shown = [openvino.Tensor(pixels)] * tiles
        done = net.generate(prompt, images=shown, generation_config=how, streamer=_Each(told))
        return int(done.perf_metrics.get_num_input_tokens())

    return answer


def _settings(question: dict[str, object]) -> genai.GenerationConfig:
    how = genai.GenerationConfig()
    how.max_new_tokens, how.ignore_eos, how.do_sample = int(str(question["new"])), True, False
    return how


if __name__ == "__main__":
    main()
