"""``verdict.json``: an audit as a versioned document, for pipelines and for whoever wants to check it.

Documented field by field in ``docs/audit-schema.md``. Fields are added under the same version; a field that
changes its meaning or goes away makes a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anmok.errors import BadData
from anmok.evidence.audit import Audit
from anmok.evidence.audit_gate import Gate
from anmok.evidence.audit_text_en import note as sentence
from anmok.evidence.controls import Control
from anmok.evidence.intervals import Estimate
from anmok.evidence.leaks import GroupScheme
from anmok.evidence.splits import seal
from anmok.files import write_text

FORMAT = "anmok.audit/1"
_MOST_PAIRS = 50


def verdict(audit: Audit, gates: Sequence[Gate] = ()) -> dict[str, Any]:
    """The document, of plain JSON values. Shares and points lie between 0 and 1; intervals are 95 %."""
    rows, where = audit.rows, audit.standing
    sides, counts = np.unique(rows.side, return_counts=True)
    return {
        "format": FORMAT,
        "verdict": audit.word,
        "claimed": _round(audit.claimed),
        "computed": {name: _estimate(one) for name, one in audit.computed.items()},
        "surviving": {name: _estimate(one) for name, one in audit.surviving.items()},
        "basis": audit.basis,
        "margin": audit.margin,
        "openings": audit.tried,
        "seed": audit.seed,
        "parts": [{"code": p.code, "points": _round(p.points), "images": p.images} for p in audit.parts],
        "needed": None
        if audit.needed is None
        else {
            "more_images": audit.needed.more,
            "more_groups": audit.needed.groups,
            "half_width": _round(audit.needed.half_width),
        },
        "required": [_gate(gate, audit) for gate in gates],
        "data": {
            "images": len(rows.names),
            "tested": int(where.tested.size),
            "clean": int(where.is_clean.sum()),
            "classes": list(rows.classes),
            "sha256": None if audit.sha256 is None else _digest(zip(rows.names, audit.sha256, strict=True)),
        },
        "predictions": {"layout": audit.predictions.layout, "sha256": audit.predictions.sha256},
        "split": {
            "is_known": rows.has_split,
            "sides": {str(side): int(n) for side, n in zip(sides, counts, strict=True)},
            "sha256": _digest(zip(rows.names, rows.side.tolist(), strict=True)),
        },
        "groups": _groups(audit),
        "copies": _copies(audit),
        "controls": _controls(audit),
        "notes": [{"code": one.code, "values": list(one.values), "text": sentence(one)} for one in audit.notes],
    }


def write_verdict(path: Path, audit: Audit, gates: Sequence[Gate] = ()) -> None:
    """Write the document as UTF-8 JSON, whole or not at all. Raises `CannotWrite`."""
    write_text(path, json.dumps(verdict(audit, gates), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def _estimate(one: Estimate) -> dict[str, float | int]:
    return {
        "value": _round(one.value),
        "low": _round(one.interval.low),
        "high": _round(one.interval.high),
        "n": one.n,
        "effective_n": round(one.effective_n, 1),
    }


def _gate(gate: Gate, audit: Audit) -> dict[str, Any]:
    value = gate.value(audit.surviving)
    return {
        "text": gate.text,
        "value": None if value is None else _round(value),
        "is_met": gate.is_met(audit.surviving),
    }


def _groups(audit: Audit) -> dict[str, Any]:
    names = audit.rows.names
    group = None if audit.group is None else [int(g) for g in audit.group]
    sources = ["given"] if audit.has_own_groups else []
    sources += ["proposed"] if audit.scheme is not None else []
    sources += ["copies"] if audit.copies is not None else []
    return {
        "sources": sources if group is not None else [],
        "count": 0 if group is None else len(set(group)),
        "straddling": audit.straddling,
        "sha256": None if group is None else _digest(zip(names, map(str, group), strict=True)),
        "recommended": None if audit.scheme is None else audit.scheme.name,
        "schemes": [_scheme(one) for one in audit.leaks.schemes],
        "of_image": {} if group is None else dict(zip(names, group, strict=True)),
        "proposed_test": _proposed_test(audit),
    }


def _scheme(one: GroupScheme) -> dict[str, Any]:
    return {
        "name": one.name,
        "description": {"en": one.description_en, "ko": one.description_ko},
        "groups": one.n_groups,
        "effective_groups": round(one.effective_groups, 1),
        "single_class": _round(one.single_class),
        "control_random": _round(one.control_accuracy_random),
        "control_grouped": _round(one.control_accuracy_grouped),
        "p_grouped": _round(one.p_grouped),
        "is_enough": one.is_enough,
    }


def _proposed_test(audit: Audit) -> list[str]:
    """Images of a test set of 30 % that keeps groups whole; empty where there are no groups or they are
    too few.
    """
    known = np.flatnonzero(audit.rows.label >= 0)
    if audit.group is None or known.size == 0:
        return []
    try:
        split = seal(audit.rows.label[known], audit.group[known], seed=audit.seed)
    except BadData:  # one class, or every class in one group: there is no such split to propose
        return []
    return [audit.rows.names[i] for i in known[split.test]]


def _copies(audit: Audit) -> dict[str, Any] | None:
    if audit.copies is None:
        return None
    names = audit.rows.names
    return {
        "pairs": audit.copies.n_found,
        "tested_with_copy": int(audit.standing.has_copy.sum()),
        "nearest": [
            {"a": names[i], "b": names[j], "likeness": _round(likeness), "hash_bits": bits}
            for i, j, likeness, bits in audit.copies.pairs[:_MOST_PAIRS]
        ],
    }


def _controls(audit: Audit) -> dict[str, Any]:
    report = audit.leaks
    return {
        "random": [_control(one) for one in report.random],
        "grouped": [_control(one) for one in report.grouped],
        "leaking": list(report.leaking),
        "still_leaking": list(report.still_leaking),
        "naming": list(report.naming),
        "class_ordered": list(report.class_ordered),
    }


def _control(one: Control) -> dict[str, Any]:
    return {
        "name": one.name,
        "accuracy": _estimate(one.accuracy),
        "majority": _round(one.majority),
        "p": float(f"{one.p:.3g}"),
    }


def _digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 of ``name<tab>value`` lines, sorted: the same for the same content in any order."""
    lines = sorted(f"{name}\t{value}\n" for name, value in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _round(share: float) -> float:
    return round(float(share), 6)
