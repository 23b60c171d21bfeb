"""Records the morphemes that Kiwi finds in our own Korean sentences.

    PYTHONPATH=tests python -m golden.record_korean_morphemes

Needs kiwipiepy and kiwipiepy_model (LGPL, 100 MB), which no test does: of each sentence the places are kept, where a
morpheme begins and how many letters it has, as ``Kiwi.tokenize`` gives them.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anmok import tokens

FILE = Path(__file__).with_name("korean_morphemes.json")


def sentences() -> tuple[str, ...]:
    """Ours in Korean."""
    return tuple(tokens.own_sentences().languages[1].sentences)


def digest(texts: tuple[str, ...]) -> str:
    """Of the sentences that were recorded."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def record() -> None:
    from kiwipiepy import Kiwi  # pyright: ignore[reportMissingImports]

    texts = sentences()
    kiwi: Any = Kiwi(num_workers=1)
    spans = [[[one.start, one.len] for one in row] for row in kiwi.tokenize(list(texts))]
    made = {name: version(name) for name in ("kiwipiepy", "kiwipiepy_model")}
    content = {"made_by": made, "sentences": digest(texts), "spans": spans}
    FILE.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
