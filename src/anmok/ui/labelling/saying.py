"""How a session stands, as HTML in words of the page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from anmok.evidence.intervals import Estimate
from anmok.labelling import Agreement, BoxStanding, Curve, Measured, Outlook, Pace, Standing
from anmok.ui.texts import Words

_ROWS: Final = 30  # disagreements that are listed


def standing_html(words: Words, standing: Standing) -> str:
    """Verdict, outlook, counts, people, and whatever is odd."""
    parts = [
        _section(words("label.verdict.title"), _verdict(words, standing)),
        _outlook(words, standing.outlook),
        _section(words("label.counts.title"), _counts(words, standing)),
        _section(words("label.people.title"), _people(words, standing)),
    ]
    return "".join(part for part in parts if part)


def boxes_html(words: Words, standing: BoxStanding) -> str:
    """The same of boxes."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th><td>{count}</td></tr>' for label, count in standing.boxes.items()
    )
    head = "".join(f'<th scope="col">{words(f"label.counts.{one}")}</th>' for one in ("label", "boxes"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    done = standing.done["teach"] + standing.done["measure"]
    verdict = _share(words, standing.precision, "precision") + _share(words, standing.recall, "recall")
    parts = [
        _section(words("label.verdict.boxes_title"), verdict or _said(words("label.why.no_boxes"))),
        _section(words("label.counts.boxes_title"), table + _said(words("label.counts.done", done, standing.images))),
        _section(words("label.people.title"), "".join(_pace(words, one) for one in standing.paces if one.strokes)),
    ]
    lines = [words(f"label.odd.{key}", getattr(standing, key)) for key in ("broken", "torn") if getattr(standing, key)]
    if standing.trouble:
        lines.append(words("label.odd.trouble"))
    elif standing.proposed < standing.images - standing.broken:
        lines.append(words("label.odd.looking", standing.proposed, standing.images))
    return "".join(part for part in parts if part) + "".join(_said(line, "odd") for line in lines)


def _share(words: Words, found: Estimate | None, which: str) -> str:
    if found is None:
        return ""
    low, high = found.interval.low, found.interval.high
    line = words(f"label.verdict.{which}", found.value, low, high, found.n)
    return _said(line, "main") + _scale(found.value, low, high)


def _section(title: str, content: str) -> str:
    return f"<section><h3>{html.escape(title)}</h3>{content}</section>" if content else ""


def _said(text: str, kind: str = "") -> str:
    told = f' class="{kind}"' if kind else ""
    return f"<p{told}>{html.escape(text)}</p>"


def _verdict(words: Words, standing: Standing) -> str:
    content = _measured(words, standing.head, "head")
    if standing.zero_shot.estimate is not None:
        content += _measured(words, standing.zero_shot, "words")
    return content + "".join(_said(line, "odd") for line in _odd(words, standing))


def _measured(words: Words, measured: Measured, who: str) -> str:
    found = measured.estimate
    if found is None:
        return _said(words(f"label.why.{measured.why}"))
    low, high = found.interval.low, found.interval.high
    line = words(f"label.verdict.{who}", found.value, low, high, found.n)
    content = _said(line, "main") + _scale(found.value, low, high)
    if measured.if_all_wrong is not None:
        worst = measured.if_all_wrong
        content += _said(words("label.verdict.without", measured.without, worst.low, worst.high), "small")
    return content


def _scale(value: float, low: float, high: float) -> str:
    """From 0 to 1: the interval, and the value in it. The line above says the same in words."""
    return (
        f'<div class="scale" aria-hidden="true"><span class="span" style="left:{100 * low:.1f}%;'
        f'width:{100 * (high - low):.1f}%"></span><span class="tick" style="left:{100 * value:.1f}%"></span></div>'
    )


def _odd(words: Words, standing: Standing) -> list[str]:
    counted = ("pending", "copies", "broken", "absent", "left_out", "torn")
    lines = [words(f"label.odd.{key}", getattr(standing, key)) for key in counted if getattr(standing, key)]
    if standing.trouble:
        lines.append(words("label.odd.trouble"))
    elif standing.head.why != "no_model" and standing.seen < standing.images - standing.broken:
        lines.append(words("label.odd.looking", standing.seen, standing.images))
    return lines


def _outlook(words: Words, outlook: Outlook) -> str:
    """Nothing where the folder has come to its end."""
    if not outlook.labels:
        return ""
    now, then = outlook.half_width_now, outlook.half_width_then
    lines = [
        words("label.outlook.no_interval")
        if now is None or then is None
        else words("label.outlook.interval", 100 * now, 100 * then),
        _gain(words, outlook.curve),
    ]
    return _section(words("label.outlook.title", outlook.labels), "".join(_said(line) for line in lines))


def _gain(words: Words, curve: Curve) -> str:
    if curve.why:
        return words(f"label.outlook.{curve.why}")
    return words("label.outlook.gain", 100 * curve.gain, 100 * curve.low, 100 * curve.high)


def _counts(words: Words, standing: Standing) -> str:
    head = "".join(f'<th scope="col">{words(f"label.counts.{one}")}</th>' for one in ("label", "teach", "measure"))
    rows = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th><td>{count}</td><td>{standing.measure[label]}</td></tr>'
        for label, count in standing.teach.items()
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    others = ("unsure", "skipped", "disputed")
    told = ", ".join(words(f"label.counts.{one}", getattr(standing, one)) for one in others if getattr(standing, one))
    done = sum(standing.teach.values()) + sum(standing.measure.values())
    return table + _said(words("label.counts.images", done, standing.images)) + (_said(told, "small") if told else "")


def _people(words: Words, standing: Standing) -> str:
    return "".join(_pace(words, one) for one in standing.paces if one.strokes) + _agreements(words, standing.agreements)


def _pace(words: Words, pace: Pace) -> str:
    return _said(words("label.people.pace", pace.by, pace.strokes, pace.per_minute, pace.median))


def _agreements(words: Words, agreements: Sequence[Agreement]) -> str:
    content = ""
    for one in agreements:
        raw = one.raw_interval
        content += _said(words("label.people.agree", one.first, one.second, one.raw, raw.low, raw.high, one.images))
        if one.kappa is not None and one.kappa_interval is not None:
            kappa = one.kappa_interval
            content += _said(words("label.people.kappa", one.kappa, kappa.low, kappa.high), "small")
        content += _disagreements(words, one)
    return content


def _disagreements(words: Words, agreement: Agreement) -> str:
    found = agreement.disagreements
    if not found:
        return ""
    rows = "".join(
        f"<li>{html.escape(one.path)}: {html.escape(one.first)} / {html.escape(one.second)}</li>"
        for one in found[:_ROWS]
    )
    title = html.escape(words("label.people.differ", len(found)))
    return f"<details><summary>{title}</summary><ul>{rows}</ul></details>"
