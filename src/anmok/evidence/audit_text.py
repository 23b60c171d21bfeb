"""An audit on one screen of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anmok.evidence import audit_text_en, audit_text_ko
from anmok.evidence.audit import Audit
from anmok.evidence.audit_gate import Gate

Lang = Literal["en", "ko"]

_SAYS = {"en": audit_text_en, "ko": audit_text_ko}
_STYLES = {"STANDS": "bold green", "FALLS": "bold red", "CANNOT TELL": "bold yellow"}
_WIDTH = 100
_MOST_NOTES = 6


def render(audit: Audit, console: Console, gates: Sequence[Gate] = (), lang: Lang = "en") -> None:
    """Print claimed, surviving, why, the controls, the groups, and what next."""
    says = _SAYS[lang]
    width = min(console.width, _WIDTH)

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style), width=width)

    def heading(key: str) -> None:
        line("")
        line(says.HEADINGS[key], "bold")

    line(says.headline(audit), _STYLES[audit.word])
    line(says.measure(audit))
    line(says.computed(audit), "dim")
    if len(audit.surviving) > 1:
        rest = (f"{says.METRICS[k]} {says.percent(v.value)} ({says.span(v)})" for k, v in audit.surviving.items())
        line("; ".join(list(rest)[1:]), "dim")
    if audit.parts:
        heading("why")
        console.print(_reasons(audit, lang), width=width)
    if audit.leaks.random:
        heading("controls")
        console.print(_controls(audit, lang), width=width)
        line(f"{says.HEADINGS['beats']}; {says.majority(audit, audit.leaks.random[0].majority)}", "dim")
    for text in says.leaks(audit):
        line(text, "yellow")
    heading("groups")
    line(says.straddling(audit))
    heading("next")
    for text in says.following(audit):
        line(text)
    if gates:
        heading("required")
        for gate in gates:
            is_met = gate.is_met(audit.surviving)
            line(says.gate(gate, gate.value(audit.surviving), is_met), "green" if is_met else "red")
    if audit.notes:
        heading("notes")
        for note in audit.notes[:_MOST_NOTES]:
            line(says.note(note), "dim")


def _reasons(audit: Audit, lang: Lang) -> Table:
    says = _SAYS[lang]
    reasons = Table.grid(padding=(0, 2, 0, 2))
    reasons.add_column(justify="right", no_wrap=True)
    for part in audit.parts:
        reasons.add_row(says.points(part.points), Text(says.part(audit, part)))
    return reasons


def _controls(audit: Audit, lang: Lang) -> Table:
    """Accuracy of each control under both splits; what beats the majority is marked."""
    says, report = _SAYS[lang], audit.leaks
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column(says.HEADINGS["random"], justify="right")
    if report.grouped:
        table.add_column(says.HEADINGS["grouped"], justify="right")
    grouped = {one.name: one for one in report.grouped}
    for one in report.random:
        cells = [_share(says.percent(one.accuracy.value), one.name in report.leaking)]
        if report.grouped:
            after = grouped.get(one.name)
            share = "" if after is None else says.percent(after.accuracy.value)
            cells.append(_share(share, one.name in report.still_leaking))
        table.add_row(says.COLUMNS[one.name], *cells)
    return table


def _share(text: str, is_leak: bool) -> Text:
    """Numbers stay below one another, marked or not."""
    return Text(f"{text} *", "red") if is_leak else Text(f"{text}  ")
