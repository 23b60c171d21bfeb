"""An audit as something to copy: the command line, and Python."""

from __future__ import annotations

import shlex
from pathlib import Path

from anmok.ui.auditing.answering import Question


def shell(question: Question, images: str, language: str) -> str:
    """``anmok audit`` with what was asked for. images: what the folder is called; "" without one."""
    words = ["anmok", "audit", *([images] if images else []), _file(question.predictions)]
    for gate in question.required:
        words += ["--require", gate]
    words += ["--tried", str(question.tried)] if question.tried != 1 else []
    words += ["--claimed", f"{question.claimed:g}"] if question.claimed is not None else []
    words += ["--margin", f"{question.margin:g}"] if question.margin != 0.03 else []
    words += ["--groups", _file(question.groups)] if question.groups else []
    words += ["--classes", ",".join(question.classes)] if question.classes else []
    words += ["--seed", str(question.seed)] if question.seed else []
    words += ["--lang", language] if language != "en" else []
    return shlex.join([*words, "--out", "verdict.json"])


def python(question: Question, images: str) -> str:
    """A script that writes the same verdict."""
    classes = f", {question.classes!r}" if question.classes else ""
    lines = [f"predictions = read_predictions(Path({_file(question.predictions)!r}){classes})"]
    imports = ["from pathlib import Path", ""]
    if question.claimed is not None:
        imports.insert(0, "from dataclasses import replace")
        lines.append(f"predictions = replace(predictions, claimed={question.claimed!r})")
    if question.required:
        imports.append("from anmok.evidence.audit_gate import parse_gate")
    given = {"margin": question.margin, "tried": question.tried, "seed": question.seed}
    told = "".join(f", {name}={value!r}" for name, value in given.items())
    if question.groups:
        imports.append("from anmok.evidence.audit_rows import read_groups")
        told += f", groups=read_groups(Path({_file(question.groups)!r}))"
    folder = f"Path({images!r})" if images else "None"
    lines.append(f"found = audit({folder}, predictions{told})")
    gates = f", [{', '.join(f'parse_gate({text!r})' for text in question.required)}]" if question.required else ""
    lines.append(f'write_verdict(Path("verdict.json"), found{gates})')
    lines.append('print(found.word, found.surviving.get("accuracy"))')
    imports += [
        "from anmok.evidence.audit import audit",
        "from anmok.evidence.readers import read_predictions",
        "from anmok.evidence.schema import write_verdict",
    ]
    return "\n".join([*imports, "", *lines, ""])


def _file(path: str | None) -> str:
    """What the visitor's file is called; a zip was the folder of that name."""
    file = Path(path or "")
    return file.stem if file.suffix.lower() == ".zip" else file.name
