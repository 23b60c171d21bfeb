"""What is wrong with the data and what to do next, in Korean (합니다체). Not a rendering of the English."""

from __future__ import annotations

from dataclasses import dataclass

from anmok.ladder.prepare import TINY
from anmok.ladder.report.commands import Action, again, with_table
from anmok.ladder.report.facts import SHOWN_PAIRS, SHOWN_SUSPECTS, WARNINGS, Facts, column
from anmok.ladder.report.figures import Figures
from anmok.ladder.report.josa import with_particle
from anmok.ladder.report.phrases import rung_called, spoken

_FIGURES = Figures("ko")
_count, _found = _FIGURES.count, _FIGURES.found
_percent, _width = _FIGURES.percent, _FIGURES.width


@dataclass(frozen=True, slots=True)
class KoreanRemedies:
    """Says ``facts``. Every method returns whole sentences of plain text."""

    facts: Facts

    def wrong(self) -> str:
        """내 데이터에 무슨 문제가 있나?"""
        known, outcome = self.facts, self.facts.outcome
        parts = [self.leak()] if outcome.leak is not None else []
        parts.extend(self._suspicions())
        if suspects := len(outcome.suspects):
            shown = f"가장 확신한 {SHOWN_SUSPECTS}장을 " if suspects > SHOWN_SUSPECTS else ""
            parts.append(
                f"모델과 라벨이 어긋나는 이미지가 {_found(suspects)}장 있어 {shown}아래에 실었습니다. 모델이 약한 "
                "클래스에서는 라벨이 아니라 모델이 틀렸을 수도 있습니다."
            )
        if pairs := len(outcome.duplicates):
            conflicts = f" 그중 {known.conflicts}쌍은 라벨이 서로 다릅니다." if known.conflicts else ""
            shown = f" {SHOWN_PAIRS}쌍을" if pairs > SHOWN_PAIRS else ""
            parts.append(f"거의 같은 이미지가 {_found(pairs)}쌍 있어{shown} 아래에 실었습니다.{conflicts}")
        warnings = outcome.data.warnings
        parts.extend(spoken(warning, "ko").rstrip(".") + "." for warning in warnings[:WARNINGS])
        if len(warnings) > WARNINGS:
            parts.append(f"아래에 경고가 {len(warnings) - WARNINGS}건 더 있습니다.")
        return " ".join(parts) or "데이터 누수, 중복, 잘못된 라벨을 찾아보았으나 발견하지 못했습니다."

    def leak(self) -> str:
        """What gives the label away, and what that does to a model; empty where nothing does."""
        leak = self.facts.outcome.leak
        if leak is None:
            return ""
        rung, control = rung_called(self.facts.outcome, leak.rung, "ko"), spoken(leak.control, "ko")
        return (
            f"사진을 보지 않고 {control}만으로도 라벨을 {_percent(leak.control_random.value)} 맞힐 수 "
            f"있습니다. {rung}의 정확도는 무작위로 나누면 {with_particle(_percent(leak.random_split.value), '으로')} "
            f"나오지만, 서로 관련된 이미지를 한쪽에 모아 나누면 실제로는 {_percent(leak.group_split.value)}입니다."
        )

    def next_steps(self) -> tuple[Action, ...]:
        """다음에는 무엇을 하나?"""
        known, outcome = self.facts, self.facts.outcome
        found = [*self._measures()]
        if known.weak_spot is not None:
            found.append(Action(f"가장 찾지 못하는 클래스인 ‘{known.weak_spot.name}’의 라벨부터 더 붙이십시오."))
        found.extend(self._checks())
        if known.conflicts or outcome.suspects:
            doubtful = "라벨과, 라벨이 엇갈리는 중복 이미지를" if known.conflicts else "라벨을"
            words = f"아래의 의심스러운 {doubtful} 살펴보고, 정말 잘못된 것만 고쳐 다시 실행하십시오:"
            found.append(Action(words, again(outcome.reproduce, {})))
        if outcome.leak is not None:
            found.append(self._grouped("추측한 묶음 대신 쓰도록, 어떤 이미지들이 한 묶음인지"))
        if doubling := self.doubling():
            found.append(Action(doubling))
        if known.standing in ("decided", "open") and outcome.follow_up:
            found.append(Action("새 이미지에 써 보십시오:", outcome.follow_up))
        return tuple(found)

    def doubling(self) -> str:
        """What twice the labels would buy; empty where the curve does not tell."""
        gain = self.facts.outcome.recommendation.next_gain
        if gain is None:
            return ""
        rung = rung_called(self.facts.outcome, self.facts.chosen.key, "ko")
        curve = f"{rung}의 학습 곡선이 지금 추세대로 이어진다면(외삽) 라벨을 두 배로"
        if gain <= 0:
            return f"{curve} 늘려도 정확도는 더 오르지 않습니다."
        only = "밖에 오르지 않습니다" if gain < self.facts.outcome.margin else "쯤 오릅니다"
        return f"{curve} 늘릴 때 정확도가 {_width(gain)}{only}."

    def _suspicions(self) -> list[str]:
        """What a control that works means for the verdict."""
        found = []
        for control in self.facts.suspicious:
            name, expected = spoken(column(control), "ko"), _percent(control.expected)
            reached = f"{_percent(control.accuracy.value)}, 누수가 없다면 {expected} 안팎"
            told = f"사진을 보지 않고도 {name}만으로 라벨이 드러납니다({reached})."
            found.append(
                {
                    "series": f"{told} 가까이 놓인 이미지들이 함께 만들어졌다면 위의 정확도는 실제보다 높습니다.",
                    "making": f"{told} 이 차이가 사진의 내용이 아니라 찍거나 저장한 방식에서 왔다면 위의 정확도는 "
                    "실제보다 높습니다.",
                    "name": f"{told} 모델은 픽셀만 보므로 해롭지 않습니다.",
                    "none": f"맞히면 안 되는 대조군이 맞혔습니다: {name}({reached}). 이유를 알기 전에는 여기 있는 어떤 "
                    "수치도 믿지 마십시오.",
                }[self.facts.cause(control)]
            )
        return found

    def _checks(self) -> list[Action]:
        causes = [self.facts.cause(control) for control in self.facts.suspicious]
        found = []
        if "none" in causes:
            found.append(Action("수치를 쓰기 전에, 그 대조군이 왜 맞혔는지부터 밝히십시오."))
        if "making" in causes:
            found.append(
                Action(
                    "모든 클래스의 사진을 같은 방식(카메라, 크기, 형식, 화질)으로 찍고 저장했는지 확인하고, 아니라면 "
                    "똑같이 맞추어 다시 실행하십시오."
                )
            )
        if "series" in causes and self.facts.outcome.leak is None:
            found.append(self._grouped("어떤 이미지들이 함께 만들어졌는지"))
        return found

    def _measures(self) -> tuple[Action, ...]:
        known, typed = self.facts, self.facts.outcome.reproduce
        if known.standing == "development":
            there = _count(known.outcome.data.pool)
            return (
                Action(
                    f"지금은 라벨이 {there}개입니다. 일부를 테스트용으로 떼어 둘 수 있도록 모두 {TINY}개 이상으로 "
                    "늘리십시오."
                ),
            )
        if known.standing == "useless":
            words = "이 결과를 업무에 적용하기 전에, 다른 모델(목록: anmok models)이나 더 또렷한 이미지로"
            return (Action(f"{words} 다시 해 보십시오:", again(typed, {"--model": "NAME"})),)
        if known.standing == "open" and known.images_needed is not None:
            needed = _count(known.images_needed)
            return (Action(f"판가름하려면 테스트 이미지가 약 {needed}장이 되도록 라벨을 더 붙이십시오."),)
        if known.standing == "open" and known.is_out_of_reach:
            return (
                Action("라벨을 더 붙여도 판가름 나지 않습니다. 더 저렴한 방법을 쓰거나 --margin을 크게 잡으십시오."),
            )
        return ()

    def _grouped(self, words: str) -> Action:
        table = f"{words} image,label,group 열이 있는 표에 적어 넘겨주십시오:"
        return Action(table, with_table(self.facts.outcome.reproduce, "labels.csv"))
