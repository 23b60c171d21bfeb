"""Counting tokens: every figure against one that was worked out by hand or by another way."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from anmok import tokens
from anmok.errors import BadData, BadRequest
from anmok.tokens.builtin import BUILT_IN
from anmok.tokens.chart import chart
from anmok.tokens.comparing import median_interval, premium
from anmok.tokens.corpus import Corpus, Language
from anmok.tokens.counting import count
from anmok.tokens.cutting import by_bytes
from anmok.tokens.vocabularies import from_json
from golden.record_korean_morphemes import FILE, digest, sentences

FAMILY = "👨‍👩‍👧"  # five code points: three people, two joiners


def saved(backend: Backend, path: Path) -> tokens.Tokenizer:
    backend.save(str(path))
    return from_json("toy", path)


def wordpiece(folder: Path, *pieces: str, is_lowercasing: bool = False) -> tokens.Tokenizer:
    backend = Backend(models.WordPiece({piece: i for i, piece in enumerate(("[UNK]", *pieces))}, unk_token="[UNK]"))
    # As BERT does it without capitals: accents are dropped, and Hangul comes apart on the way.
    backend.normalizer = normalizers.BertNormalizer(strip_accents=is_lowercasing, lowercase=is_lowercasing)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return saved(backend, folder / "wordpiece.json")


def counted(tokenizer: tokens.Tokenizer, *sentences: str) -> tokens.Count:
    return count(tokenizer, Language("xx", sentences))


def english_and_korean(n: int = 12) -> Corpus:
    texts = [f"en=The photo number {i} shows a dog." for i in range(n)]
    return tokens.from_texts([*texts, *(f"ko={i}번 사진에는 개가 있다." for i in range(n))])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("utf-8", 3 + 1 + 1 + 4), ("utf-16", 1 + 1 + 1 + 2), ("utf-32", 4), ("canine", 4), ("characters", 4), ("byt5", 9)],
)
def test_the_built_in_ones_count_units(name: str, expected: int) -> None:
    assert counted(BUILT_IN[name], "한 a😀").tokens == expected


def test_a_reader_sees_one_character_where_unicode_has_several() -> None:
    text = f"{FAMILY}e\u0301"
    assert [counted(BUILT_IN[name], text).tokens for name in ("characters", "utf-32", "utf-8")] == [2, 7, 21]


def test_only_pieces_of_characters_are_byte_tokens() -> None:
    one = counted(BUILT_IN["utf-8"], "한a é")
    assert (one.byte_tokens, one.tokens) == (5, 7)
    assert counted(BUILT_IN["utf-32"], "한a é").byte_tokens == 0


def test_tokens_of_bytes_become_places_in_the_text() -> None:
    cut = by_bytes("a한글", [2, 2, 3])  # the first has a byte of 한, the second the rest of it
    assert cut.spans.tolist() == [[0, 2], [1, 2], [2, 3]]
    assert cut.is_bytes.tolist() == [True, True, False]


def test_what_is_unknown_is_lost(tmp_path: Path) -> None:
    one = counted(wordpiece(tmp_path, "a", "dog", "##s"), "a dogs", "한국 a")
    assert one.per_sentence.tolist() == [3, 2]
    assert (one.unknown, one.lost, one.characters) == (1, 2, 10)
    assert one.unknown_share == pytest.approx(1 / 5)
    assert one.lost_share == pytest.approx(2 / 10)


def test_what_is_dropped_without_a_word_is_lost_as_well(tmp_path: Path) -> None:
    silent = saved(Backend(models.BPE({"a": 0, "b": 1}, [])), tmp_path / "silent.json")
    one = counted(silent, "ab한국")
    assert (one.tokens, one.unknown, one.lost) == (2, 0, 2)


def test_named_byte_tokens_are_byte_tokens(tmp_path: Path) -> None:
    vocabulary = {f"<0x{i:02X}>": i for i in range(256)} | {"▁": 256, "a": 257, "<unk>": 258}
    backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = saved(backend, tmp_path / "fallback.json")
    one = counted(tokenizer, "한 a")
    assert (one.tokens, one.byte_tokens, one.lost) == (6, 3, 0)  # ▁, three bytes, ▁, a
    [cut] = tokenizer.cuts(["한 a"])
    assert cut.spans[0].tolist() == [0, 0]  # a space that the text does not have


def test_the_unknown_token_of_a_unigram_is_found(tmp_path: Path) -> None:
    backend = Backend(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("▁dog", -2.0), ("s", -2.0)], 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    one = counted(saved(backend, tmp_path / "unigram.json"), "dogs", "개 dog")
    assert one.per_sentence.tolist() == [2, 3]  # ▁dog s; ▁ <unk> ▁dog
    assert (one.unknown, one.lost, one.split_words) == (1, 1, 1)


def test_a_word_is_split_where_a_border_falls_into_it(tmp_path: Path) -> None:
    tokenizer = wordpiece(tmp_path, "cats", "run", "##ning", ".", ",")
    one = counted(tokenizer, "cats running, cats.")
    assert (one.words, one.split_words) == (3, 1)  # a full stop behind a word does not split it
    assert one.per_word == pytest.approx(6 / 3)


def test_a_character_cut_in_two_splits_its_word() -> None:
    one = counted(BUILT_IN["utf-8"], "é a")  # é is all there is of its word
    assert (one.words, one.split_words) == (2, 1)


def test_scripts_without_spaces_have_no_words() -> None:
    texts = {"th": "ภาพนี้มีสุนัข", "zh": "一只狗在跑。", "ja": "犬が走る。", "ko": "개가 달린다.", "he": "הכלב רץ"}
    has_words = {code: Language(code, (text,)).has_spaces for code, text in texts.items()}
    assert has_words == {"th": False, "zh": False, "ja": False, "ko": True, "he": True}
    one = count(BUILT_IN["utf-8"], Language("ja", (texts["ja"],)))
    assert (one.per_word, one.split_share) == (None, None)


def test_borders_of_korean_fall_on_bytes_morphemes_or_between(tmp_path: Path) -> None:
    language = Language("ko", ("개가 달린다.",), (frozenset({0, 1, 3}),))
    whole = count(BUILT_IN["utf-32"], language).borders
    assert whole is not None
    # 개|가 is a border between morphemes; 달|린 and 린|다 lie inside one; the full stop is no part of its word
    assert (whole.in_bytes, whole.on_morpheme, whole.in_morpheme, whole.total) == (0, 1, 2, 3)
    assert whole.share(whole.on_morpheme) == pytest.approx(1 / 3)
    by_byte = count(BUILT_IN["utf-8"], language).borders
    assert by_byte is not None
    assert (by_byte.in_bytes, by_byte.total) == (5 * 2, 5 * 2 + 3)


def test_borders_between_the_letters_of_a_syllable_are_known_from_bytes(tmp_path: Path) -> None:
    letters = unicodedata.normalize("NFD", "개가")
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    found = count(wordpiece(tmp_path, *dict.fromkeys(pieces), is_lowercasing=True), Language("ko", ("개가",))).borders
    assert found is not None
    assert (found.in_jamo, found.in_bytes, found.between_syllables) == (2, 0, 1)
    assert (found.on_morpheme, found.share(found.on_morpheme)) == (None, None)


def test_a_syllable_in_another_language_is_no_korean() -> None:
    assert count(BUILT_IN["utf-8"], Language("en", ("a Korean word, 개",))).borders is None


def test_what_lower_cases_says_so(tmp_path: Path) -> None:
    words = ("abc", "hello", "world", "a", "b", "c")
    assert wordpiece(tmp_path, *words, is_lowercasing=True).is_lowercasing
    assert not wordpiece(tmp_path, *words, "ABC", "Hello", "WORLD").is_lowercasing
    assert not wordpiece(tmp_path, "x").is_lowercasing  # all of it unknown, so nothing is known


def test_a_premium_is_the_sum_over_the_sum() -> None:
    tokens_of, over = np.array([10, 30, 20]), np.array([10, 10, 5])
    found = premium(tokens_of, over)
    assert found is not None
    assert found.value == pytest.approx(60 / 25)
    assert found.median == 3.0
    assert found.interval is None  # of three sentences


def test_a_reference_without_tokens_gives_no_premium() -> None:
    assert premium(np.array([3, 4]), np.array([0, 0])) is None


def test_the_interval_of_a_premium_is_that_of_a_ratio_of_sums() -> None:
    rng = np.random.default_rng(4)
    over = rng.integers(10, 40, 400)
    tokens_of = over * 2 + rng.integers(-8, 9, 400)
    found = premium(tokens_of, over)
    assert found is not None
    assert found.interval is not None
    rest = tokens_of - found.value * over
    half = 1.96 * rest.std() / np.sqrt(400) / over.mean()  # the delta method
    assert found.interval.half_width == pytest.approx(half, rel=0.1)
    assert found.interval.low < found.value < found.interval.high


@pytest.mark.parametrize("n", [11, 40, 101])
def test_the_computed_bootstrap_of_a_median_is_the_drawn_one(n: int) -> None:
    values = np.sort(np.random.default_rng(n).lognormal(size=n))
    draws = np.random.default_rng(1).choice(values, (40_000, n))
    drawn = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    found = median_interval(values)
    for end, wanted, side in ((found.low, drawn[0], -1), (found.high, drawn[1], 1)):
        place = int(np.searchsorted(values, wanted))
        near = values[max(place - 2, 0) : place + 3]
        assert near.min() <= end <= near.max(), side


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    found = [median_interval(rng.lognormal(size=40)) for _ in range(1_000)]
    share = np.mean([one.low <= 1.0 <= one.high for one in found])  # the median of a log-normal is 1
    assert 0.93 <= share <= 0.98


def test_a_context_counts_the_special_tokens_as_well() -> None:
    corpus = tokens.from_texts(["abcd", "abcde"])
    found = tokens.compare([BUILT_IN["byt5"], BUILT_IN["utf-8"]], corpus, terms=tokens.Terms(contexts=(5,)))
    byt5, plain = (row.contexts[0] for row in found.rows)
    assert (byt5.overflowing, plain.overflowing) == (1, 0)
    assert byt5.mean_share == pytest.approx(5.5 / 5)
    assert found.rows[0].count.tokens == 9  # and nowhere else


def test_a_price_becomes_the_cost_of_a_thousand_sentences() -> None:
    corpus = tokens.from_texts(["abcd", "abcdef"])
    terms = tokens.Terms(prices={"": 2.0, "utf-32": 4.0})
    found = tokens.compare([BUILT_IN["utf-8"], BUILT_IN["utf-32"]], corpus, terms=terms)
    assert [row.cost_of_thousand for row in found.rows] == pytest.approx([5 * 1000 * 2e-6, 5 * 1000 * 4e-6])
    with pytest.raises(BadRequest, match="no such tokenizer"):
        tokens.compare([BUILT_IN["utf-8"]], corpus, terms=terms)


def test_decomposed_hangul_is_composed_and_said_to_be() -> None:
    text = unicodedata.normalize("NFD", "한국어")
    composed = tokens.from_texts([f"ko={text}"])
    assert composed.recomposed == {"ko": 1}
    assert [counted(BUILT_IN["utf-8"], *composed.languages[0].sentences).tokens] == [9]
    as_it_is = tokens.from_texts([f"ko={text}"], "none")
    assert counted(BUILT_IN["utf-8"], *as_it_is.languages[0].sentences).tokens == 8 * 3
    assert counted(BUILT_IN["characters"], *as_it_is.languages[0].sentences).tokens == 3


def test_lines_of_a_file_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "lines.en.txt").write_bytes(b"\xef\xbb\xbfone dog\r\ntwo\xe2\x80\xa8cats \r\n\r\n")
    [language] = tokens.from_files([str(tmp_path / "lines.en.txt")]).languages
    assert language.code == "en"
    assert language.sentences == ("one dog", "two\u2028cats ")


def test_parallel_files_have_as_many_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("하나\n", encoding="utf-8")
    with pytest.raises(BadData, match="en has 2 lines and ko has 1"):
        tokens.from_files([f"en={tmp_path / 'a.txt'}", f"ko={tmp_path / 'b.txt'}"])


def test_a_blank_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    with pytest.raises(BadData, match="line 2 is blank"):
        tokens.from_files([str(tmp_path / "a.txt")])


def test_our_own_sentences_are_parallel_and_marked() -> None:
    corpus = tokens.own_sentences()
    assert [(one.code, len(one.sentences)) for one in corpus.languages] == [
        (code, 40) for code in ("en", "ko", "de", "fi", "ja", "zh")
    ]
    assert corpus.recomposed == {}
    korean = corpus.languages[1]
    assert korean.sentences[0] == "갈색 개가 빨간 양탄자 위에 누워 있다."
    assert korean.morphemes is not None
    assert sorted(korean.morphemes[0]) == [0, 3, 4, 6, 9, 13, 14, 16, 19, 20]
    for one in corpus.languages:
        assert "|" not in one.whole
        assert len(set(one.sentences)) == 40
        assert one.has_spaces == (one.code not in ("ja", "zh"))
        assert one.is_korean == (one.code == "ko")


def test_languages_are_found_by_their_short_names() -> None:
    corpus = Corpus(
        "x", (Language("eng_Latn", ("a",)), Language("zho_Hans", ("一",)), Language("zho_Hant", ("一",))), True
    )
    assert corpus.code_of("en") == "eng_Latn"
    assert corpus.code_of("zh") is None  # there are two
    assert [one.code for one in corpus.only(["zho_Hant"]).languages] == ["zho_Hant"]
    with pytest.raises(BadRequest, match="no language 'zh' in x; it has eng_Latn"):
        corpus.only(["zh"])


def test_the_folder_holds_what_the_dictionary_does(tmp_path: Path) -> None:
    found = tokens.compare([BUILT_IN["utf-8"], BUILT_IN["utf-32"]], english_and_korean(), terms=tokens.Terms((77,)))
    assert tokens.write(found, tmp_path / "out") == ["tokens.json", "tokens.csv", "premium.svg"]
    said = json.loads((tmp_path / "out" / "tokens.json").read_text(encoding="utf-8"))
    assert said == json.loads(json.dumps(tokens.to_dict(found)))
    table = (tmp_path / "out" / "tokens.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["tokenizer"], row["language"]) for row in rows] == [
        (name, code) for name in ("utf-8", "utf-32") for code in ("en", "ko")
    ]
    assert not {"premium", "korean_borders", "contexts"} & set(rows[0])
    assert float(rows[1]["premium.value"]) == said["rows"][1]["premium"]["value"]
    assert [float(rows[1][f"premium.interval.{end}"]) for end in ("low", "high")] == said["rows"][1]["premium"][
        "interval"
    ]
    assert float(rows[1]["contexts.77.mean_share"]) == said["rows"][1]["contexts"]["77"]["mean_share"]


def test_the_chart_is_hollow_where_a_premium_says_nothing(tmp_path: Path) -> None:
    words = ("the", "photo", "number", "shows", "a", "dog", ".", *map(str, range(12)))
    blind = wordpiece(tmp_path, *words, is_lowercasing=True)
    found = tokens.compare([BUILT_IN["utf-8"], blind], english_and_korean())
    assert [row.is_meaningful for row in found.rows] == [True, True, True, False]
    space = "{http://www.w3.org/2000/svg}"
    marks = {one.findtext(f"{space}title"): one.get("fill") for one in ElementTree.fromstring(chart(found)).iter()}
    over = [row.premium.value for row in found.rows if row.premium is not None]
    assert marks[f"toy, ko: {over[3]:.2f}"] == "#ffffff"
    assert marks[f"utf-8, ko: {over[1]:.2f}"] == "#0072b2"
    # 0번 사진에는 개가 있다. has 9 syllables, 3 spaces, a full stop and a digit or two
    lengths = [9 * 3 + 3 + 1 + len(str(i)) for i in range(12)]
    english = [len(f"The photo number {i} shows a dog.") for i in range(12)]
    assert over[1] == pytest.approx(sum(lengths) / sum(english))
    assert tokens.warnings(found)[0].startswith("toy cannot read all characters (ko ")
    assert chart(tokens.compare([blind], tokens.from_texts(["a dog"]))) == ""


def test_one_tokenizer_is_not_compared_with_itself() -> None:
    with pytest.raises(BadRequest, match="each once: utf-8, utf-8"):
        tokens.compare([BUILT_IN["utf-8"]] * 2, tokens.from_texts(["a"]))


# A package that answers as Kiwi has answered, which is 100 MB and another licence.
RECORDED = """
import collections, json
Token = collections.namedtuple("Token", "start len")
class Kiwi:
    def __init__(self, num_workers):
        with open({file!r}) as file:
            self.found = dict(zip({texts!r}, json.load(file)["spans"], strict=True))
    def tokenize(self, texts):
        return ([Token(*one) for one in self.found[text]] for text in texts)
"""


def test_the_marks_of_our_sentences_agree_with_an_analyser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(FILE.read_text())["sentences"] == digest(sentences())  # else record it again
    (tmp_path / "kiwipiepy.py").write_text(RECORDED.format(file=str(FILE), texts=sentences()), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kiwipiepy", raising=False)
    by_hand = tokens.own_sentences().languages[1]
    by_kiwi = tokens.with_morphemes(by_hand)
    del sys.modules["kiwipiepy"]
    assert by_hand.morphemes is not None
    assert by_kiwi.morphemes is not None
    shared = either = 0
    for text, ours, theirs in zip(by_hand.sentences, by_hand.morphemes, by_kiwi.morphemes, strict=True):
        inner = [frozenset(i for i in one if i and text[i - 1] != " " and text[i].isalnum()) for one in (ours, theirs)]
        shared, either = shared + len(inner[0] & inner[1]), either + len(inner[0] | inner[1])
    assert shared >= 180
    assert shared / either > 0.9
