"""The one-screen answer of an audit as HTML, in the sentences of ``evidence``, and its pictures below."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any, Final, Literal, cast

from anmok.evidence import audit_text_en, audit_text_ko
from anmok.evidence.audit import Audit
from anmok.evidence.audit_gate import Gate
from anmok.ladder.report.bars import Claim, leak_bars
from anmok.ladder.report.figures import Figures, tied
from anmok.ui.auditing.pictures import PARTS
from anmok.ui.texts import Words

_SAYS: Final[Mapping[str, ModuleType]] = {"en": audit_text_en, "ko": audit_text_ko}
_STYLES: Final = {"STANDS": "stands", "FALLS": "falls", "CANNOT TELL": "open"}
_MARKS: Final = {"STANDS": "✓", "FALLS": "✗", "CANNOT TELL": "?"}

_STYLE: Final = "audit.css"  # beside this module


def shown(words: Words, audit: Audit, gates: Sequence[Gate]) -> str:
    """Claimed, surviving, why, the pictures, the controls, the groups, and what next."""
    says = _SAYS[words.language]
    looked = "".join(part(words, audit) for part in PARTS)
    return (
        f'{_style()}<div class="anmok-audit"><p class="verdict {_STYLES[audit.word]}" role="status">'
        f'<span aria-hidden="true">{_MARKS[audit.word]}</span> {_text(says.headline(audit))}</p>'
        f"<p>{_text(says.measure(audit))}</p>"
        f'<p class="soft">{_text(says.computed(audit))}</p>{_others(says, audit)}{_chart(words, audit)}'
        f"{_gates(says, audit, gates)}{_reasons(says, audit)}{_lines(says, 'next', says.following(audit))}"
        f"{looked}{_controls(says, audit)}{_lines(says, 'groups', [says.straddling(audit)])}"
        f"{_lines(says, 'notes', [says.note(one) for one in audit.notes])}</div>"
    )


def _text(text: str) -> str:
    return html.escape(tied(text))


def _others(says: Any, audit: Audit) -> str:
    """The metrics beside accuracy."""
    rest = [
        f"{says.METRICS[name]} {says.percent(one.value)} ({says.span(one)})"
        for name, one in audit.surviving.items()
        if name != "accuracy"
    ]
    return f'<p class="soft">{_text("; ".join(rest))}</p>' if rest else ""


def _chart(words: Words, audit: Audit) -> str:
    """The claim as the file gives it and what survives of it, with the commonest class as a mark."""
    first = audit.surviving.get("accuracy")
    if first is None or not audit.leaks.random:
        return ""
    lang = cast(Literal["en", "ko"], words.language)
    claims = (
        Claim(words("audit.computed"), audit.computed["accuracy"], "claimed"),
        Claim(words("audit.survives"), first, "survives"),
    )
    majority = (audit.leaks.random[0].majority, words("audit.majority"))
    return str(leak_bars(claims, majority, Figures(lang), words("audit.chart")))


def _gates(says: Any, audit: Audit, gates: Sequence[Gate]) -> str:
    if not gates:
        return ""
    told = "".join(
        f'<p class="{"stands" if gate.is_met(audit.surviving) else "falls"}">'
        f"{_text(says.gate(gate, gate.value(audit.surviving), gate.is_met(audit.surviving)))}</p>"
        for gate in gates
    )
    return f"<h3>{_text(says.HEADINGS['required'])}</h3>{told}"


def _reasons(says: Any, audit: Audit) -> str:
    if not audit.parts:
        return ""
    rows = "".join(
        f'<tr><td class="number">{_text(says.points(one.points))}</td><td>{_text(says.part(audit, one))}</td></tr>'
        for one in audit.parts
    )
    return f"<h3>{_text(says.HEADINGS['why'])}</h3><table><tbody>{rows}</tbody></table>"


def _controls(says: Any, audit: Audit) -> str:
    report = audit.leaks
    if not report.random:
        return ""
    heads = f'<td></td><th scope="col" class="number">{_text(says.HEADINGS["random"])}</th>'
    if report.grouped:
        heads += f'<th scope="col" class="number">{_text(says.HEADINGS["grouped"])}</th>'
    grouped = {one.name: one for one in report.grouped}
    rows = []
    for one in report.random:
        cells = _share(says.percent(one.accuracy.value), one.name in report.leaking)
        if report.grouped:
            after = grouped.get(one.name)
            cells += _share(
                "" if after is None else says.percent(after.accuracy.value), one.name in report.still_leaking
            )
        rows.append(f'<tr><th scope="row">{_text(says.COLUMNS[one.name])}</th>{cells}</tr>')
    told = "".join(f'<p class="warned">{_text(line)}</p>' for line in says.leaks(audit))
    note = f"{says.HEADINGS['beats']}; {says.majority(audit, report.random[0].majority)}"
    return (
        f"<h3>{_text(says.HEADINGS['controls'])}</h3>{told}<table><thead><tr>{heads}</tr></thead>"
        f'<tbody>{"".join(rows)}</tbody></table><p class="soft">{_text(note)}</p>'
    )


def _share(text: str, is_leak: bool) -> str:
    return f'<td class="number{" leaks" if is_leak else ""}">{_text(text)}{" *" if is_leak else ""}</td>'


def _lines(says: Any, heading: str, lines: Iterable[str]) -> str:
    told = "".join(f"<p>{_text(line)}</p>" for line in lines)
    return f"<h3>{_text(says.HEADINGS[heading])}</h3>{told}" if told else ""


@cache
def _style() -> str:
    sheet = resources.files("anmok.ui.auditing").joinpath(_STYLE).read_text(encoding="utf-8")
    return f"<style>{sheet}</style>"
