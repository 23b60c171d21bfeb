"""Tokenizers out of files and by name, and `anmok tokens` as it is typed."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from anmok import tokens
from anmok.errors import AnmokError, BadData, BadRequest, LicenceRequired, UnknownModel, WeightsUnavailable
from anmok.tokens.cutting import Tokenizer
from anmok.tokens.vocabularies import from_gguf
from command_line import Ran, anmok, answered, fine, stand

KOREAN = "한국어 문장입니다."


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand(tmp_path, monkeypatch)


def refused(*words: object) -> Ran:
    ran = anmok("tokens", *words)
    assert ran.code != 0
    assert len(ran.lines) == 1, ran.err
    assert ran.out == ""
    return ran


def letters() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def write_gguf(path: Path, pre: str, model: str = "gpt2") -> Path:
    """A vocabulary of bytes, ``12`` and ``ab``."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*letters(), "12", "ab"])
    writer.add_token_merges(["1 2", "a b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def sizes(tokenizer: Tokenizer, *texts: str) -> list[int]:
    return [len(cut) for cut in tokenizer.cuts(texts)]


def test_a_vocabulary_comes_out_of_a_gguf(tmp_path: Path) -> None:
    whole = from_gguf("toy", write_gguf(tmp_path / "plain.gguf", "gpt-2"))
    assert (whole.kind, whole.vocabulary, whole.specials) == ("byte-level BPE", 258, 0)
    assert sizes(whole, "12", "ab", "한", "ab 12") == [1, 1, 3, 3]
    apart = from_gguf("toy", write_gguf(tmp_path / "digits.gguf", "smollm"))
    assert sizes(apart, "12", "ab") == [2, 1]  # whatever its merges say


@pytest.mark.parametrize(("pre", "model"), [("default", "gpt2"), ("gpt-2", "llama")])
def test_a_vocabulary_that_is_split_in_an_unknown_way_is_refused(tmp_path: Path, pre: str, model: str) -> None:
    with pytest.raises(BadData, match=f"{model!r} split as {pre!r}"):
        from_gguf("toy", write_gguf(tmp_path / "odd.gguf", pre, model))


@pytest.mark.parametrize("name", ["a.json", "a.gguf", "a.tiktoken", "a.gz"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\xff\xfe\x00", b"[1]", b'{"model": {"type": "X"}}'])
def test_other_files_are_refused_in_one_line(here: Path, name: str, content: bytes) -> None:
    (here / name).write_bytes(content)
    ran = refused(f"./{name}", "--text", "a")
    assert ran.code == 3
    assert name in ran.err


def test_a_list_of_merges_that_is_not_clips_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress(b"# version\na b\n" * 30_000))
    with pytest.raises(BadData, match="not CLIP's list of merges"):
        tokens.tokenizer(str(path))


def test_a_folder_is_its_tokenizer(here: Path) -> None:
    backend = Backend(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    (here / "model").mkdir()
    backend.save(str(here / "model" / "tokenizer.json"))
    found = tokens.tokenizer("./model")
    assert (found.name, found.kind, found.vocabulary) == ("./model", "WordLevel", 2)
    (here / "empty").mkdir()
    with pytest.raises(BadData, match=r"empty: no tokenizer.json"):
        tokens.tokenizer("./empty")
    with pytest.raises(BadData, match="no such file"):
        tokens.tokenizer("./missing.json")


def test_a_text_that_spells_out_a_special_token_is_a_text(tmp_path: Path) -> None:
    backend = Backend(models.BPE({one: i for i, one in enumerate(letters())}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.add_special_tokens(["<|endoftext|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert sizes(tokens.tokenizer(str(tmp_path / "tokenizer.json")), "<|endoftext|>") == [13]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("utf8", UnknownModel, "did you mean utf-8"),
        ("cl100k", UnknownModel, "did you mean cl100k_base"),
        ("clip-l41", UnknownModel, "did you mean clip-l14"),
        ("고양이", UnknownModel, "there are utf-8"),
        ("dinov2-s14", BadRequest, "reads no text"),
        ("a/b/c", BadData, "want owner/name"),
        ("some/model", LicenceRequired, "--accept-licence unknown"),
        ("google/siglip2-base-patch16-224@main", WeightsUnavailable, "is not on this machine"),
    ],
)
def test_names_that_cannot_be_had_are_explained(name: str, error: type[AnmokError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        tokens.tokenizer(name)
    assert "\n" not in str(caught.value)


def test_a_hub_repository_is_asked_for_its_tokenizer_alone() -> None:
    with pytest.raises(WeightsUnavailable, match=r"some/model: tokenizer.json is not on this machine"):
        tokens.tokenizer("some/model", accept=("unknown",))


def test_tiktoken_is_never_made_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="anmok does not fetch it"):
        tokens.tokenizer("cl100k_base")


def test_every_name_that_is_offered_is_one() -> None:
    found = tokens.names()
    assert {"utf-8", "smollm2", "clip", "cl100k_base", "minilm-l6", "mini", "clip-l14"} <= set(found)
    assert "dinov2-s14" not in found
    assert "qwen" in found
    assert set(tokens.USUAL) <= set(found)


def test_the_table_and_its_notes() -> None:
    ran = fine("tokens", "utf-8", "byt5", "--languages", "ko,ja", "--context", "77/64", "--price", "10")
    assert "anmok's own sentences: 3 languages, 40 sentences each" in ran.out
    lines = ran.out.splitlines()
    [korean, *_] = [line.split() for line in lines if line.startswith("ko")]
    assert korean[:3] == ["ko", "2,301", "57.5"]
    assert korean[5:8] == ["100", "%", "1.13"]
    assert max(map(len, lines)) < 80
    assert "borders within Korean words (morphemes marked by hand)" in ran.out
    assert "note: no spaces between words in ja" in ran.err
    assert "byt5 1 for each text" in ran.err


def test_json_has_every_figure() -> None:
    said = answered("tokens", "utf-8", "utf-32", "--languages", "ko", "--context", "60")
    assert said["reference"] == "en"
    assert [row["language"] for row in said["rows"]] == ["en", "ko"] * 2
    row = said["rows"][1]
    assert row["tokens"] == row["bytes"] == 2301
    assert row["tokens_per_byte"] == 1.0
    low, high = row["premium"]["interval"]
    assert low < row["premium"]["value"] < high
    assert row["premium"]["value"] == pytest.approx(2301 / 2043)
    assert row["contexts"]["60"]["overflowing"] == sum(
        len(text.encode()) > 60 for text in tokens.own_sentences().languages[1].sentences
    )
    shares = row["korean_borders"]
    parts = [shares[f"{name}_share"] for name in ("in_bytes", "in_jamo", "in_morpheme", "on_morpheme")]
    assert sum(parts) == pytest.approx(1)
    again = answered("tokens", "utf-8", "utf-32", "--languages", "ko", "--context", "60")
    assert again == said


def test_without_names_those_are_taken_that_are_here() -> None:
    ran = fine("tokens", "--languages", "ko")
    assert "utf-8  bytes" in ran.out
    assert ran.lines[0].startswith("note: not on this machine and so left out: minilm-l6, smollm2, clip, qwen")


def test_a_single_text_has_no_premium() -> None:
    ran = fine("tokens", "utf-8", "characters", "--text", KOREAN)
    assert "the text is not parallel, so there are no premiums" in ran.err
    [first, second] = [line.split() for line in ran.out.splitlines() if line.startswith("text ")]
    assert (first[1], second[1]) == ("26", "10")


@pytest.mark.parametrize(
    ("text", "by_bytes", "characters"),
    [
        (unicodedata.normalize("NFD", "한국어"), 9, 3),
        ("👨‍👩‍👧 👍🏽", 18 + 1 + 8, 3),
        ("שלום עולם", 17, 9),
        ("a\u202eb\x00", 6, 4),
    ],
)
def test_odd_texts_are_counted(text: str, by_bytes: int, characters: int) -> None:
    said = answered("tokens", "utf-8", "characters", "--text", text)
    assert [row["tokens"] for row in said["rows"]] == [by_bytes, characters]


def test_decomposed_hangul_is_mentioned() -> None:
    ran = fine("tokens", "utf-8", "--text", f"ko={unicodedata.normalize('NFD', '한국어')}")
    assert "note: sentences that were not NFC and were brought to it: ko 1" in ran.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        ("한국어".encode("cp949"), "not UTF-8 (byte 0)"),
        ("문장".encode("utf-16"), "not UTF-8 (byte 0)"),
        (b"one\n\ntwo\n", "line 2 is blank"),
        (b"a" * 100_001, "line 1 has 100,001 characters"),
    ],
)
def test_files_that_cannot_be_read_are_named(here: Path, content: bytes, said: str) -> None:
    (here / "lines.txt").write_bytes(content)
    ran = refused("utf-8", "--file", "lines.txt")
    assert ran.code == 3
    assert said in ran.err
    assert "lines.txt" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("utf-8", "--file", "absent.txt"), "absent.txt: No such file"),
        (("utf-8", "--file", "."), "Is a directory"),
        (("utf-8", "--flores", "."), "no FLORES in it"),
        (("utf-8", "--text", " "), "there is nothing in it"),
        (("utf-8", "--text", "a", "--file", "b"), "one of them"),
        (("utf-8", "--text", "a\udcffb"), "not UTF-8"),
        (("utf-8", "--context", "many"), "want numbers of tokens"),
        (("utf-8", "--context", "0"), "want one token or more"),
        (("utf-8", "--price", "cheap"), "want what a million tokens cost"),
        (("utf-8", "--price", "-1"), "0 or more"),
        (("utf-8", "--price", "nan"), "0 or more"),
        (("utf-8", "--price", "gpt=1"), "no such tokenizer"),
        (("utf-8", "--form", "NFD"), "want one of NFC, NFKC, none"),
        (("utf-8", "--languages", "sv"), "no language 'sv'"),
        (("utf-8", "--text", "en=a", "--text", "ko=가", "--text", "ko=나"), "line n has to say the same"),
        (("utf-9",), "did you mean utf-"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(here: Path, words: tuple[str, ...], said: str) -> None:
    assert said in refused(*words).err


def test_the_folder_is_refused_before_the_work(here: Path) -> None:
    (here / "out").write_text("a file", encoding="utf-8")
    assert refused("utf-8", "--out", "out").code == 9


def test_the_folder_is_written(here: Path) -> None:
    ran = fine("tokens", "utf-8", "--out", "out")
    assert ran.lines[-1] == "note: out: tokens.json, tokens.csv, premium.svg"
    said = json.loads((here / "out" / "tokens.json").read_text(encoding="utf-8"))
    assert said["rows"][1]["tokens"] == 2301


@pytest.mark.weights
def test_the_word_pieces_of_minilm_lose_korean_and_the_table_says_so() -> None:
    ran = anmok("tokens", "minilm-l6", "mini", "--languages", "ko", "--json")
    rows = json.loads(ran.out)["rows"]
    assert [row["tokens"] for row in rows] == [443, 1191] * 2
    assert rows[1]["unknown_tokens_share"] > 0
    assert not rows[1]["is_meaningful"]
    assert "warning: minilm-l6 cannot read all characters (ko 24.9 %)" in ran.err


@pytest.mark.weights
def test_smollm2_cuts_nearly_every_syllable_into_bytes() -> None:
    said = answered("tokens", "smollm2", "--languages", "ko")
    english, korean = said["rows"]
    assert (english["tokens"], korean["tokens"]) == (448, 1927)
    assert korean["premium"]["value"] == pytest.approx(1927 / 448)
    assert (said["tokenizers"][0]["vocabulary"], said["tokenizers"][0]["is_lowercasing"]) == (49_152, False)


@pytest.mark.weights
def test_clip_counts_what_its_authors_count() -> None:
    clip = tokens.tokenizer("clip")
    assert (clip.vocabulary, clip.specials, clip.is_lowercasing) == (49_408, 2, True)
    assert sizes(clip, "a photo of a cat", "Hello, World!", "it's 2024") == [5, 4, 6]
