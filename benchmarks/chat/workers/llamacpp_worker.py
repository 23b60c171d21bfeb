"""llama.cpp, through the wheel of xllamacpp: ``llamacpp_worker.py MODEL THREADS``, in its own environment.

``MODEL`` is a GGUF, or a folder with one and the tower beside it. The wheel is compiled for processors with AVX2 and no
more; compiled for one processor, llama.cpp can be faster.
"""

from __future__ import annotations

import base64
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp

from benchmarks.chat.workers import loop

SIDE = 512
OWN = 6  # tokens that its Idefics3 puts round a picture of one slice and the whole, beside the 2 * 64 of both
_JUST_TEXT = "{% for message in messages %}{{ message.content }}{% endfor %}"  # a template that adds no token


def main() -> None:
    model, threads = Path(sys.argv[1]), int(sys.argv[2])
    settings = xllamacpp.CommonParams()
    settings.n_ctx, settings.n_parallel = 4096, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    if model.is_dir():
        settings.model.path, settings.mmproj.path = str(model / "text.gguf"), str(model / "mmproj.gguf")
        settings.chat_template = _JUST_TEXT
    else:
        settings.model.path = str(model)
    server = xllamacpp.Server(settings)
    picture = "data:image/bmp;base64," + base64.b64encode(bitmap(SIDE)).decode()

    def answer(question: dict[str, object], told: loop.Told) -> int:
        how = {"n_predict": question["new"], "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        how |= {"stream": True, "stream_options": {"include_usage": True}}
        read: list[int] = []

        def each(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            for choice in chunk.get("choices", ()):
                text = choice.get("text") if "text" in choice else choice["delta"].get("content")
                if text is not None and choice.get("finish_reason") is None:
                    told(text)
            if chunk.get("usage"):
                read.append(chunk["usage"]["prompt_tokens"])
            return False

        if model.is_dir():
            server.handle_chat_completions({"messages": [_shown(question, picture)], **how}, each)
        else:
            server.handle_completions({"prompt": question["ids"], **how}, each)
        return read[-1]

    loop.run(answer)


def _shown(question: dict[str, object], picture: str) -> dict[str, Any]:
    before, after = loop.texts(question, OWN)
    parts = [
        {"type": "text", "text": before},
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": after},
    ]
    return {"role": "user", "content": parts}


def bitmap(side: int) -> bytes:
    """A square picture of noise as a BMP file, which takes no time to unpack."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8).tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, len(pixels), 0, 0, 0, 0) + pixels


if __name__ == "__main__":
    main()
