"""Published lists of ranks, and how text is split before they are applied: with any other pattern the counts are wrong.

Sources: the encodings of tiktoken (openai/tiktoken, ``openai_public.py``), Qwen (QwenLM/Qwen), CLIP (openai/CLIP);
the patterns that others share are in ``words.splitting``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from anmok.words.splitting import CL100K, GPT2, O200K, QWEN

CLIP: Final = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True)
class Encoding:
    """A published list of ranks: its file's digest, the pattern, where tiktoken would fetch it, and whether text is
    brought to NFC first."""

    name: str
    sha256: str
    pattern: str
    url: str = ""
    is_composing: bool = False


_OPENAI = "https://openaipublic.blob.core.windows.net/encodings"
ENCODINGS: Final = {
    one.name: one
    for one in (
        Encoding(
            "r50k_base",
            "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
            GPT2,
            f"{_OPENAI}/r50k_base.tiktoken",
        ),
        Encoding(
            "p50k_base",
            "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
            GPT2,
            f"{_OPENAI}/p50k_base.tiktoken",
        ),
        Encoding(
            "cl100k_base",
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            CL100K,
            f"{_OPENAI}/cl100k_base.tiktoken",
        ),
        Encoding(
            "o200k_base",
            "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
            O200K,
            f"{_OPENAI}/o200k_base.tiktoken",
        ),
        Encoding("qwen", "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186", QWEN, is_composing=True),
    )
}
