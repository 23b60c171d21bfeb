"""Texts to compare tokenizers on: sentences that say the same in several languages, or any texts at all."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadData, BadRequest
from anmok.words.tables import HANGUL

Form: TypeAlias = Literal["NFC", "NFKC", "none"]
FORMS: Final = ("NFC", "NFKC", "none")
LONGEST: Final = 100_000  # characters of one sentence; byte-pair merging takes the square of a line without spaces

# Scripts that put no space between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
_SPACELESS: Final = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)
_HANGUL: Final = re.compile(f"[{HANGUL}]")
_WORD: Final = re.compile(r"\S+")
_CODE: Final = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?")
_FLORES: Final = (".dev", ".devtest")
_MARK: Final = "|"  # of our own sentences, between two morphemes


@dataclass(frozen=True, eq=False)
class Language:
    """Sentences of one language.

    Args:
        code: as the file or the user has it: ``ko``, ``kor_Hang``.
        sentences: none is empty.
        morphemes: for each sentence the characters at which a morpheme begins, where somebody has said so.
    """

    code: str
    sentences: tuple[str, ...]
    morphemes: tuple[frozenset[int], ...] | None = None

    @cached_property
    def whole(self) -> str:
        """All sentences without anything between them."""
        return "".join(self.sentences)

    @cached_property
    def lengths(self) -> list[int]:
        return [len(one) for one in self.sentences]

    @cached_property
    def nbytes(self) -> int:
        """Of its UTF-8."""
        return len(self.whole.encode())

    @cached_property
    def has_spaces(self) -> bool:
        """Whether words stand apart: not in Chinese, Japanese, Thai and their kin."""
        letters = sum(character.isalpha() for character in self.whole)
        return 2 * len(_SPACELESS.findall(self.whole)) <= letters

    @cached_property
    def is_korean(self) -> bool:
        letters = sum(character.isalpha() for character in self.whole)
        return 2 * len(_HANGUL.findall(self.whole)) > letters

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """(W, 2) where each word begins and ends in ``whole``, punctuation around it left out."""
        found, start = [], 0
        for sentence in self.sentences:
            for match in _WORD.finditer(sentence):
                first, last = _trimmed(sentence, *match.span())
                if last > first:
                    found.append((start + first, start + last))
            start += len(sentence)
        return np.array(found, np.int64).reshape(-1, 2)

    @cached_property
    def is_visible(self) -> NDArray[np.bool_]:
        """(characters,) of ``whole``: no space, no control or format character."""
        return np.array([not (c.isspace() or unicodedata.category(c) in ("Cc", "Cf")) for c in self.whole], np.bool_)


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the tokenizers are compared on.

    Args:
        name: for a heading.
        languages: in the order in which they are shown.
        is_parallel: the n-th sentences of all languages say the same.
        form: the Unicode normal form that all was brought to.
        recomposed: by language, how many sentences that changed.
    """

    name: str
    languages: tuple[Language, ...]
    is_parallel: bool
    form: Form = "NFC"
    recomposed: Mapping[str, int] = field(default_factory=dict)

    def only(self, codes: Sequence[str]) -> Corpus:
        """Some of the languages: ``ko`` finds ``kor_Hang`` as well.

        Raises:
            BadRequest: one that is not there.
        """
        known = [one.code for one in self.languages]
        wanted = [self.code_of(code) for code in codes]
        if None in wanted:
            missing = codes[wanted.index(None)]
            raise BadRequest(f"no language {missing!r} in {self.name}; it has {', '.join(known)}")
        kept = tuple(one for one in self.languages if one.code in wanted)
        recomposed = {code: n for code, n in self.recomposed.items() if code in wanted}
        return Corpus(self.name, kept, self.is_parallel, self.form, recomposed)

    def code_of(self, code: str) -> str | None:
        """The language that ``code`` means here: its own name, or the only one that begins alike."""
        known = [one.code for one in self.languages]
        if code in known:
            return code
        three = _THREE.get(code, code)
        near = [one for one in known if one.split("_")[0] == three]
        return near[0] if len(near) == 1 else None


# The codes of two letters that people type, and those of three that FLORES uses.
_THREE: Final = {
    "am": "amh", "ar": "arb", "bn": "ben", "de": "deu", "en": "eng", "es": "spa", "fi": "fin", "fr": "fra",
    "hi": "hin", "ja": "jpn", "km": "khm", "ko": "kor", "ru": "rus", "sw": "swh", "ta": "tam", "th": "tha",
    "tr": "tur", "vi": "vie", "zh": "zho",
}  # fmt: skip


def own_sentences(form: Form = "NFC") -> Corpus:
    """Forty sentences in six languages, written for this: captions of photos, and remarks on inspected parts."""
    rows = tomllib.loads(files("anmok.tokens").joinpath("sentences.toml").read_text(encoding="utf-8"))["sentence"]
    texts = {code: [str(row[code]) for row in rows] for code in rows[0]}
    return _corpus("anmok's own sentences", texts, form, is_parallel=True, has_marks=True)


def from_texts(texts: Sequence[str], form: Form = "NFC") -> Corpus:
    """What stood on a command line: ``ko=...`` names the language; texts of several languages have to be parallel.

    Raises:
        BadRequest: nothing in a text, or bytes that are no text.
        BadData: one language has more texts than another.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        code, content = _named(text, "text")
        try:
            content.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"--text {content[:40]!a}: not UTF-8; put it into a file") from None
        if not content.strip():
            raise BadRequest("--text: there is nothing in it")
        found.setdefault(code, []).extend(_lines(content, "--text"))
    return _corpus("the text", found, form, is_parallel=len(found) > 1)


def from_files(names: Sequence[str], form: Form = "NFC") -> Corpus:
    """Text files with a sentence a line; ``ko=FILE`` names the language, else the file's name does: ``lines.ko.txt``.

    Raises:
        BadData: no such file, no UTF-8, empty, or not as many lines as the others.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        code, place = _named(name, "")
        path = Path(place).expanduser()
        last = path.stem.rpartition(".")[2]  # captions.ko.txt
        code = code or (last if _CODE.fullmatch(last) else path.stem)
        if code in found:
            raise BadRequest(f"--file {place}: a second file for {code}; name its language: ko={place}")
        found[code] = _read(path)
    return _corpus(", ".join(found), found, form, is_parallel=len(found) > 1)


def from_flores(folder: Path, form: Form = "NFC") -> Corpus:
    """A folder as FLORES-200 is handed out: ``dev/kor_Hang.dev``, ``devtest/kor_Hang.devtest``, or one of the two.

    Raises:
        BadData: no such files, or not as many lines in all languages.
    """
    folder = folder.expanduser()
    found: dict[str, list[str]] = {}
    for suffix in _FLORES:
        for path in sorted([*folder.glob(f"*{suffix}"), *folder.glob(f"{suffix[1:]}/*{suffix}")]):
            found.setdefault(path.stem, []).extend(_read(path))
    if not found:
        raise BadData(f"{folder}: no FLORES in it; want dev/kor_Hang.dev and devtest/kor_Hang.devtest")
    return _corpus("FLORES-200", found, form, is_parallel=True)


def _named(text: str, otherwise: str) -> tuple[str, str]:
    code, is_named, content = text.partition("=")
    return (code, content) if is_named and _CODE.fullmatch(code) else (otherwise, text)


def _read(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {error.strerror or error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: not UTF-8 (byte {error.start}); convert it: iconv -f CP949 -t UTF-8") from None
    if not text.strip():
        raise BadData(f"{path}: is empty")
    return _lines(text, str(path))


def _lines(text: str, place: str) -> list[str]:
    """The lines as they stand; blank ones at the end are dropped, elsewhere they would shift what is parallel."""
    # Not splitlines(): U+2028 and form feeds stand within sentences.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise BadData(f"{place}: line {number} is blank; want one sentence a line")
        if len(line) > LONGEST:
            raise BadData(f"{place}: line {number} has {len(line):,} characters; want one sentence a line")
    return lines


def _corpus(
    name: str, texts: Mapping[str, Sequence[str]], form: Form, *, is_parallel: bool, has_marks: bool = False
) -> Corpus:
    if form not in FORMS:
        raise BadRequest(f"form {form!r}: want one of {', '.join(FORMS)}")
    sizes = {code: len(lines) for code, lines in texts.items()}
    if is_parallel and len(set(sizes.values())) > 1:
        few, many = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise BadData(f"{many} has {sizes[many]} lines and {few} has {sizes[few]}: line n has to say the same in both")
    languages, recomposed = [], {}
    for code, lines in texts.items():
        brought = [line if form == "none" else unicodedata.normalize(form, line) for line in lines]
        recomposed[code] = sum(one != line for one, line in zip(brought, lines, strict=True))
        is_marked = has_marks and any(_MARK in line for line in brought)
        sentences = tuple(line.replace(_MARK, "") if is_marked else line for line in brought)
        languages.append(Language(code, sentences, _marked(brought) if is_marked else None))
    return Corpus(name, tuple(languages), is_parallel, form, {code: n for code, n in recomposed.items() if n})


def _marked(lines: Iterable[str]) -> tuple[frozenset[int], ...]:
    """Where morphemes begin: at the marks, and at the words."""
    found = []
    for line in lines:
        marks = [match.start() for match in re.finditer(re.escape(_MARK), line)]
        plain = line.replace(_MARK, "")
        starts = {mark - i for i, mark in enumerate(marks)} | {match.start() for match in _WORD.finditer(plain)}
        found.append(frozenset(starts))
    return tuple(found)


def _trimmed(text: str, first: int, last: int) -> tuple[int, int]:
    while first < last and unicodedata.category(text[first])[0] == "P":
        first += 1
    while last > first and unicodedata.category(text[last - 1])[0] == "P":
        last -= 1
    return first, last
