"""The word tables are whole and consistent, and Korean labels are read or refused, never guessed."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok import words
from anmok.errors import BadRequest, Untranslatable
from anmok.words import phrases, tables

EN = ("en",)
BOTH = ("en", "ko")
IMAGENET = tables.rows("imagenet.tsv")
NOUNS = tables.rows("nouns.tsv")
SENSES = tables.rows("senses.tsv")

# (class index, a word of the English name, the Korean name): facts of the ImageNet-1k order, spread over it.
LANDMARKS = (
    (0, "tench", "텐치"),
    (1, "goldfish", "금붕어"),
    (7, "rooster", "수탉"),
    (21, "kite bird of prey", "솔개"),
    (97, "male duck", "수오리"),
    (107, "jellyfish", "해파리"),
    (134, "crane bird", "두루미"),
    (207, "golden retriever", "골든 리트리버"),
    (250, "Siberian husky", "시베리안 허스키"),
    (281, "tabby cat", "태비 고양이"),
    (291, "lion", "사자"),
    (340, "zebra", "얼룩말"),
    (388, "giant panda", "대왕판다"),
    (398, "abacus", "주판"),
    (404, "airliner", "여객기"),
    (463, "bucket", "양동이"),
    (508, "computer keyboard", "키보드"),
    (517, "construction crane", "기중기"),
    (555, "fire truck", "소방차"),
    (609, "jeep", "지프"),
    (638, "maillot leotard", "레오타드"),
    (639, "one-piece swimsuit", "원피스 수영복"),
    (677, "metal nail", "못"),
    (701, "parachute", "낙하산"),
    (779, "school bus", "스쿨버스"),
    (817, "sports car", "스포츠카"),
    (847, "army tank", "탱크"),
    (879, "umbrella", "우산"),
    (920, "traffic light", "신호등"),
    (954, "banana", "바나나"),
    (963, "pizza", "피자"),
    (980, "volcano", "화산"),
    (999, "toilet paper", "화장지"),
)

# One word or more of each domain, each with its usual spellings.
PAIRS = {
    "개 강아지 멍멍이": "dog",
    "고양이 야옹이": "cat",
    "자동차 차": "car",
    "휴대폰 핸드폰": "mobile phone",
    "스마트폰": "smartphone",
    "티셔츠": "T-shirt",
    "반팔티": "short-sleeved T-shirt",
    "독수리": "eagle",
    "두루미 학": "crane bird",
    "벚꽃": "cherry blossom",
    "소나무": "pine tree",
    "김치": "kimchi",
    "비빔밥": "bibimbap",
    "짜장면 자장면": "black bean noodles",
    "떡볶이": "tteokbokki spicy rice cakes",
    "한복": "hanbok Korean traditional dress",
    "굴착기 포클레인": "excavator",
    "의자": "chair",
    "거실": "living room",
    "한옥": "hanok Korean traditional house",
    "소방관": "firefighter",
    "축구": "soccer",
    "무지개": "rainbow",
    "겨울": "winter",
    "스테인리스 스테인리스강": "stainless steel",
    "빨간색 빨강": "red",
    "줄무늬": "striped",
    "정사각형": "square",
    "베어링": "ball bearing",
    "인쇄회로기판 회로기판": "printed circuit board",
    "정상": "normal",
    "불량": "defective",
    "양품": "flawless product without defects",
    "균열 크랙": "crack",
    "긁힘 스크래치 기스": "scratch",
    "찍힘": "dent",
    "이물": "foreign particle contamination",
    "얼룩": "stain",
    "단선": "open circuit",
    "쇼트": "short circuit",
    "태양전지": "solar cell",
    "결함": "defect",
    "폐렴": "pneumonia",
    "영수증": "receipt",
    "슬픔": "sad face",
    "꽃다발": "flower bouquet",
    "손목": "wrist",
    "ㄱ 기역": "Korean letter giyeok",
    "삼": "digit three",
}

PHRASES = {
    "빨간 자동차": "red car",
    "빨간자동차": "red car",
    "빨간차": "red car",
    "고양이 사진": "cat photo",
    "고양이사진": "cat photo",
    "귀여운 골든 리트리버": "cute golden retriever",
    "골든리트리버": "golden retriever",
    "납땜 불량": "soldering defect",
    "기능 정상": "functional and working",
    "정상 폐": "normal healthy lung",
    "흉부 엑스레이": "chest X-ray",
    "불량 태양전지": "defective solar cell",
    "안전모 미착용": "person without a hard hat",
    "LED 조명": "LED light",
    "LED조명": "LED light",
    "cd 플레이어": "CD player",
    "2인용자전거": "tandem bicycle",
    "숫자 7": "digit 7",
    "3D 프린터": "3D printer",
    "고양이들": "cat",
    "고양이 한 마리": "cat",
    "흰 개 1마리": "white dog",
    "사과 1개": "apple",
    "표면_스크래치": "surface scratch",
    "개(흰색)": "dog white",
    "  흰   고양이 ": "white cat",
    "노란 새": "yellow bird",
    "새 차": "new car",
    "호박꽃": "pumpkin flower",
}

# What a careless splitter turns into an apple door, three dogs, a bird shop, a snow photo, a cow tree ...
REFUSED = (
    "사과문",
    "사과 3개",
    "사과 3 개",
    "새 가게",
    "이 개",
    "전 제품",
    "눈 사진",
    "고양이 다리",
    "고양이 두 마리",
    "고양이가",
    "고양이의 눈",
    "나무로 만든 의자",
    "꽹과리",
    "꽹과리 사진",
    "개구쟁이",
)


def test_imagenet_has_a_thousand_rows_in_order_without_duplicates() -> None:
    assert [int(row[0]) for row in IMAGENET] == list(range(1000))
    for language in ("en", "ko"):
        names = words.imagenet_names(language)
        assert len({tables._unspaced(name).casefold() for name in names}) == 1000
    assert all(name.isascii() for name in words.imagenet_names())
    assert all(words.is_korean(name) for name in words.imagenet_names("ko"))


@pytest.mark.parametrize(("index", "english", "korean"), LANDMARKS)
def test_imagenet_landmarks(index: int, english: str, korean: str) -> None:
    assert words.imagenet_names()[index] == english
    assert words.imagenet_names("ko")[index] == korean


def test_every_korean_imagenet_name_reads_back_to_its_own_row() -> None:
    reading = words.read(words.imagenet_names("ko"), EN)
    wrong = [pair for pair in zip(reading.read_as, words.imagenet_names(), strict=True) if pair[0] != pair[1]]
    assert wrong == []
    assert reading.unknown == ()


def test_every_noun_reads_as_its_own_row() -> None:
    assert len(NOUNS) >= 2000
    assert [row for row in NOUNS if tables.lookup(row[0]) != row[1]] == []
    repeated = Counter(korean.casefold() for korean, _ in NOUNS) + Counter(korean.casefold() for *_, korean in IMAGENET)
    assert [korean for korean, times in repeated.items() if times > 1] == []


@pytest.mark.parametrize(("name", "columns"), [("imagenet.tsv", 3), ("nouns.tsv", 2), ("senses.tsv", 3)])
def test_cells_are_clean(name: str, columns: int) -> None:
    table = tables.rows(name)
    assert {len(row) for row in table} == {columns}
    cells = [cell for row in table for cell in row]
    assert [cell for cell in cells if cell != tables.clean(cell) or not cell] == []
    korean, english = (
        (row[-1] if name == "imagenet.tsv" else row[0] for row in table),
        (row[1] for row in table),
    )
    assert [word for word in korean if not words.is_korean(word)] == []
    assert [word for word in english if not (word.isascii() and word.isprintable())] == []


def test_no_entry_is_longer_than_the_splitter_looks() -> None:
    assert max(len(korean) for korean, _ in NOUNS) <= phrases._LONGEST
    assert max(len(korean) for *_, korean in IMAGENET) <= phrases._LONGEST


def test_the_splitters_exceptions_are_words_of_the_tables() -> None:
    exceptions = phrases._ALONE | phrases._LAST | phrases._HEADS
    assert [word for word in exceptions if tables.lookup(word) is None] == []


def test_senses_differ_from_the_usual_one_and_their_companions_are_words() -> None:
    for korean, english, companions in SENSES:
        assert tables.lookup(korean) not in (None, english)
        assert [word for word in companions.split(" ") if tables.lookup(word) is None] == []
        assert korean not in companions.split(" ")


@pytest.mark.parametrize(("spellings", "english"), PAIRS.items())
def test_pairs(spellings: str, english: str) -> None:
    for korean in spellings.split(" "):
        assert words.read((korean,), EN).read_as == (english,)


@pytest.mark.parametrize(("korean", "english"), PHRASES.items())
def test_phrases(korean: str, english: str) -> None:
    reading = words.read((korean,), EN)
    assert (reading.labels, reading.read_as, reading.unknown) == ((korean,), (english,), ())


@pytest.mark.parametrize("label", REFUSED)
def test_doubtful_phrases_are_unknown_rather_than_guessed(label: str) -> None:
    reading = words.read((label, "개"), EN)
    assert reading.unknown == (label,)
    assert reading.read_as == (label, "dog")


def test_a_birdhouse_is_no_new_house() -> None:
    assert words.english(("새집", "새 집"), EN) == ("birdhouse", "new house")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("눈", "코", "입"), ("eye", "nose", "mouth")),
        (("눈", "비", "맑음"), ("snow", "rain", "sunny weather")),
        (("배", "보트"), ("boat", "boat")),
        (("사과", "배"), ("apple", "pear")),
        (("다리", "팔"), ("leg", "arm")),
        (("칠", "팔"), ("digit seven", "digit eight")),
        (("기타", "피아노"), ("guitar", "piano")),
        (("불량", "기타"), ("defective", "other")),
        (("정상", "불량"), ("normal", "defective")),
        (("낮", "밤"), ("daytime", "night")),
        (("밤", "호두"), ("chestnut", "walnut")),
    ],
)
def test_a_word_with_two_senses_follows_the_other_labels(labels: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert words.read(labels, EN).read_as == expected


def test_decomposed_file_names_read_like_typed_ones() -> None:
    decomposed = unicodedata.normalize("NFD", "빨간 고양이")
    assert decomposed != "빨간 고양이"
    assert words.is_korean(decomposed)
    reading = words.read((decomposed,), EN)
    assert reading.read_as == ("red cat",)
    assert reading.note() == "빨간 고양이 → red cat"
    untouched = words.read((decomposed,), BOTH)
    assert untouched.read_as == ("빨간 고양이",)
    assert not untouched.is_translated


def test_labels_of_the_towers_own_languages_stay() -> None:
    labels = ("고양이", "a dog", "K=3 clusters", "猫")
    assert words.read(labels, BOTH) == words.Reading(labels, labels, ())
    assert words.read(labels, EN).read_as == ("cat", "a dog", "K=3 clusters", "猫")
    assert words.read((), EN) == words.Reading((), (), ())


@pytest.mark.parametrize(
    ("label", "shown", "read_as"),
    [
        ("꽹과리=gong", "꽹과리", "gong"),
        (" 꽹과리 = small brass gong ", "꽹과리", "small brass gong"),
        ("고양이=tabby cat", "고양이", "tabby cat"),
        ("꽹과리=징", "꽹과리", "gong"),
        ("고양이=", "고양이", "cat"),
        ("정답=x=y", "정답", "x=y"),
    ],
)
def test_explicit_mapping(label: str, shown: str, read_as: str) -> None:
    assert words.read((label,), EN) == words.Reading((shown,), (read_as,), ())


def test_an_explicit_mapping_also_holds_where_the_tower_reads_korean() -> None:
    assert words.read(("꽹과리=gong",), BOTH) == words.Reading(("꽹과리",), ("gong",), ())


def test_note_names_changed_labels_only() -> None:
    reading = words.read(("고양이", "bird", "꽹과리", "개"), EN)
    assert reading.note() == "고양이 → cat, 개 → dog"
    assert reading.is_translated
    assert words.read(("bird",), EN).note() == ""
    assert not words.read(("bird", "꽹과리"), EN).is_translated


@pytest.mark.parametrize(
    ("text", "languages", "expected"),
    [
        ("고양이", EN, True),
        ("고양이", BOTH, False),
        ("고양이", (), True),
        ("a cat", EN, False),
        ("LED 조명", EN, True),
        ("ㅋ", EN, True),
        ("猫 ねこ", EN, False),
    ],
)
def test_needs_translation(text: str, languages: tuple[str, ...], expected: bool) -> None:
    assert words.needs_translation(text, languages) is expected


def test_english_returns_every_label() -> None:
    assert words.english(("고양이", "LED 조명", "dog"), EN) == ("cat", "LED light", "dog")


def test_english_names_all_unknown_labels_and_the_remedy_in_one_line() -> None:
    with pytest.raises(Untranslatable) as caught:
        words.english(("고양이", "꽹과리", "자진모리\n장단"), EN)
    message = str(caught.value)
    assert "꽹과리, 자진모리 장단:" in message
    assert "고양이" not in message
    assert "꽹과리=gong" in message
    assert "siglip2-b16-256" in message
    assert "한국어를 읽는 모델" in message
    assert "\n" not in message
    assert isinstance(caught.value, BadRequest)


def test_labels_of_ten_thousand_words_are_read_and_refused() -> None:
    # Searching back would take longer than the universe, recursion would overflow the stack.
    label = "김치볶음밥" * 10_000
    assert words.read((label,), EN).read_as == (" ".join(["kimchi fried rice"] * 10_000),)
    assert words.read((label + "쀍",), EN).unknown == (label + "쀍",)


@given(st.lists(st.text(alphabet="고양이개빨간들 사진=_-(3)aㄱ\u1100\u1161\n")))
def test_any_labels_at_all_are_read_or_named_unknown(labels: list[str]) -> None:
    reading = words.read(labels, EN)
    assert len(reading.labels) == len(reading.read_as) == len(labels)
    for label, read_as in zip(reading.labels, reading.read_as, strict=True):
        assert (label in reading.unknown) == words.is_korean(read_as)


def test_importing_reads_no_table() -> None:
    code = "from anmok.words import tables; raise SystemExit(tables.rows.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
