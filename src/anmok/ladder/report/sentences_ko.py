"""The sentences in Korean (합니다체). Written in Korean, branch by branch; not a rendering of the English."""

from __future__ import annotations

from dataclasses import dataclass

from anmok.ladder.outcome import Comparison, Control, Step
from anmok.ladder.report.facts import METADATA, WARNINGS, Facts, contrast
from anmok.ladder.report.figures import Figures
from anmok.ladder.report.josa import with_particle
from anmok.ladder.report.phrases import rung_called, rung_name, spoken

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
            best = f"그나마 고를 만한 {rung}도 {right}를 맞히는 데 그쳐"
            return f"아직 믿고 쓸 수 없습니다: {best} {self._no_better()}."
        if known.standing == "open":
            return self._start(rung, right)
        if known.is_zero_shot:
            enough = "지금까지는 제로샷으로 충분합니다" if known.strength == "weak" else "제로샷으로 충분합니다"
            return f"{enough}: {with_particle(rung, '은')} 라벨 없이 테스트 이미지의 {right}를 맞힙니다."
        labels = _count(known.chosen.labels)
        use = with_particle(rung, "을")
        use = f"우선은 {use} 쓸 만합니다" if known.strength == "weak" else f"{use} 쓰면 됩니다"
        return f"{use}: 라벨 {labels}개로 테스트 이미지의 {right}를 맞{self._gained()}{self._fewer()}."

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
            first = f"아직 아닙니다. 정확도 {with_particle(_percent(share), '은')} {self._no_better()}."
        elif known.standing == "development":
            first = f"아직 말하기 이릅니다. 개발 단계 추정으로는 이미지 100장 가운데 {of_hundred}장을 맞힙니다."
        else:
            first = f"이미지 100장 가운데 {of_hundred}장쯤 맞히고 {100 - of_hundred}장쯤 틀립니다."
        if known.standing != "useless" and known.majority is not None:
            floor = _percent(known.majority.accuracy.value)
            first += f" 늘 {self._majority_class()}고만 답해도 {floor}는 맞습니다."
        weakest = known.weakest
        if weakest is not None:
            name, found = with_particle(_quoted(weakest.name), "으로"), _estimate(weakest.recall)
            first += f" 가장 약한 클래스는 {name}, 찾아낸 비율은 {found}입니다."
        if known.standing in ("decided", "open"):
            first += " 이만하면 되는지는 한 번 틀릴 때 치르는 대가에 달려 있습니다."
        return first

    def sure(self) -> str:
        """얼마나 확실한가?"""
        known, accuracy = self.facts, self.facts.chosen.accuracy
        images = f"이미지 {_count(accuracy.n)}장"
        what = "개발 단계 추정치" if known.standing == "development" else "정확도"
        parts = [f"{what}의 95% 신뢰구간은 {_span(accuracy.interval)}입니다."]
        if known.worth is not None:
            parts.append(
                f"근거는 {images}이지만, 같은 묶음의 이미지는 서로 닮아서 독립된 이미지 "
                f"{_count(known.worth)}장쯤의 값어치만 있습니다."
            )
        else:
            parts.append(f"근거는 {images}입니다.")
        parts.extend(self._decision())
        openings = known.outcome.honesty.openings
        if openings > 1:
            parts.append(
                f"이 데이터는 모델·설정·분할이 서로 다른 계획으로 {openings}번 시험에 쓰였습니다. 열어 볼수록 수치는 "
                "실제보다 조금씩 좋게 나옵니다."
            )
        return " ".join(parts)

    def cost(self) -> str:
        """비용은 얼마나 들었나?"""
        step, honesty = self.facts.chosen, self.facts.outcome.honesty
        labels = "학습에 쓴 라벨은 없고" if step.labels == 0 else f"라벨 {_count(step.labels)}개"
        if honesty.labels_to_choose:
            chosen = f"방법을 고르는 데 쓴 라벨 {_count(honesty.labels_to_choose)}개"
            labels = f"{labels} {chosen}가 들었으며" if step.labels == 0 else f"{labels}({chosen} 포함)"
        if tested := self.facts.outcome.data.test:
            labels += f", 테스트용 라벨 {_count(tested)}개"
        joint = "," if step.labels == 0 and not tested else "와"
        time = f"계산 시간 {_duration(step.cold_seconds)}"
        if step.cold_seconds > step.seconds:
            time += f"(특징을 저장해 둔 뒤에는 {_duration(step.seconds)})"
        ms, size = _milliseconds(step.ms_per_image), _megabytes(step.megabytes)
        return (
            f"{labels}{joint} {with_particle(time, '이')} 들었습니다. 쓸 때는 이 컴퓨터에서 이미지 한 장에 "
            f"{ms}, 배포 용량은 {size}입니다."
        )

    def wrong(self) -> str:
        """내 데이터에 무슨 문제가 있나?"""
        known, outcome = self.facts, self.facts.outcome
        parts = []
        if outcome.leak is not None:
            parts.append(self.leak())
        else:
            parts.extend(self._suspicions())
        if outcome.suspects:
            parts.append(
                f"라벨이 가장 의심스러운 이미지 {_count(len(outcome.suspects))}장을 아래에 실었습니다. 모델이 약한 "
                "클래스에서는 라벨이 아니라 모델이 틀렸을 수도 있습니다."
            )
        if outcome.duplicates:
            conflicts = f"실었고, 그중 {known.conflicts}쌍은 라벨이 서로 다릅니다."
            pairs = f"거의 같은 이미지 {_count(len(outcome.duplicates))}쌍도 아래에 "
            parts.append(pairs + (conflicts if known.conflicts else "실었습니다."))
        warnings = outcome.data.warnings
        parts.extend(spoken(warning, "ko").rstrip(".") + "." for warning in warnings[:WARNINGS])
        if len(warnings) > WARNINGS:
            parts.append(f"아래에 경고가 {len(warnings) - WARNINGS}건 더 있습니다.")
        return " ".join(parts) or "데이터 누수, 중복, 잘못된 라벨을 찾아보았으나 발견하지 못했습니다."

    def next_steps(self) -> str:
        """다음에는 무엇을 하나?"""
        known, outcome = self.facts, self.facts.outcome
        parts = [*self._measures()]
        if known.conflicts or outcome.suspects:
            doubtful = "라벨과, 라벨이 엇갈리는 중복 이미지를" if known.conflicts else "라벨을"
            parts.append(f"아래의 의심스러운 {doubtful} 살펴보고, 정말 잘못된 것만 고쳐 다시 실행하십시오.")
        if outcome.leak is not None:
            parts.append("어떤 이미지들이 한 묶음인지 적어 group 열로 넘겨주면, 추측 대신 그 묶음을 씁니다.")
        if doubling := self.doubling():
            parts.append(doubling)
        if known.standing in ("decided", "open") and outcome.follow_up:
            parts.append(f"새 이미지에 써 보십시오: {outcome.follow_up}")
        return " ".join(parts)

    def doubling(self) -> str:
        """What twice the labels would buy; empty where the curve does not tell."""
        gain = self.facts.outcome.recommendation.next_gain
        if gain is None:
            return ""
        if gain <= 0:
            return "학습 곡선으로 보아 라벨을 두 배로 늘려도 정확도는 더 오르지 않습니다."
        only = "밖에 오르지 않습니다" if gain < self.facts.outcome.margin else "쯤 오릅니다"
        return f"학습 곡선으로 보아 라벨을 두 배로 늘리면 정확도가 {_width(gain)}{only}."

    def leak(self) -> str:
        """What gives the label away, and what that does to a model; empty where nothing does."""
        leak = self.facts.outcome.leak
        if leak is None:
            return ""
        rung, control = rung_called(self.facts.outcome, leak.rung, "ko"), spoken(leak.control, "ko")
        return (
            f"사진을 보지 않고 {control}만으로도 라벨을 {_percent(leak.control_random.value)} 맞힐 수 "
            f"있습니다. 무작위로 나눴다면 {rung}의 정확도가 {_percent(leak.random_split.value)}라고 "
            f"했겠지만, 서로 관련된 이미지를 한쪽에 모아 나누면 {_percent(leak.group_split.value)}만 "
            "남습니다."
        )

    def _suspicions(self) -> list[str]:
        by_metadata = [control for control in self.facts.suspicious if control.name.startswith(METADATA)]
        found = []
        if by_metadata:
            listed = ", ".join(_reached(one.name.removeprefix(METADATA), one) for one in by_metadata)
            expected = _percent(by_metadata[0].expected)
            found.append(f"사진을 보지 않고도 라벨이 드러납니다: {listed}. 정상이라면 {expected}입니다.")
        for control in self.facts.suspicious:
            if control not in by_metadata:
                reached, expected = _reached(control.name, control), _percent(control.expected)
                found.append(f"맞히면 안 되는 대조군이 맞혔습니다: {reached}. 정상이라면 {expected}입니다.")
        return found

    def _measures(self) -> tuple[str, ...]:
        known = self.facts
        if known.standing == "development":
            return ("일부를 테스트용으로 봉인해 둘 수 있을 만큼 라벨을 더 다십시오.",)
        if known.standing == "useless":
            return ("이 결과 위에 무엇을 만들기 전에, 다른 모델이나 더 또렷한 이미지와 라벨로 다시 해 보십시오.",)
        if known.standing == "open" and known.images_needed is not None:
            needed = _count(known.images_needed)
            return (f"판가름하려면 테스트 이미지가 약 {needed}장이 되도록 라벨을 더 다십시오.",)
        return ()

    def _start(self, rung: str, right: str) -> str:
        best = _rung(self.facts.best)
        if self.facts.best.key == self.facts.chosen.key:
            leading = f"{with_particle(rung, '이')} 정확도 {right}로 가장 높지만"
            return f"지금까지는 {leading}, 정말 앞서는지는 이 이미지들로는 판단 불가입니다."
        return (
            f"가장 저렴한 후보인 {with_particle(rung, '을')} 먼저 써 볼 만하지만(정확도 {right}), "
            f"{with_particle(best, '이')} 더 나은지는 이 이미지들로는 판단 불가입니다."
        )

    def _majority_class(self) -> str:
        return with_particle(_quoted(self.facts.majority_class), "이라")

    def _no_better(self) -> str:
        majority = self.facts.majority
        if majority is None:
            return "찍는 것보다 낫다고 할 수 없습니다"
        share = _percent(majority.accuracy.value)
        lead = self.facts.outcome.recommendation.lead
        span = "" if lead is None else f". 둘의 차이는 95% 구간으로 {_points_span(lead.low, lead.high)}%p입니다"
        return f"늘 {self._majority_class()}고 답할 때({share})보다 낫다고 할 수 없습니다{span}"

    def _gained(self) -> str:
        found = contrast(self.facts.outcome, self.facts.chosen.key)
        fewer = self.facts.shots_enough is not None
        if found is None or found.word != "BETTER":
            return "히며" if fewer else "힙니다"
        other = rung_called(self.facts.outcome, found.against, "ko")
        span = _points_span(found.low, found.high, is_signed=False)
        ending = "높고" if fewer else "높습니다"
        return f"혀 {other}보다 {_width(found.gain)}({span}) {ending}"

    def _fewer(self) -> str:
        shots = self.facts.shots_enough
        return "" if shots is None else f", 클래스마다 라벨 {shots}개만 있어도 거의 같은 결과가 나옵니다"

    def _caveat(self) -> str:
        known, leak = self.facts, self.facts.outcome.leak
        found = ""
        if leak is not None and leak.random_split.value > leak.group_split.value:
            flattery = _width(leak.random_split.value - leak.group_split.value)
            found = f"이며, 무작위로 나눴다면 정확도가 {flattery} 부풀려졌을 것입니다"
        if known.unbeaten is not None:
            joint = found.replace("것입니다", "것이고") if found else "이며"
            return f"{joint}, 더 저렴한 {self._unbeaten(known.unbeaten)}보다 나은지는 판단 불가입니다"
        if not found and known.standing == "decided" and known.best.key != known.chosen.key:
            return f"이며, 점수가 가장 높은 {_rung(known.best)}도 {self._margin()} 넘게 앞서지는 않습니다"
        return found or "입니다"

    def _decision(self) -> list[str]:
        known = self.facts
        if known.standing == "development":
            return ["봉인한 이미지로 시험하지 않았으므로 어느 방법이 더 낫다고 말하지 않습니다."]
        if known.standing == "open":
            return [f"어느 방법이 더 나은지는 판단 불가이며, {self._settling()}."]
        found = []
        if known.standing == "decided" and known.best.key != known.chosen.key:
            best = with_particle(_rung(known.best), "이")
            found.append(f"점수는 {best} 가장 높지만, {self._margin()} 넘게 앞서지는 않습니다.")
        if known.unbeaten is not None:
            needed = known.unbeaten.images_needed
            settle = "" if needed is None else f"이며, 테스트 이미지가 약 {_count(needed)}장 있어야 판가름 납니다"
            found.append(f"더 저렴한 {self._unbeaten(known.unbeaten)}보다 나은지는 판단 불가{settle or '입니다'}.")
        return found

    def _unbeaten(self, comparison: Comparison) -> str:
        return rung_called(self.facts.outcome, comparison.against, "ko")

    def _settling(self) -> str:
        needed, now = self.facts.images_needed, self.facts.chosen.accuracy.n
        if needed is None:
            return "몇 장이 더 있어야 판가름 날지도 말할 수 없습니다"
        today = f"(지금은 {_count(now)}장)" if needed > now else ""
        return f"테스트 이미지가 약 {_count(needed)}장{today} 있어야 판가름 납니다"

    def _margin(self) -> str:
        return _width(self.facts.outcome.margin)


def _reached(name: str, control: Control) -> str:
    return f"{spoken(name, 'ko')} {_percent(control.accuracy.value)}"


def _rung(step: Step) -> str:
    return rung_name(step, "ko")


def _quoted(name: str) -> str:
    return f"‘{name}’"
