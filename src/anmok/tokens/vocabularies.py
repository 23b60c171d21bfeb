"""Tokenizers out of files: ``tokenizer.json``, a list of ranks, the vocabulary inside a GGUF, CLIP's merges."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anmok.errors import BadData, BadRequest, MissingDependency
from anmok.tokens.cutting import Cut, Tokenizer, by_bytes
from anmok.tokens.patterns import CLIP, ENCODINGS
from anmok.words.splitting import GGUF

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BYTE: Final = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_PREFIXES: Final = frozenset("▁Ġ")  # stand for a space, also for one that was put before the text
_PROBE: Final = "ABC Hello WORLD"
_MERGES: Final = 48_894  # of the 262,145 lines of CLIP's file, those that its vocabulary of 49,408 has room for
_MOST: Final = 64 * 2**20  # bytes of a packed vocabulary, unpacked


def from_json(name: str, path: Path) -> Tokenizer:
    """A file of the ``tokenizers`` library.

    Raises:
        BadData: it is none.
    """
    from anmok.wording.reader import backend_of

    try:
        content = path.read_text(encoding="utf-8")
        layout = json.loads(content)
    except ValueError as error:
        raise BadData(f"{path}: not a tokenizer.json ({_short(error)})") from None
    if not isinstance(layout, dict) or not isinstance(layout.get("model"), dict):
        raise BadData(f"{path}: not a tokenizer.json (it has no `model`); give the file of the tokenizers library")
    backend = backend_of(content)
    if backend is None:
        raise BadData(f"{path}: not a tokenizer.json that this version of tokenizers reads; is it damaged?")
    return _of(name, backend, layout, str(path))


def from_gguf(name: str, path: Path) -> Tokenizer:
    """The byte-level vocabulary inside a GGUF file. The weights are not read.

    Raises:
        BadData: no GGUF, or of a kind that is not read from there.
        MissingDependency: the package ``gguf`` is not installed.
    """
    from anmok.nets.gguf_reading import reading

    try:
        fields = reading(path, str(path), "tokens").fields
        found = {key: fields[f"tokenizer.ggml.{key}"].contents() for key in ("model", "tokens")}
        pre = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else ""
        merges = fields["tokenizer.ggml.merges"].contents() if "tokenizer.ggml.merges" in fields else []
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise BadData(f"{path}: not a GGUF with a vocabulary ({_short(error)})") from None
    if found["model"] != "gpt2" or pre not in GGUF:
        raise BadData(
            f"{path}: its vocabulary is {found['model']!r} split as {pre!r}, and only byte-level ones split as"
            f" {', '.join(GGUF)} are read from a GGUF; give the model's tokenizer.json"
        )
    from anmok.wording.byte_level import byte_level

    return _of(name, byte_level(found["tokens"], merges, pre), {"decoder": {"type": "ByteLevel"}}, str(path))


def from_clip_merges(name: str, path: Path) -> Tokenizer:
    """CLIP's vocabulary from its published merges, ``bpe_simple_vocab_16e6.txt.gz``.

    Lower-cases, and marks the ends of words instead of their beginnings. Source: openai/CLIP, ``simple_tokenizer.py``
    (``ftfy``, which mends broken encodings there first, is left out).

    Raises:
        BadData: another file.
    """
    from tokenizers import Regex, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    try:
        with gzip.open(path) as file:
            lines = file.read(_MOST).decode("utf-8").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadData(f"{path}: not CLIP's list of merges ({_short(error)})") from None
    pairs = [(first, second) for first, _, second in (line.partition(" ") for line in lines[1 : _MERGES + 1])]
    letters = _letters()
    tokens = [*letters, *(f"{one}</w>" for one in letters), *("".join(pair) for pair in pairs)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    if len(pairs) < _MERGES or not all(part in vocabulary for pair in pairs for part in pair):
        raise BadData(f"{path}: not CLIP's list of merges; want bpe_simple_vocab_16e6.txt.gz")
    backend = Backend(models.BPE(vocabulary, pairs, end_of_word_suffix="</w>"))
    spaces: Any = normalizers.Replace(Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words: Any = pre_tokenizers.Split(Regex(CLIP), "removed", invert=True)
    level: Any = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, level])
    return _of(name, backend, {"decoder": {"type": "ByteLevel"}}, str(path), specials=2)


def from_ranks(name: str, path: Path) -> Tokenizer:
    """A ``.tiktoken`` file: one of `ENCODINGS`, known by its digest, since the file does not say how text is split.

    Raises:
        BadData: another file.
        MissingDependency: tiktoken is not installed.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    known = next((one for one in ENCODINGS.values() if one.sha256 == digest), None)
    if known is None:
        raise BadData(f"{path}: none of {', '.join(ENCODINGS)}; a list of ranks does not say how text is split first")
    try:
        import tiktoken  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingDependency(f"{name}: needs tiktoken: pip install 'anmok[tokens]'") from None
    rows = (line.split() for line in content.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    encoding = tiktoken.Encoding(known.name, pat_str=known.pattern, mergeable_ranks=ranks, special_tokens={})

    def cuts(texts: Sequence[str]) -> list[Cut]:
        if known.is_composing and not all(unicodedata.is_normalized("NFC", text) for text in texts):
            raise BadRequest(f"{name}: composes its text first (NFC), so it is not counted on text as it stands")
        rows = (encoding.encode_ordinary(text) for text in texts)
        pieces = (encoding.decode_tokens_bytes(row) for row in rows)
        return [by_bytes(text, [len(one) for one in row]) for text, row in zip(texts, pieces, strict=True)]

    return Tokenizer(name, "byte-level BPE", cuts, len(ranks), source=str(path))


def _letters() -> list[str]:
    """The 256 characters that stand for bytes, in the order in which GPT-2 and CLIP number them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, plain), *(chr(256 + i) for i in range(256 - len(plain)))]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Encodings of the ``tokenizers`` library as cuts."""

    backend: Any
    unknown: int | None
    is_byte_level: bool

    def cuts(self, texts: Sequence[str]) -> list[Cut]:
        found = self.backend.encode_batch(list(texts), add_special_tokens=False)
        return [self._cut(text, one) for text, one in zip(texts, found, strict=True)]

    def _cut(self, text: str, encoding: Any) -> Cut:
        spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)  # (T, 2)
        tokens = encoding.tokens
        for i, token in enumerate(tokens):
            # A space that the tokenizer put there itself is given the place of the character after it.
            if _PREFIXES.issuperset(token) and not text[spans[i, 0] : spans[i, 1]].isspace():
                spans[i, 1] = spans[i, 0]
        ids = np.array(encoding.ids, np.int64)  # (T,)
        is_unknown = np.zeros(len(ids), np.bool_) if self.unknown is None else ids == self.unknown
        return Cut(spans, is_unknown, self._is_bytes(spans, tokens))

    def _is_bytes(self, spans: NDArray[np.int64], tokens: Sequence[str]) -> NDArray[np.bool_]:
        if not self.is_byte_level:
            return np.array([_BYTE.fullmatch(token) is not None for token in tokens], np.bool_)
        shared = spans[1:, 0] < spans[:-1, 1]  # (T - 1,)
        return np.append(shared, False)[: len(spans)] | np.insert(shared, 0, False)[: len(spans)]


def _of(name: str, backend: Any, layout: dict[str, Any], source: str, specials: int | None = None) -> Tokenizer:
    backend.encode_special_tokens = True  # a text that spells out <|endoftext|> is a text
    is_byte_level = any(_has_byte_level(layout.get(part)) for part in ("pre_tokenizer", "normalizer", "decoder"))
    family = type(backend.model).__name__
    reader = _Reader(backend, _unknown(backend, layout), is_byte_level)
    return Tokenizer(
        name,
        "byte-level BPE" if is_byte_level and family == "BPE" else family,
        reader.cuts,
        backend.get_vocab_size(),
        backend.num_special_tokens_to_add(False) if specials is None else specials,
        _is_lowercasing(backend.encode, reader.unknown),
        source,
    )


def _unknown(backend: Any, layout: dict[str, Any]) -> int | None:
    """The id of the unknown token, where there is one."""
    model = layout.get("model", {})
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    token = getattr(backend.model, "unk_token", None)
    found = backend.token_to_id(token) if token else None
    return None if found is None else int(found)


def _has_byte_level(step: Any) -> bool:
    """Whether a step of ``tokenizer.json``, or one within it, maps bytes to characters."""
    if isinstance(step, dict):
        return step.get("type") == "ByteLevel" or any(map(_has_byte_level, step.values()))
    return isinstance(step, list) and any(map(_has_byte_level, step))


def _is_lowercasing(encode: Callable[..., Any], unknown: int | None) -> bool:
    ids, lower = (encode(text, add_special_tokens=False).ids for text in (_PROBE, _PROBE.lower()))
    return bool(ids) and unknown not in ids and ids == lower


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
