"""The report in words: every branch of the verdict, the Korean, and how figures are written."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.console import Console

import sample_outcome as sample
from anmok.evidence.intervals import Estimate, Interval
from anmok.ladder.outcome import Comparison, Control, Outcome
from anmok.ladder.report import answers, render, render_page, verdict
from anmok.ladder.report.facts import facts
from anmok.ladder.report.figures import Figures, Lang, tied
from anmok.ladder.report.josa import final_sound, with_particle
from anmok.ladder.report.phrases import phrase, rung_name, texts
from test_report import LANGS, Pad, shown


def without_choice(made: Outcome) -> Outcome:
    return replace(made, honesty=replace(made.honesty, labels_to_choose=0))


def recommended(made: Outcome, key: str) -> Outcome:
    return replace(made, recommendation=replace(made.recommendation, key=key))


def with_labels(made: Outcome, labels: int) -> Outcome:
    """The recommended rung with fewer labels than there are."""
    key = made.recommendation.key
    return replace(made, steps=tuple(replace(one, labels=labels) if one.key == key else one for one in made.steps))


class TestVerdict:
    def test_decided(self) -> None:
        first, second = verdict(sample.sample())
        assert first == (
            "Use rung 2 (linear head): with 1,556 labels to learn from, it gets 80.3 % of the test images right, "
            "7.9 points (3.4 to 12.4) more than rung 1."
        )
        assert second == (
            "Take the figure as approximate: 95 % interval 74.4 to 85.1 % from 667 test images; a random split "
            "would have promised 7.4 points too much for rung 1."
        )

    def test_open_says_cannot_tell_and_how_many(self) -> None:
        first, second = verdict(sample.undecided())
        assert "CANNOT TELL" in first
        assert second.startswith("This is weak evidence")
        assert "about 3,364 images (now 667) would settle rung 3 against rung 2" in second
        korean = verdict(sample.undecided(), "ko")
        assert "투영 조정(80.5%)이 더 나은지는 이 이미지들로는 판단 불가입니다" in korean[0]
        assert "약 3,364장(지금은 667장)" in korean[1]

    def test_open_without_a_number(self) -> None:
        made = sample.undecided()
        unclear = replace(made.comparisons[-1], images_needed=None)
        second = verdict(replace(made, comparisons=(unclear,)))[1]
        assert "we cannot name a number" in second

    def test_useless_is_a_refusal(self) -> None:
        assert verdict(sample.useless())[0].startswith("Do not rely on this yet")
        assert (
            "always answering “functional” 67.8 %: that lead of 1.3 points is not shown" in verdict(sample.useless())[0]
        )
        assert "the 67.8 % of the largest class may itself be 61.2 to 73.7 %" in verdict(sample.useless())[1]
        assert verdict(sample.useless(), "ko")[0].startswith("아직 믿고 쓸 수 없습니다")

    @pytest.mark.parametrize("lang", LANGS)
    def test_development_claims_nothing(self, lang: Lang) -> None:
        made = sample.development()
        assert any(comparison.word == "BETTER" for comparison in made.comparisons)
        page = shown(made, lang)
        words = [a["class"] for a in page.all("span") if (a.get("class") or "").startswith("word ")]
        assert "word better" not in words
        assert words.count("word cannot-tell") == 2 * len(made.comparisons)
        label = texts(lang)["page"]["development"]
        assert page.text.count(label) >= 8
        assert all("추정치" in line or "development" in line or "약합니다" in line or "weak" in line
                   for line in verdict(made, lang))  # fmt: skip
        console = Console(width=80, file=(pad := Pad()), force_terminal=False)
        render(made, console, lang)
        assert texts(lang)["words"]["BETTER"] not in pad.text
        assert label in pad.text

    def test_zero_shot(self) -> None:
        first, second = verdict(sample.clean())
        assert first.startswith("Zero-shot is enough: rung 0b (zero-shot, templates) needs no labels and gets 96.2 %")
        assert second.startswith("This is firm")
        assert answers(sample.clean())[3][1].endswith("found none.")

    @pytest.mark.parametrize(
        ("half", "openings", "strength"),
        [(0.02, 1, "firm"), (0.02, 2, "fair"), (0.05, 1, "fair"), (0.09, 1, "weak"), (float("nan"), 1, "weak")],
    )
    def test_weak_sounds_weak(self, half: float, openings: int, strength: str) -> None:
        made = sample.sample()
        wide = Estimate(0.8, Interval(0.8 - half, 0.8 + half), 100, 100.0)
        steps = tuple(replace(step, accuracy=wide) if step.key == "2" else step for step in made.steps)
        found = replace(made, steps=steps, honesty=replace(made.honesty, openings=openings))
        assert facts(found).strength == strength
        assert verdict(found)[0].startswith("For now, use" if strength == "weak" else "Use")

    def test_few_labels_are_enough(self) -> None:
        made = sample.sample()
        enough = replace(made, recommendation=replace(made.recommendation, shots_enough=16))
        assert verdict(enough)[0].endswith("; 16 labels per class would do about as well.")
        assert verdict(enough, "ko")[0].endswith("클래스마다 라벨 16개만 있어도 거의 같은 결과가 나옵니다.")
        beyond = replace(made, recommendation=replace(made.recommendation, shots_enough=1000))
        assert "do about as well" not in verdict(beyond)[0]

    def test_no_caveat_where_a_random_split_does_not_flatter(self) -> None:
        made = sample.sample()
        harmless = replace(sample.leak(), random_split=sample.leak().group_split)
        assert "promised" not in verdict(replace(made, leak=harmless))[1]

    @pytest.mark.parametrize(
        ("gain", "english", "korean"),
        [
            (0.034, "would buy about 3.4 points.", "정확도가 3.4%p쯤 오릅니다."),
            (0.002, "would buy little, about 0.2 points.", "정확도가 0.2%p밖에 오르지 않습니다."),
            (0.0, "would buy nothing.", "정확도는 더 오르지 않습니다."),
        ],
    )
    def test_doubling(self, gain: float, english: str, korean: str) -> None:
        made = sample.sample()
        found = replace(made, recommendation=replace(made.recommendation, next_gain=gain))
        assert english in answers(found)[4][1]
        assert korean in answers(found, "ko")[4][1]

    @pytest.mark.parametrize(
        ("lang", "second", "answer"),
        [
            ("en", "whether it beats the cheaper rung 1 we CANNOT TELL.", "about 895 test images would settle it."),
            ("ko", "더 저렴한 학습 없는 분류기보다 나은지는 판단 불가입니다.", "약 895장 있어야 판가름 납니다."),
        ],
    )
    def test_a_cheaper_rung_that_may_be_as_good_is_named(self, lang: Lang, second: str, answer: str) -> None:
        made = sample.sample()
        unclear = Comparison("2", "1", "CANNOT TELL", 0.03, -0.002, 0.06, 0.06, 0.1, 895)
        for found in (made, replace(made, leak=None)):
            open_ = replace(found, comparisons=(unclear,))
            assert facts(open_).strength == "fair"
            assert verdict(open_, lang)[1].endswith(second)
            assert answer in answers(open_, lang)[1][1]

    def test_controls_that_work_are_told_without_a_leak(self) -> None:
        made = replace(sample.sample(), leak=None)
        assert answers(made)[3][1].startswith(
            "The label can be told without a look at the picture, by the number in the file name (83.1 %, where 67.8 % "
            "is expected): the images that lie together may have been made together"
        )
        assert "anmok ladder photos/ --labels labels.csv" in answers(made)[4][1]
        shuffled = Control("shuffled labels", sample.estimate(0.9), 0.678, True)
        found = answers(replace(made, controls=(shuffled,)))[3][1]
        assert found.startswith("A control works that must not: shuffled labels (90.0 %, where 67.8 % is expected).")
        korean = answers(replace(made, controls=(shuffled,)), "ko")[3][1]
        assert korean.startswith("맞히면 안 되는 대조군이 맞혔습니다: 뒤섞은 라벨(90.0%, 누수가 없다면 67.8% 안팎).")

    def test_no_majority_control(self) -> None:
        made = replace(sample.useless(), controls=())
        assert "not shown to be better than guessing" in verdict(made)[0]


def left_english(outcome: Outcome) -> list[str]:
    """What the Korean page shows in English, and marks as such."""
    return re.findall('<span lang="en">(.*?)</span>', render_page(outcome, {}, "ko"))


class TestKorean:
    def test_texts_have_the_same_keys(self) -> None:
        english, korean = texts("en"), texts("ko")
        assert {key: set(part) for key, part in english.items()} == {key: set(part) for key, part in korean.items()}
        for section, part in english.items():
            for key, text in part.items():
                fields = set(re.findall(r"{(\w+)}", text))
                assert set(re.findall(r"{(\w+)}", korean[section][key])) - {"particle"} == fields - {"particle"}

    def test_the_ladders_own_words_are_korean(self) -> None:
        assert left_english(sample.sample()) == ["mini"]  # a name
        page = shown(sample.sample(), "ko")
        for english in ("zero-shot", "linear head", "majority", "BETTER", "CANNOT TELL", "development"):
            assert english not in page.text

    def test_what_has_no_korean_is_marked(self) -> None:
        made = sample.sample()
        odd = replace(made, model_note="A model of somebody else's.")
        assert left_english(odd) == ["A model of somebody else&#39;s.", "mini"]

    @pytest.mark.parametrize(
        ("english", "korean"),
        [
            ("runs of 64, and near-duplicates", "연속된 파일 64장씩, 그리고 거의 같은 이미지끼리"),
            ("metadata: together", "메타데이터 전체만으로"),
            ("logistic regression, C = 0.01", "로지스틱 회귀, C = 0.01"),
            ("sessions, an hour apart", "촬영 묶음(1시간 넘게 쉬면 새 묶음)"),
            (
                "2 is the cheapest shown to lack at most 1 points (here 0.9 at most)",
                "방법 2: 어느 방법보다도 1%p 넘게 뒤지지 않음이 확인된 것 가운데 가장 저렴함(여기서는 많아야 0.9%p)",
            ),
            ("50 % of the way, 300 steps", "바뀐 가중치 쪽으로 50%, 300단계"),
            ("50% of the way, 300 steps", "바뀐 가중치 쪽으로 50%, 300단계"),  # of a report kept from before
            (
                "the groups are so large that testing got 40 %, not 30 %",
                "묶음이 커서 테스트 비율이 40%입니다(목표 30%)",
            ),
            ("the same image under two labels, left out: a/b.jpg", "같은 이미지가 두 라벨 아래 있어 뺐습니다: a/b.jpg"),
        ],
    )
    def test_phrases(self, english: str, korean: str) -> None:
        assert phrase(english, "ko").text == korean
        assert phrase(english, "ko").is_translated

    def test_rungs(self) -> None:
        step = sample.sample().step("0b")
        assert rung_name(step, "en") == "zero-shot, templates"
        assert rung_name(step, "ko") == "제로샷(문장 틀)"
        assert rung_name(replace(step, key="9", rung="LoRA"), "ko") == "LoRA"

    @pytest.mark.parametrize(
        ("word", "topic", "toward"),
        [
            ("고양이", "고양이는", "고양이로"),
            ("말", "말은", "말로"),
            ("책", "책은", "책으로"),
            ("‘닭’", "‘닭’은", "‘닭’으로"),
            ("제로샷(문장 틀)", "제로샷(문장 틀)은", "제로샷(문장 틀)으로"),
            ("class 0", "class 0은", "class 0으로"),
            ("1", "1은", "1로"),
            ("2", "2는", "2로"),
            ("3", "3은", "3으로"),
            ("16", "16은", "16으로"),
            ("7", "7은", "7로"),
            ("9", "9는", "9로"),
            ("functional", "functional은", "functional로"),
            ("defective", "defective는", "defective로"),
            ("cat", "cat은", "cat으로"),
            ("dog", "dog는", "dog로"),
            ("test", "test는", "test로"),
            ("boat", "boat는", "boat로"),
            ("truck", "truck은", "truck으로"),
            ("airplane", "airplane은", "airplane으로"),
            ("bottle", "bottle은", "bottle로"),
            ("ring", "ring은", "ring으로"),
            ("PCB", "PCB는", "PCB로"),
            ("CNN", "CNN은", "CNN으로"),
            ("XL", "XL은", "XL로"),
            ("80.3%", "80.3%는", "80.3%로"),
            ("猫", "猫은(는)", "猫(으)로"),
            ("!!", "!!은(는)", "!!(으)로"),
            ("", "은(는)", "(으)로"),
            ("\u1100\u1161\u11a8", "\u1100\u1161\u11a8은", "\u1100\u1161\u11a8으로"),  # decomposed, as macOS has it
        ],
    )
    def test_particles(self, word: str, topic: str, toward: str) -> None:
        assert with_particle(word, "은") == topic
        assert with_particle(word, "으로") == toward

    @pytest.mark.parametrize(("word", "expected"), [("책", "책이라"), ("개", "개라"), ("猫", "猫(이)라")])
    def test_particle_before_go(self, word: str, expected: str) -> None:
        assert with_particle(word, "이라") == expected

    def test_every_syllable(self) -> None:
        finals = [final_sound(chr(code)) for code in range(0xAC00, 0xD7A4)]
        assert finals.count("") == 399
        assert finals.count("l") == 399
        assert None not in finals


class TestFigures:
    @pytest.mark.parametrize(
        ("share", "english"),
        [(0.8034, "80.3 %"), (1.0, "100.0 %"), (0.99996, "99.9 %"), (0.00001, "0.1 %"), (0.0, "0.0 %")],
    )
    def test_percent(self, share: float, english: str) -> None:
        assert Figures("en").percent(share) == english
        assert Figures("ko").percent(share) == english.replace(" ", "")

    @pytest.mark.parametrize(
        ("seconds", "english", "korean"),
        [
            (0.0, "0 s", "0초"),
            (0.042, "0.04 s", "0.04초"),
            (4.23, "4.2 s", "4.2초"),
            (41.3, "41 s", "41초"),
            (119.6, "2 min", "2분"),
            (200.0, "3 min 20 s", "3분 20초"),
            (3900.0, "1 h 5 min", "1시간 5분"),
            (float("inf"), "–", "–"),
        ],
    )
    def test_duration(self, seconds: float, english: str, korean: str) -> None:
        assert Figures("en").duration(seconds) == english
        assert Figures("ko").duration(seconds) == korean

    def test_sizes_and_gains(self) -> None:
        figures = Figures("en")
        assert [figures.megabytes(size) for size in (111.3, 45.24, 0.9999, 0.012, 0.0042, 0)] == [
            "111 MB", "45.2 MB", "1.0 MB", "12 kB", "4.2 kB", "0 kB",
        ]  # fmt: skip
        assert [figures.points(gain) for gain in (0.032, -0.0004, -0.05)] == [
            "+3.2 points",
            "0.0 points",
            "-5.0 points",
        ]
        assert [figures.width(gain) for gain in (0.01, 0.025)] == ["1 point", "2.5 points"]
        assert Figures("ko").points_span(-0.01, 0.074) == "-1.0 ~ +7.4%p"

    def test_tied(self) -> None:
        assert tied("80.3 % in 2 min 30 s (-1.0 to +7.4)") == ("80.3\u00a0% in 2\u00a0min 30\u00a0s (−1.0 to +7.4)")
        assert tied("anmok classify --head a-1 --seed -3") == "anmok classify --head a-1 --seed −3"


class TestAnswers:
    """What a reader is told to do must be there to be done."""

    def test_the_command_to_go_on_with_is_the_one_that_was_given(self) -> None:
        command = "anmok classify new.jpg --head 'my report/best'"
        for lang in LANGS:
            assert answers(replace(sample.sample(), follow_up=command), lang)[4][1].endswith(command)
            assert "anmok classify" not in answers(replace(sample.sample(), follow_up=""), lang)[4][1]
            assert "anmok classify" not in answers(sample.useless(), lang)[4][1]

    def test_pairs_are_named_as_a_task_only_where_two_labels_disagree(self) -> None:
        made = sample.sample()
        pairs = tuple(replace(pair, is_conflict=False) for pair in made.duplicates)
        agreeing = replace(made, duplicates=pairs)
        assert any(pair.is_conflict for pair in made.duplicates)
        assert "the pairs under two labels below" in answers(made)[4][1]
        assert "라벨이 엇갈리는 중복 이미지" in answers(made, "ko")[4][1]
        assert "Look at the doubtful labels below" in answers(agreeing)[4][1]
        assert "의심스러운 라벨을 살펴보고" in answers(agreeing, "ko")[4][1]

    @pytest.mark.parametrize(
        ("outcome", "english", "korean"),
        [
            (
                sample.sample(),
                "1,556 labels to learn from and to choose settings by, 667 to test: 2,223 in all. To fit this rung",
                "학습에 쓴 라벨 1,556개(방법 선정에도 사용), 테스트에 쓴 라벨 667개, 모두 2,223개.",
            ),
            (
                sample.development(),
                "88 labels in all: each of them was used to learn from, to choose settings by and to test. To",
                "라벨 88개를 모두 학습, 방법 선정, 검증에 함께 썼습니다. 이 방법",
            ),
            (
                without_choice(sample.development()),
                "88 labels in all: each of them was used to learn from and to test. To",
                "라벨 88개를 모두 학습과 검증에 함께 썼습니다. 이 방법",
            ),
            (
                recommended(sample.development(), "0b"),
                "88 labels in all, none of them to learn from: each of them was used to choose settings by and to",
                "라벨 88개를 학습에는 쓰지 않고 모두 방법 선정과 검증에 함께 썼습니다. 학습 시간은 0초",
            ),
            (
                without_choice(recommended(sample.development(), "0b")),
                "88 labels in all, none of them to learn from: each of them was used to test. Nothing",
                "라벨 88개를 학습에는 쓰지 않고 모두 검증에 썼습니다. 학습 시간은 0초",
            ),
            (
                with_labels(sample.development(), 20),
                "88 labels in all, 20 of them to learn from: each of them was used to choose settings by and to",
                "라벨 88개 가운데 20개로 학습했고, 88개 모두를 방법 선정과 검증에 함께 썼습니다. 이 방법",
            ),
            (
                replace(sample.clean(), honesty=replace(sample.clean().honesty, labels_to_choose=1556)),
                "No labels to learn from, 667 to test: 667 in all (1,556 more to choose the settings of other rungs",
                "테스트에 쓴 라벨 667개, 모두 667개(다른 방법의 설정을 고르는 데 따로 1,556개).",
            ),
            (
                sample.clean(),
                "No labels to learn from, 667 to test: 667 in all. Nothing",
                "테스트에 쓴 라벨 667개, 모두 667개.",
            ),
        ],
    )
    def test_labels_of_the_test_are_part_of_the_cost(self, outcome: Outcome, english: str, korean: str) -> None:
        assert answers(outcome)[2][1].startswith(english)
        assert korean in answers(outcome, "ko")[2][1]

    @pytest.mark.parametrize("lang", LANGS)
    def test_without_a_sealed_test_no_label_is_counted_twice(self, lang: Lang) -> None:
        made = sample.development()
        assert facts(made).labels == 88 == made.data.test == made.data.pool
        assert "176" not in " ".join(answer for _, answer in answers(made, lang))

    def test_the_labels_that_are_there_and_those_that_are_wanted_are_told_apart(self) -> None:
        for lang, said in (
            ("en", "88 images have a label so far: label more, at least 100 in all, so that some"),
            ("ko", "지금은 라벨이 88개입니다. 일부를 테스트용으로 떼어 둘 수 있도록 모두 100개 이상으로 늘리십시오."),
        ):
            assert answers(sample.development(), lang)[4][1].startswith(said)
