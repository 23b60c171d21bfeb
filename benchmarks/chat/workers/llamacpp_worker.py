"""llama.cpp, through the wheel of xllamacpp: ``llamacpp_worker.py MODEL THREADS``, in its own environment.

Its wheel is compiled for processors with AVX2 and no more; compiled for one processor, llama.cpp can be faster.
"""

from __future__ import annotations

import sys

import xllamacpp

from benchmarks.chat.workers.loop import Told, run


def main() -> None:
    model, threads = sys.argv[1:3]
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = model, 4096, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = int(threads)
    server = xllamacpp.Server(settings)

    def answer(question: dict[str, object], told: Told) -> None:
        def each(chunk: dict[str, list[dict[str, str]]]) -> bool:
            told("".join(choice["text"] for choice in chunk["choices"]))
            return False

        request = {"prompt": question["ids"], "n_predict": question["new"], "temperature": 0, "stream": True}
        server.handle_completions({**request, "ignore_eos": True, "cache_prompt": False}, each)

    run(answer)


if __name__ == "__main__":
    main()
