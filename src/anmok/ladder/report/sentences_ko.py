"""The sentences in Korean (합니다체). Written in Korean, branch by branch; not a rendering of the English."""

from __future__ import annotations

from dataclasses import dataclass

from anmok.ladder.outcome import Comparison, Step
from anmok.ladder.report.facts import Facts, contrast, gain
from anmok.ladder.report.figures import Figures, difference
from anmok.ladder.report.josa import with_particle
from anmok.ladder.report.phrases import rung_called, rung_name
from anmok.ladder.settling import MOST

_FIGURES = Figures("ko")
_count = _FIGURES.count
_duration = _FIGURES.duration
_estimate = _FIGURES.estimate
_megabytes = _FIGURES.megabytes
_milliseconds = _FIGURES.milliseconds
_percent = _FIGURES.percent
_points_span = _FIGURES.points_span
_span = _FIGURES.span
_width = _FIGURES.width


@dataclass(frozen=True, slots=True)
class Korean:
    """Says ``facts``. Every method returns whole sentences of plain text."""

    facts: Facts

    @property
    def questions(self) -> tuple[str, ...]:
        """The five, in the order of the report."""
        return (
            "쓸 만한가?",
            "얼마나 확실한가?",
            "비용은 얼마나 들었나?",
            "내 데이터에 무슨 문제가 있나?",
            "다음에는 무엇을 하나?",
        )

    def advice(self) -> str:
        """First sentence of the verdict: what to do."""
        known, right = self.facts, _percent(self.facts.chosen.accuracy.value)
        rung = _rung(known.chosen)
        if known.standing == "development":
            by = with_particle(rung, "으로")
            return (
                f"판정하기에는 라벨이 너무 적지만, 지금으로서는 {by} 시작해 볼 만합니다"
                f"(이미지의 {right}를 맞힌 개발 단계 추정치이며, 시험 결과가 아닙니다)."
            )
        if known.standing == "useless":
            return f"아직 믿고 쓸 수 없습니다: 가장 나은 선택인 {rung}도 정확도 {right}로, {self._no_better()}."
        if known.standing == "open":
            return self._start(rung, right)
        if known.is_zero_shot:
            enough = "지금까지는 제로샷으로 충분합니다" if known.strength == "weak" else "제로샷으로 충분합니다"
            return f"{enough}: {with_particle(rung, '은')} 라벨 없이 테스트 이미지의 {right}를 맞힙니다."
        labels = _count(known.chosen.labels)
        use = with_particle(rung, "을")
        use = f"우선은 {use} 쓸 만합니다" if known.strength == "weak" else f"{use} 쓰면 됩니다"
        return f"{use}: 라벨 {labels}개로 학습해 테스트 이미지의 {right}를 맞{self._gained()}{self._fewer()}."

    def certainty(self) -> str:
        """Second sentence of the verdict: how sure that is."""
        known = self.facts
        interval = f"95% 신뢰구간은 {_span(known.chosen.accuracy.interval)}"
        images = f"이미지 {_count(known.chosen.accuracy.n)}장"
        if known.standing == "development":
            return (
                f"근거가 약합니다: 개발에도 쓴 {images}에서 얻은 {interval}이고, 어느 방법이 더 낫다고 "
                "주장하지 않습니다."
            )
        if known.standing == "open":
            return f"근거가 약합니다: 테스트 {images}에서 얻은 {interval}이고, {self._settling()}."
        opening = {"firm": "믿을 만합니다", "fair": "대략의 값으로 보아야 합니다", "weak": "근거가 약합니다"}
        return f"{opening[known.strength]}: 테스트 {images}에서 얻은 {interval}{self._caveat()}."

    def enough(self) -> str:
        """쓸 만한가?"""
        known, share = self.facts, self.facts.chosen.accuracy.value
        of_hundred = min(max(round(share * 100), 0), 100)
        if known.standing == "useless":
            first = f"아직 아닙니다. {self._why_open()}."
        elif known.standing == "development":
            first = f"아직 말하기 이릅니다. 개발 단계 추정으로는 이미지 100장 가운데 {of_hundred}장을 맞힙니다."
        else:
            first = f"이미지 100장 가운데 {of_hundred}장쯤 맞히고 {100 - of_hundred}장쯤 틀립니다."
        if known.standing != "useless" and known.majority is not None:
            floor = _percent(known.majority.accuracy.value)
            name = with_particle(_quoted(known.majority_class), "이라")
            first += f" 항상 {name}고만 답해도 {floor}는 맞습니다."
        weakest = known.weakest
        if weakest is not None:
            name, found = with_particle(_quoted(weakest.name), "으로"), _estimate(weakest.recall)
            first += f" 가장 약한 클래스는 {name}, 찾아낸 비율은 {found}입니다."
        if known.more_balanced is not None:
            other, ahead = with_particle(_rung(known.more_balanced), "이"), known.more_balanced.balanced_accuracy
            own = with_particle(_percent(known.chosen.balanced_accuracy), "으로")
            first += f" 모든 클래스를 같은 비중으로 본 균형 정확도는 {own}, {other} 더 높습니다({_percent(ahead)})."
        if known.standing in ("decided", "open"):
            first += " 이 정도로 충분한지는 오판 한 건의 손실에 따라 다릅니다."
        return first

    def sure(self) -> str:
        """얼마나 확실한가?"""
        known, accuracy = self.facts, self.facts.chosen.accuracy
        images = f"이미지 {_count(accuracy.n)}장"
        what = "개발 단계 추정치" if known.standing == "development" else "정확도"
        parts = [f"{what}의 95% 신뢰구간은 {_span(accuracy.interval)}입니다."]
        if known.worth is not None:
            parts.append(
                f"근거는 {images}이지만, 같은 묶음의 이미지는 서로 닮아서 독립 이미지 약 "
                f"{_count(known.worth)}장 분량의 정보만 있습니다."
            )
        else:
            parts.append(f"근거는 {images}입니다.")
        parts.extend(self._decision())
        openings = known.outcome.honesty.openings
        if openings > 1:
            parts.append(
                f"이 데이터로 모델·설정·분할이 서로 다른 시험을 {openings}회 했습니다. 거듭할수록 수치는 "
                "실제보다 조금씩 좋게 나옵니다."
            )
        return " ".join(parts)

    def cost(self) -> str:
        """비용은 얼마나 들었나?"""
        step = self.facts.chosen
        labels = self._used_again() if self.facts.outcome.is_development else self._used_once()
        time = f"이 방법의 학습 시간은 {_duration(step.cold_seconds)}" if step.cold_seconds else "학습 시간은 0초"
        if step.cold_seconds > step.seconds:
            look = f"이미지를 장당 {_milliseconds(step.ms_per_image)}에 살펴보는 시간까지"
            time = f"이 방법의 학습 시간은 {look} 약 {_duration(step.cold_seconds)}"
            time += f"(특징을 저장해 둔 뒤에는 {_duration(step.seconds)})"
        ms, size = _milliseconds(step.ms_per_image), _megabytes(step.megabytes)
        return f"{labels}. {time}입니다. 쓸 때는 이 컴퓨터에서 장당 {ms}, 배포 용량은 {size}입니다."

    def _used_once(self) -> str:
        """The labels of a climb with a sealed test: none of these is one of those to learn from."""
        step, chosen = self.facts.chosen, self.facts.outcome.honesty.labels_to_choose
        labels = "학습에 쓴 라벨은 없음" if step.labels == 0 else f"학습에 쓴 라벨 {_count(step.labels)}개"
        if chosen and step.labels:
            labels += "(방법 선정에도 사용)" if chosen == step.labels else f"(방법 선정에 쓴 라벨 {_count(chosen)}개)"
        if tested := self.facts.outcome.data.test:
            labels += f", 테스트에 쓴 라벨 {_count(tested)}개, 모두 {_count(self.facts.labels)}개"
        if chosen and not step.labels:
            labels += f"(다른 방법의 설정을 고르는 데 따로 {_count(chosen)}개)"
        return labels

    def _used_again(self) -> str:
        """The labels of a climb without a sealed test, where each of them has several parts to play."""
        total, learned = self.facts.labels, self.facts.chosen.labels
        parts = [
            *["학습"] * (learned == total),
            *["방법 선정"] * (self.facts.outcome.honesty.labels_to_choose > 0),
            "검증",
        ]
        used = f"{(', ' if len(parts) > 2 else '과 ').join(parts)}에 {'함께 ' * (len(parts) > 1)}썼습니다"
        if learned == total:
            return f"라벨 {_count(total)}개를 모두 {used}"
        if learned:
            return f"라벨 {_count(total)}개 가운데 {_count(learned)}개로 학습했고, {_count(total)}개 모두를 {used}"
        return f"라벨 {_count(total)}개를 학습에는 쓰지 않고 모두 {used}"

    def weak_spot(self) -> str:
        """The class that the accuracy hides; empty where there is none."""
        row = self.facts.weak_spot
        return "" if row is None else f"다만 {_quoted(row.name)} 이미지는 {_estimate(row.recall)}만 찾아냅니다."

    def _start(self, rung: str, right: str) -> str:
        known = self.facts
        if known.best.key == known.chosen.key:
            leading = f"{with_particle(rung, '이')} 정확도 {right}로 가장 높지만"
            return f"지금까지는 {leading}, 정말 앞서는지는 이 이미지들로는 판단 불가입니다."
        best = with_particle(f"{_rung(known.best)}({_percent(known.best.accuracy.value)})", "이")
        use = f"{with_particle(rung, '을')} 먼저 써 볼 만하지만(정확도 {right})"
        return (
            f"사다리에서 처음으로 최고점과의 차이가 {self._margin()} 이내에 든 {use}, "
            f"{best} 더 나은지는 이 이미지들로는 판단 불가입니다."
        )

    def _largest(self) -> str:
        return f"항상 {with_particle(_quoted(self.facts.majority_class), '이라')}고 답할 때"

    def _no_better(self) -> str:
        known = self.facts
        if known.majority is None:
            return "찍는 것보다 낫다고 할 수 없습니다"
        share, lead = _percent(known.majority.accuracy.value), known.outcome.recommendation.lead
        if known.lead <= 0:
            return f"{self._largest()}({share})보다 높지 않습니다"
        span = "" if lead is None else f"(95% 신뢰구간 {_points_span(lead.low, lead.high)})"
        return (
            f"{self._largest()}({share})보다 {_width(known.lead)} 높지만 이 차이가 실제인지는 입증되지 않았습니다{span}"
        )

    def _why_open(self) -> str:
        """Why an interval above the largest class's share is no proof: that share is uncertain as well."""
        known = self.facts
        if known.majority is None or known.lead <= 0:
            return f"정확도는 {with_particle(_percent(known.chosen.accuracy.value), '으로')}, {self._no_better()}"
        own, other = known.chosen.accuracy.interval, known.majority.accuracy.interval
        chance = f"{self._largest()}보다 {_width(known.lead)} 높은 것은 우연일 수 있습니다: "
        few = f"독립 이미지 약 {_count(known.worth)}장 분량의 정보뿐이어서 " if known.worth else ""
        return f"{chance}{few}두 수치가 모두 불확실합니다({_span(own)}, {_span(other)})"

    def _gained(self) -> str:
        """Over the rung before, where that had labels too; else over the largest class."""
        known = self.facts
        fewer = known.shots_enough is not None
        found, lead = contrast(known.outcome, known.chosen.key), known.outcome.recommendation.lead
        is_shown = found is not None and found.word == "BETTER"
        against = None if found is None else next((s for s in known.outcome.steps if s.key == found.against), None)
        ending = "높고" if fewer else "높습니다"
        if lead is not None and known.majority is not None and not (is_shown and against and against.labels):
            span = _points_span(lead.low, lead.high, is_signed=False)
            return f"혀 {self._largest()}보다 {_width(known.lead)}({span}) {ending}"
        if found is None or not is_shown:
            return "히며" if fewer else "힙니다"
        other = rung_called(known.outcome, found.against, "ko")
        span = _points_span(found.low, found.high, is_signed=False)
        return f"혀 {other}보다 {_width(gain(known.outcome, found))}({span}) {ending}"

    def _fewer(self) -> str:
        shots = self.facts.shots_enough
        return "" if shots is None else f", 클래스마다 라벨 {shots}개만 있어도 거의 같은 결과가 나옵니다"

    def _caveat(self) -> str:
        known, leak = self.facts, self.facts.outcome.leak
        found = ""
        if known.standing == "useless" and known.majority is not None:
            share, span = known.majority.accuracy.value, known.majority.accuracy.interval
            found = f"이지만, 가장 많은 클래스의 비율 {_percent(share)}도 {_span(span)}로 불확실합니다"
        if leak is not None and (flattery := difference(leak.random_split.value, leak.group_split.value)) > 0:
            rung = rung_called(known.outcome, leak.rung, "ko")
            joint = found.replace("불확실합니다", "불확실하며") or "이며"
            found = f"{joint}, 무작위로 나누면 {rung}의 정확도가 {_width(flattery)} 부풀려집니다"
        if known.unbeaten is not None:
            joint = found.replace("부풀려집니다", "부풀려지고") or "이며"
            return f"{joint}, 더 저렴한 {self._unbeaten(known.unbeaten)}보다 나은지는 판단 불가입니다"
        if not found and known.standing == "decided" and known.best.key != known.chosen.key:
            return f"이며, 점수가 가장 높은 {_rung(known.best)}도 {self._margin()} 넘게 앞서지는 않습니다"
        return found or "입니다"

    def _decision(self) -> list[str]:
        known = self.facts
        if known.standing == "development":
            return ["따로 떼어 둔 이미지로 시험하지 않았으므로 어느 방법이 더 낫다고 말하지 않습니다."]
        if known.standing == "open":
            return [f"어느 방법이 더 나은지는 판단 불가이며, {self._settling()}."]
        found = []
        if known.standing == "decided" and known.best.key != known.chosen.key:
            best = with_particle(_rung(known.best), "이")
            found.append(f"점수는 {best} 가장 높지만, {self._margin()} 넘게 앞서지는 않습니다.")
        if known.unbeaten is not None:
            needed = known.unbeaten.images_needed
            settle = "" if needed is None else f"이며, 테스트 이미지가 약 {_count(needed)}장 있어야 판가름 납니다"
            if known.unbeaten.is_out_of_reach:
                settle = f"이며, {_out_of_reach()}"
            found.append(f"더 저렴한 {self._unbeaten(known.unbeaten)}보다 나은지는 판단 불가{settle or '입니다'}.")
        return found

    def _unbeaten(self, comparison: Comparison) -> str:
        return rung_called(self.facts.outcome, comparison.against, "ko")

    def _settling(self) -> str:
        known = self.facts
        needed, now = known.images_needed, known.chosen.accuracy.n
        if known.is_out_of_reach:
            return _out_of_reach()
        if needed is None:
            return "몇 장이 더 있어야 판가름 날지도 말할 수 없습니다"
        size = f"테스트 이미지가 약 {_count(needed)}장{f'(지금은 {_count(now)}장)' * (needed > now)}"
        own = rung_called(known.outcome, known.chosen.key, "ko")
        if known.rival is not None:
            pair = f"{with_particle(own, '과')} {_rung(known.rival)}"
            return f"{pair} 가운데 어느 쪽이 나은지 판가름하려면 {size} 있어야 합니다"
        ahead = f"{own}보다 {self._margin()} 넘게 앞서는 방법이 없음을 보이려면"
        return f"{ahead} {size} 있어야 합니다(차이가 지금 보이는 대로일 때)"

    def _margin(self) -> str:
        return _width(self.facts.outcome.margin)


def _out_of_reach() -> str:
    return f"테스트 이미지가 {_count(MOST)}장 넘게 필요하므로 라벨을 더 붙여서 가릴 일이 아닙니다"


def _rung(step: Step) -> str:
    return rung_name(step, "ko")


def _quoted(name: str) -> str:
    return f"‘{name}’"
