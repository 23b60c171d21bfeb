"""감사 결과의 한국어 문장. 영어를 옮긴 것이 아니라 한국어로 썼다."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anmok.evidence.audit import Audit, Part
from anmok.evidence.audit_gate import Gate
from anmok.evidence.audit_rows import Note
from anmok.evidence.audit_text_en import points
from anmok.evidence.intervals import Estimate
from anmok.evidence.leaks import GroupScheme

__all__ = ["points"]

COLUMNS = {
    "number": "파일 이름의 번호",
    "first_number": "파일 이름의 첫 번호",
    "order": "목록 순서",
    "time": "촬영 시각",
    "folder": "폴더",
    "camera": "카메라",
    "bytes": "파일 크기",
    "dimensions": "가로세로 크기",
    "wording": "파일 이름의 낱말",
    "label_in_name": "파일 이름에 든 클래스 이름",
    "together": "위의 것 모두",
}
METRICS = {"accuracy": "정확도", "balanced_accuracy": "균형 정확도", "macro_f1": "매크로 F1"}
HEADINGS = {
    "why": "차이가 나는 까닭",
    "controls": "사진을 보지 않고도 라벨을 맞힐 수 있나?",
    "random": "무작위 분할",
    "grouped": "묶음별 분할",
    "groups": "묶음",
    "next": "다음에 할 일",
    "notes": "이렇게 보았습니다",
    "required": "요구 조건",
    "beats": "* 우연보다 잘 맞힘",
}


def percent(share: float) -> str:
    """``83.0%``."""
    return f"{100 * share:.1f}%"


def span(estimate: Estimate) -> str:
    """``74.0~81.5%``."""
    return f"{100 * estimate.interval.low:.1f}~{100 * estimate.interval.high:.1f}%"


def headline(audit: Audit) -> str:
    """판정 한 문장."""
    claimed, first = percent(audit.claimed), audit.surviving.get("accuracy")
    if first is None:
        return f"주장한 정확도는 {claimed}이지만, 이 예측만으로는 실제로 얼마가 남는지 알 수 없습니다."
    survives = f"실제로 남는 것은 {percent(first.value)}입니다(95% 신뢰구간 {span(first)})."
    if audit.word == "FALLS":
        return f"믿을 수 없습니다: 주장한 정확도는 {claimed}이지만 {survives}"
    if audit.word == "STANDS":
        return f"믿을 만합니다: 주장한 정확도는 {claimed}이고 {survives}"
    return f"아직 알 수 없습니다: 주장한 정확도는 {claimed}이고 {survives}"


def measure(audit: Audit) -> str:
    """남는 정확도를 어떻게 구했는가."""
    first = audit.surviving.get("accuracy")
    if first is None:
        return _nothing(audit)
    worth = ""
    if first.effective_n < 0.9 * first.n:
        worth = f" 서로 닮은 이미지가 많아 독립된 이미지 {first.effective_n:.0f}장만큼의 정보만 줍니다."
    if audit.basis == "estimated":
        return (
            f"측정값이 아니라 추정값입니다. {_too_few(audit)}, 묶음을 통째로 떼어 놓았을 때의 비율에 맞추어 "
            f"테스트 이미지 {first.n:,}장에 가중치를 주었습니다.{worth}"
        )
    only = " 학습 쪽에 복사본도 같은 묶음도 없는" if audit.standing.tested.size > first.n else ""
    return f"{only} 테스트 이미지 {first.n:,}장에서 측정했습니다.{worth}".strip()


def part(audit: Audit, one: Part) -> str:
    """차이의 원인 하나."""
    images = f"테스트 이미지 {one.images:,}장"
    if one.code == "file":
        return "파일에 적힌 정확도와 파일의 예측을 직접 센 정확도가 다름"
    if one.code == "copies":
        return f"{images}과 같거나 거의 같은 사진이 학습 이미지에 있음"
    if one.code == "mates":
        return f"{images}과 같은 묶음의 이미지가 학습에 쓰임"
    if one.code == "neighbours":
        strongest = audit.leaks.strongest
        by = COLUMNS[strongest.name] if strongest else "묶음"
        return f"{by}만 보아도 라벨이 드러남: {images}의 이웃이 학습에 쓰였을 수 있음"
    return f"같은 테스트 세트에서 모델 {audit.tried}개 중 가장 나은 것을 고르면 그만큼 부풀려짐"


def straddling(audit: Audit) -> str:
    """쓴 묶음과, 분할이 가른 묶음의 수."""
    if audit.group is None:
        return "주어진 묶음이 없고, 메타데이터로 보아 따로 묶을 필요도 없습니다."
    count = len(set(audit.group.tolist()))
    source = "주어진 묶음" if audit.has_own_groups else "같은 사진의 복사본끼리"
    if audit.scheme is not None:
        source = f"주어진 묶음에 더하여 {scheme(audit.scheme)}" if audit.has_own_groups else scheme(audit.scheme)
    torn = f" 그중 {audit.straddling}개가 학습과 테스트에 걸쳐 있습니다." if audit.rows.has_split else ""
    return f"{source}: 모두 {count}개입니다.{torn}"


def scheme(one: GroupScheme) -> str:
    """제안하는 묶음."""
    return one.description_ko


def leaks(audit: Audit) -> list[str]:
    """대조 실험이 뜻하는 것."""
    found, report = [], audit.leaks
    if report.naming:
        found.append(
            "파일 이름이 라벨을 알려 줍니다. 픽셀만 보는 모델에는 해가 없지만, 이름이나 도장이 사진 안에 "
            "찍혀 있다면 치명적입니다."
        )
    if report.class_ordered:
        found.append("파일 번호가 클래스별로 이어져 있어, 번호만으로는 무엇을 함께 묶어야 하는지 알 수 없습니다.")
    if report.still_leaking:
        found.append(
            f"주어진 묶음이 너무 작습니다. 묶음별로 나누어도 {_columns(report.still_leaking)}만으로 라벨이 드러납니다."
        )
    if report.curable and report.recommended is None:
        found.append(
            f"아무리 길게 묶어도 {_columns(report.curable)}만으로 라벨이 드러납니다. "
            "함께 만들어진 이미지를 --groups로 알려 주십시오."
        )
    return found


def following(audit: Audit) -> list[str]:
    """다음에 할 일."""
    found = []
    if audit.basis != "measured":
        where = "verdict.json(--out)에 적힌 묶음별로" if audit.group is not None else "함께 만들어진 것끼리(--groups)"
        found.append(f"직접 측정하려면 {where} 다시 나누어 학습하고, 새 테스트 이미지를 예측하십시오.")
    elif audit.word == "FALLS":
        found.append(f"{percent(audit.surviving['accuracy'].value)}로 보고하고, 앞으로는 묶음별로 나누십시오.")
    if audit.needed is not None and audit.word == "CANNOT TELL":
        groups = f"(새 묶음 {audit.needed.groups}개쯤)" if audit.needed.groups else ""
        found.append(
            f"라벨을 붙인 테스트 이미지가 {audit.needed.more:,}장쯤{groups} 더 있으면 판가름 납니다"
            f"(±{100 * audit.needed.half_width:.1f}%p)."
        )
    return found or ["더 할 일이 없습니다. 신뢰구간과 함께 보고하면 됩니다."]


def gate(one: Gate, value: float | None, is_met: bool) -> str:
    """요구 조건 하나."""
    found = "알 수 없음" if value is None else f"{value:.3f}"
    return f"{one.text}: {found}, {'충족' if is_met else '미달'}"


def computed(audit: Audit) -> str:
    """묶음을 모르는 사람이 믿을 값."""
    first = audit.computed["accuracy"]
    counted = f"테스트 이미지 {first.n:,}장에서 {percent(first.value)}"
    return f"{counted}, 아무 문제가 없었다면 신뢰구간은 {span(first)}"


def majority(audit: Audit, share: float) -> str:
    """대조 실험의 기준."""
    return f"늘 가장 많은 클래스로 답하면 {percent(share)}"


def note(one: Note) -> str:
    """가정한 것과 뺀 것."""
    v = one.values
    sayings: dict[str, Callable[[], str]] = {
        "by_order": lambda: f"번호뿐인 {v[0]}행을 이름순으로 정렬한 이미지에 차례로 맞추었습니다.",
        "labels_differ": lambda: f"라벨 {v[0]}개가 클래스 폴더와 다릅니다({v[1]}). 예측 파일의 라벨을 따랐습니다.",
        "unlisted_dropped": lambda: f"폴더의 이미지 {v[0]}장은 예측 파일에 없어 뺐습니다.",
        "unlisted_train": lambda: f"폴더의 이미지 {v[0]}장은 예측이 없어 학습 이미지로 보았습니다.",
        "class_numbers": lambda: f"예측의 클래스 번호는 이름순으로 읽었습니다: {v[0]}.",
        "no_answer": lambda: f"테스트 이미지 {v[0]}장은 답이 없어 틀린 것으로 셌습니다.",
        "no_split": lambda: "어떻게 나누었는지 알 수 없습니다. split 열이 없으면 무작위로 나눈 것으로 봅니다.",
        "validation_only": lambda: (
            "테스트 행이 없어 검증 행으로 판정했습니다. 검증 행은 모델을 고르는 데 쓰인 것입니다."
        ),
        "unreadable": lambda: f"이미지 {v[0]}장은 읽을 수 없어 뺐습니다. 첫 번째: {v[1]}.",
    }
    return sayings[one.code]()


def _nothing(audit: Audit) -> str:
    if audit.group is None:
        return "메타데이터만으로 라벨이 드러나는데, 이를 막을 묶음을 찾지 못했습니다."
    return f"{_too_few(audit)}, 그 영향이 얼마인지 묶음만으로는 알 수 없습니다."


def _too_few(audit: Audit) -> str:
    if not audit.rows.has_split:
        return "어떤 이미지로 학습했는지 알 수 없어"
    clean = int(audit.standing.is_clean.sum())
    of = f"테스트 이미지 {audit.standing.tested.size:,}장 가운데 학습 쪽에 복사본도 같은 묶음도 없는 것이"
    return f"{of} {'하나도 없어' if clean == 0 else f'{clean}장뿐이어서'}"


def _columns(names: Sequence[str]) -> str:
    return "·".join(COLUMNS[name] for name in names)
