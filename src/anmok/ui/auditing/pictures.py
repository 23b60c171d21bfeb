"""What an audit found, as pictures: copies side by side, groups that the split tears, names that tell the label."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anmok import media
from anmok.errors import BadMedia
from anmok.evidence.audit import Audit
from anmok.evidence.groups import straddling
from anmok.evidence.metadata import Column, collect
from anmok.ladder.report.page import data_uri
from anmok.ladder.show import thumbnail
from anmok.ui.texts import Words

_PAIRS: Final = 12
_GROUPS: Final = 4
_OF_ONE: Final = 8
_NAMES: Final = 4  # of each class
_CLASSES: Final = 8
_BINS: Final = 160  # of a strip
_LANE: Final = 16
_GAP: Final = 4


def pairs(words: Words, audit: Audit) -> str:
    """Copies on two sides of the split, the nearest first; all copies where the sides are not known."""
    if audit.copies is None or audit.rows.paths is None:
        return ""
    side = audit.rows.side
    torn = [one for one in audit.copies.pairs if not audit.rows.has_split or side[one[0]] != side[one[1]]]
    shown = "".join(
        f'<figure class="pair">{_picture(words, audit, i)}{_picture(words, audit, j)}'
        f"<figcaption>{words('audit.likeness', cosine)}</figcaption></figure>"
        for i, j, cosine, _ in torn[:_PAIRS]
    )
    if not shown:
        return ""
    key = "audit.copies" if audit.rows.has_split else "audit.copies_anywhere"
    return _part(words(key), words("audit.copies_count", f"{len(torn):,}"), f'<div class="pairs">{shown}</div>')


def groups(words: Words, audit: Audit) -> str:
    """Some of the groups that lie on both sides."""
    if audit.group is None or not audit.rows.has_split:
        return ""
    torn = straddling(audit.group, audit.rows.side)
    members = [np.flatnonzero(audit.group == one) for one in torn]  # each (k,)
    largest = sorted(members, key=len, reverse=True)[:_GROUPS]
    if not largest:
        return ""
    rows = "".join(_group(words, audit, index) for index in largest)
    return _part(words("audit.torn"), words("audit.torn_count", f"{len(torn):,}"), rows)


def names(words: Words, audit: Audit) -> str:
    """File names in which the label stands, and the series along which it goes."""
    found = []
    if audit.leaks.naming:
        found.append(_part(words("audit.named"), words("audit.named_hint"), _named(audit)))
    for column in _sequences(audit)[:1]:
        found.append(_part(words("audit.series"), words("audit.series_hint"), _strip(audit, column)))
    return "".join(found)


def _part(title: str, hint: str, inner: str) -> str:
    return f'<h3>{title}</h3><p class="soft">{hint}</p>{inner}'


def _group(words: Words, audit: Audit, index: NDArray[np.intp]) -> str:
    """index: (k,) rows of one group; as many of the test side as of the others are shown."""
    is_tested = audit.rows.is_tested[index]
    half = _OF_ONE // 2
    shown = [*index[is_tested][:half], *index[~is_tested][:half]]
    inner = "".join(_picture(words, audit, int(i)) for i in shown)
    count = words("audit.group_of", f"{len(index):,}")
    return f'<figure class="group"><div class="strip">{inner}</div><figcaption>{count}</figcaption></figure>'


def _picture(words: Words, audit: Audit, i: int) -> str:
    rows = audit.rows
    label = rows.classes[rows.label[i]] if rows.label[i] >= 0 else words("audit.no_label")
    side = str(rows.side[i])
    known = f"audit.sides.{side}"
    badge = words(known) if words.has(known) else html.escape(side)
    style = "tested" if rows.is_tested[i] else "learned"
    said = f'<span class="side {style}">{badge}</span> ' if side else ""
    name = html.escape(rows.names[i])
    read = re.sub("[/_-]", r"\g<0><wbr>", name)  # broken there, and not in the middle of its ending
    return (
        f'<figure class="one">{_image(words, audit, i, name)}'
        f"<figcaption>{said}<b>{html.escape(label)}</b><br><bdi>{read}</bdi></figcaption></figure>"
    )


def _image(words: Words, audit: Audit, i: int, name: str) -> str:
    if audit.rows.paths is None:
        return ""
    try:
        small = thumbnail(media.read(audit.rows.paths[i]))
    except BadMedia:
        return f'<span class="none">{words("audit.unreadable")}</span>'
    return f'<img src="{data_uri(i, small)}" alt="{words("audit.photo", name)}">'


def _named(audit: Audit) -> str:
    rows = audit.rows
    blocks = []
    for number, label in list(enumerate(rows.classes))[:_CLASSES]:
        index = np.flatnonzero(rows.label == number)[:_NAMES]
        if index.size:
            listed = "".join(f"<li><code>{_marked(rows.names[i], label)}</code></li>" for i in index)
            blocks.append(f"<dt>{html.escape(label)}</dt><dd><ul>{listed}</ul></dd>")
    return f"<dl class=names>{''.join(blocks)}</dl>"


def _marked(name: str, label: str) -> str:
    """The last part of the path, with the label marked where it stands in it."""
    last = name.rpartition("/")[2]
    parts = re.split(f"({re.escape(label)})", last, flags=re.IGNORECASE) if label else [last]
    return "".join(f"<mark>{html.escape(one)}</mark>" if k % 2 else html.escape(one) for k, one in enumerate(parts))


def _sequences(audit: Audit) -> list[Column]:
    """The columns along which a control guesses the label, the strongest first, as far as names alone give them."""
    labels = [audit.rows.classes[i] if i >= 0 else "" for i in audit.rows.label]
    known = collect(audit.rows.names, labels)
    found = [known.column(name) for name in (*audit.leaks.leaking, *audit.leaks.class_ordered)]
    return [column for column in found if column is not None and column.kind == "sequence"]


def _strip(audit: Audit, column: Column) -> str:
    """A lane per class: where along the series its images lie. What goes together shows as blocks."""
    known = np.flatnonzero(audit.rows.label >= 0)
    order = known[np.argsort(column.values[known, 0], kind="stable")]  # (k,)
    label = audit.rows.label[order]  # (k,)
    bins = np.minimum(np.arange(order.size) * _BINS // max(order.size, 1), _BINS - 1)  # (k,)
    shown = range(min(len(audit.rows.classes), _CLASSES))
    share = [np.bincount(bins[label == one], minlength=_BINS) for one in shown]  # each (160,)
    total = np.maximum(np.bincount(bins, minlength=_BINS), 1)  # (160,)
    lanes = [_lane(place, share[place] / total) for place in shown]
    legend = "".join(f'<li class="k{place}">{html.escape(audit.rows.classes[place])}</li>' for place in shown)
    height = (_LANE + _GAP) * len(lanes)
    drawn = f'<svg class="series" viewBox="0 0 {4 * _BINS} {height}" preserveAspectRatio="none" aria-hidden="true">'
    return f'{drawn}{"".join(lanes)}</svg><ol class="lanes">{legend}</ol>'


def _lane(place: int, share: Sequence[float] | NDArray[np.float64]) -> str:
    y = place * (_LANE + _GAP)
    return "".join(
        f'<rect class="k{place}" x="{4 * k}" y="{y}" width="4" height="{_LANE}" fill-opacity="{value:.2f}"/>'
        for k, value in enumerate(share)
        if value > 0
    )


PARTS: Final[Sequence[Callable[[Words, Audit], str]]] = (pairs, groups, names)
