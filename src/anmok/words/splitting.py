"""How text is split before a byte-pair vocabulary is applied: the published patterns, by what they belong to.

A list of ranks or merges alone does not say it, and with any other pattern the tokens are wrong. Sources: the encoder
of GPT-2 (openai/gpt-2), the encodings of tiktoken (openai/tiktoken, ``openai_public.py``), Qwen (QwenLM/Qwen).
"""

from __future__ import annotations

from typing import Final

GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENGLISH: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K: Final = rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
QWEN: Final = rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENGLISH}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENGLISH}?"
)
O200K: Final = rf"{_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# `tokenizer.ggml.pre` of a GGUF file; those that were checked against the repository's own tokenizer or its pattern
GGUF: Final = {"gpt-2": GPT2, "smollm": GPT2, "llama-bpe": CL100K, "qwen2": QWEN, "gpt-4o": O200K}
DIGITS_APART: Final = ("smollm",)  # every digit is split off first
