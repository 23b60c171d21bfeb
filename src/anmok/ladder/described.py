"""What a language model wrote on the classes, kept: the same question is asked, and paid for, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from anmok import files, words
from anmok.errors import BadData
from anmok.ladder.wishes import Writing
from anmok.train.describing import Writer, describe
from anmok.weights import cache_dir


def written(classes: Sequence[str], languages: tuple[str, ...], writer: Writer, count: int) -> Writing:
    """``count`` sentences on each class, from the cache where this writer was asked the same before.

    Args:
        classes: names as the user has them.
        languages: that the text tower reads; the writer gets the names that the tower would.
        writer: who writes.
        count: of sentences for each class.

    Raises:
        Untranslatable: a name that the text tower cannot read.
        BadData: nothing usable came, or what is kept is damaged.
        As ``writer.write``.
    """
    names = words.english(classes, languages)
    path = kept_at(names, writer.name, count)
    if not path.is_file():
        found = describe(names, writer, count)
        content = {"writer": found.writer, "calls": found.calls, "tokens": found.tokens, "sentences": found.sentences}
        files.write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        groups = [tuple(str(line) for line in group) for group in content["sentences"]]
        told = tuple(zip(classes, groups, strict=True))
        return Writing(str(content["writer"]), told, int(content["calls"]), int(content["tokens"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{path} is damaged ({error}); delete it, and the classes are described anew") from None


def kept_at(names: Sequence[str], writer: str, count: int) -> Path:
    """The file of one question. Delete it to have the classes described anew."""
    asked = json.dumps([list(names), writer, count], ensure_ascii=False)
    return cache_dir() / "described" / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
