"""OpenVINO GenAI, which reads the GGUF file itself: ``openvino_worker.py MODEL THREADS``, in its own environment."""

from __future__ import annotations

import sys

import numpy as np
import openvino
import openvino_genai as genai

from benchmarks.chat.workers.loop import Told, run


class _Each(genai.StreamerBase):
    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def write(self, token: int | list[int]) -> genai.StreamingStatus:
        for one in token if isinstance(token, list) else [token]:
            self._told(int(one))
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        pass


def main() -> None:
    model, threads = sys.argv[1:3]
    net = genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=int(threads))

    def answer(question: dict[str, object], told: Told) -> None:
        ids = np.array([question["ids"]], np.int64)
        how = genai.GenerationConfig()
        how.max_new_tokens, how.ignore_eos, how.do_sample = int(str(question["new"])), True, False
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        net.generate(inputs, how, _Each(told))

    run(answer)


if __name__ == "__main__":
    main()
