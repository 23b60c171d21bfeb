"""Byte-level vocabularies as GGUF files have them: tokens, merges, and the name of how text is split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from anmok.errors import BadWeights, Unsupported
from anmok.words.splitting import DIGITS_APART, GGUF

_FIELD: Final = "tokenizer.ggml."
_ADDED: Final = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
_CONTROL, _GIVEN = 3, 4  # of `token_type`: marks, and tokens that were added to the vocabulary


def byte_level(tokens: Sequence[str], merges: Sequence[str], pre: str) -> Tokenizer:
    """The tokenizer of a vocabulary. ``pre`` is one of ``words.splitting.GGUF``."""
    pairs = [(first, second) for first, _, second in (line.partition(" ") for line in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs, ignore_merges=False))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if pre in DIGITS_APART else []
    steps.append(pre_tokenizers.Split(Regex(GGUF[pre]), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


def tokenizer_json(facts: Mapping[str, Any], name: str) -> str:
    """A ``tokenizer.json`` of a GGUF's facts (ggml-org/ggml, docs/gguf.md), with its marks. ``name`` is the card's.

    Raises:
        BadWeights: the file has no vocabulary, or a damaged one.
        Unsupported: one of another kind, or split in a way that is not known here.
    """
    kind, pre = facts.get(f"{_FIELD}model"), facts.get(f"{_FIELD}pre", "")
    if kind is None:
        raise BadWeights(f"{name}: no vocabulary in its GGUF; get the whole file")
    if kind != "gpt2" or pre not in GGUF:
        raise Unsupported(
            f"{name}: a vocabulary of {kind!r} split as {pre!r}; byte-level ones split as {', '.join(GGUF)} are read"
        )
    tokens, merges = facts.get(f"{_FIELD}tokens", []), facts.get(f"{_FIELD}merges", [])
    kinds = facts.get(f"{_FIELD}token_type", [1] * len(tokens))
    if not tokens or len(set(tokens)) < len(tokens) or len(kinds) != len(tokens):
        raise BadWeights(f"{name}: {len(tokens):,} tokens of {len(kinds):,} kinds in its GGUF; get it again")
    frame = byte_level((), (), pre)
    frame.decoder = decoders.ByteLevel()
    content = json.loads(frame.to_str())
    # Filled in here: a tokenizer that is made only to be written takes as long as the one that is read out of this.
    content["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    content["added_tokens"] = [
        {"id": i, "content": token, **_ADDED, "special": kind == _CONTROL}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _GIVEN)
    ]
    return json.dumps(content, ensure_ascii=False)
