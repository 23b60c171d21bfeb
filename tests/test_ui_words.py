"""The page's words: both languages whole, and every key that the code asks for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from anmok.catalogue import card, cards
from anmok.errors import Busy, UnknownModel
from anmok.ui import texts
from anmok.ui.texts import Words, table
from anmok.ui.trying.fields import facts_of

SOURCE = Path(texts.__file__).parent.parent
# The code makes these of parts: of a task's name, of an error's class.
MADE = re.compile(r"f[\"']([a-z_.]+)\.\{")
OWN = ("page.", "try.")  # of this test; other tabs have theirs
SAME = {"try.said.best", "try.said.part"}  # a label and a number


def test_both_languages_have_the_same_keys_and_places_for_values() -> None:
    english, korean = table("en"), table("ko")
    # English messages of errors need no second sentence.
    assert {key for key in korean if not key.startswith("page.errors.")} == set(english)
    assert [key for key in english if _numbers(english[key]) != _numbers(korean[key])] == []


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\{(\d)", text))


def test_korean_is_korean() -> None:
    hangul = re.compile(r"[가-힣]")
    bare = {key for key, text in table("ko").items() if key.startswith(OWN) and not hangul.search(text)}
    assert bare - SAME == set()


def test_every_key_that_the_code_asks_for_is_there() -> None:
    asked, stems = set(), set()
    for file in SOURCE.rglob("*.py"):
        code = file.read_text(encoding="utf-8")
        asked |= set(re.findall(r"words\(\s*[\"']([a-z_.]+)[\"']", code))
        asked |= {key for key in re.findall(r"else [\"']([a-z_.]+)[\"']", code) if key in table("en")}
        stems |= set(MADE.findall(code)) | set(re.findall(r"below\([\"']([a-z_.]+)[\"']", code))
    missing = {key for key in asked if key not in table("en")}
    assert missing == set()
    unused = {
        key for key in table("en") if key.startswith(OWN) and key not in asked and not key.startswith(tuple(stems))
    }
    assert unused == set()


def test_an_error_is_one_line_in_the_language_of_the_page() -> None:
    error = Busy("the queue is full; come back in 3 s", 3.2)
    assert Words("en").error(error) == "the queue is full; come back in 3 s"
    assert Words("ko").error(error) == (
        "지금은 요청이 많습니다. 3초 뒤에 다시 시도해 주세요. (the queue is full; come back in 3 s)"
    )
    assert Words("ko").error(UnknownModel("no model")).startswith("그런 이름의 모델이 없습니다.")


def test_languages_are_called_by_their_names() -> None:
    english, korean = Words("en"), Words("ko")
    assert english.tongues(("en", "ko")) == "English, Korean"
    assert korean.tongues(("en",)) == "영어"
    assert korean.tongues(("ko", "tlh", "zh")) == "한국어, tlh, 중국어"
    assert english.tongues(()) == ""
    codes = {code for one in cards() for code in one.languages}
    assert len(codes) > 30
    for words in (english, korean):
        named = words.tongues(sorted(codes)).split(", ")
        assert len(set(named)) == len(codes)
        assert codes.isdisjoint(named)


@pytest.mark.parametrize(("language", "said"), [("en", "<dd>English</dd>"), ("ko", "<dd>영어</dd>")])
def test_the_facts_of_a_model_name_its_languages(language: str, said: str) -> None:
    one = replace(card("fake"), languages=("en",))
    assert said in facts_of(Words(language), one)
    without = facts_of(Words(language), replace(one, languages=()))
    assert said not in without
    assert Words(language)("try.facts.none") in without


def test_a_share_is_written_as_its_language_writes_it() -> None:
    english, korean = Words("en"), Words("ko")
    assert english("try.said.part", "red 5%", 0.137) == "red 5% 14\u00a0%"  # a name stays as it is
    assert korean("try.said.part", "red 5%", 0.137) == "red 5% 14%"
    assert english("label.verdict.recall", 0.5, 0.4, 0.625, 8) == (
        "50\u00a0% of all objects were proposed (between 40\u00a0% and 62\u00a0%; 8 objects)."
    )
    assert english("try.said.metres", 1.5, 9.666) == "From 1.50 to 9.67 m away."


def test_every_per_cent_sign_of_a_text_follows_its_language() -> None:
    """A place for a value is followed by a sign with a space that does not break in English, without one in Korean;
    what a visitor types, ``defect=2%``, has none."""
    for language, wanted in (("en", "\u00a0%"), ("ko", "%")):
        plain = {key: text for key, text in table(language).items() if "}%" in text or re.search(r"\}\s%", text)}
        assert {"label.desk.guess", "label.desk.scored", "nano.loading"} <= set(plain)
        for key, text in plain.items():
            for sign in re.findall(r"(?<=\})\s?%", text.replace("}%p", "")):
                assert sign == wanted, key


def test_a_missing_key_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Words("en")("try.nowhere")
