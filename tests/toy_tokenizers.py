"""Tokenizers at toy size, of the kinds that language models have."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from anmok.wording import Reader

MARKS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>")
SPLIT = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
LEARNED = [
    "user assistant system What is broken here? The cell has a crack.",
    "안녕하세요. 유리에 금이 갔습니다. 무엇이 보이나요?",
    "مرحبا بالعالم שלום עולם 🙂🛠️ 你好",
    "im_start im_end image < > | </ s",
]


def byte_level() -> Tokenizer:
    """As Qwen's and SmolLM's: text is composed, cut by a pattern, and read byte by byte."""
    made: Any = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LEARNED * 4, trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters, show_progress=False)
    )
    made.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    made.add_tokens([AddedToken("<tool_call>", normalized=False, special=False)])
    return made


def with_bytes(*, is_legacy: bool = False) -> Tokenizer:
    """As Llama's: ``▁`` for blanks, marks inside the vocabulary, bytes for what it did not learn."""
    letters = sorted({letter for text in LEARNED[:2] for letter in text.replace(" ", "▁")})
    words = [*(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    trained: Any = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(LEARNED[:2] * 4, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    merges = [pair for pair in merges if all(letter in letters for part in pair for letter in part)]
    words += [word for word in dict.fromkeys(map("".join, merges)) if word not in words]
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    made: Any = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if is_legacy:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    blanks = decoders.Replace("▁", " ")
    made.decoder = decoders.Sequence([blanks, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("<unk>", *MARKS)])
    made.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("▁▁", normalized=False)])
    return made


def unigram() -> Tokenizer:
    """As T5's and XLM-R's: the likeliest pieces, among which ``<s>`` would be the likeliest of all."""
    letters = sorted({letter for text in LEARNED for letter in text.replace(" ", "▁")})
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁crack", -3.0), *((letter, -5.0) for letter in letters)]
    made: Any = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([AddedToken(mark, normalized=True) for mark in ("<unk>", *MARKS)])
    return made


BACKENDS = {
    "bytes": byte_level(),
    "fallback": with_bytes(),
    "legacy": with_bytes(is_legacy=True),
    "unigram": unigram(),
}

READERS = {name: Reader(backend.to_str(), name) for name, backend in BACKENDS.items()}
