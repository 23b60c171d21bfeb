"""A comparison as JSON, as a table for a spreadsheet, and as a folder with both and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anmok.evidence.intervals import Interval
from anmok.files import write_text
from anmok.tokens.chart import chart
from anmok.tokens.comparing import Comparison, Premium, Row
from anmok.tokens.findings import findings, warnings


def to_dict(found: Comparison) -> dict[str, Any]:
    """Everything, in plain values: ``corpus``, ``tokenizers``, ``rows``, ``notes``, ``warnings``."""
    corpus = found.corpus
    return {
        "corpus": {
            "name": corpus.name,
            "form": corpus.form,
            "is_parallel": corpus.is_parallel,
            "recomposed": dict(corpus.recomposed),
            "morphemes": found.morphemes,
        },
        "reference": found.reference,
        "tokenizers": [
            {
                "name": one.name,
                "kind": one.kind,
                "vocabulary": one.vocabulary or None,
                "special_tokens": one.specials,
                "is_lowercasing": one.is_lowercasing,
                "source": one.source,
            }
            for one in found.tokenizers
        ],
        "rows": [_row(row) for row in found.rows],
        "notes": findings(found),
        "warnings": warnings(found),
    }


def to_csv(found: Comparison) -> str:
    """A line for each row, with the columns of the JSON's rows, nested ones as ``premium.value``."""
    rows = [_flat(_row(row)) for row in found.rows]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # Nothing in one row and a table in another: the table's columns stand for it.
    columns = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(found: Comparison, folder: Path) -> list[str]:
    """``tokens.json``, ``tokens.csv`` and, where there are premiums, ``premium.svg``.

    Returns:
        The names of the files.

    Raises:
        CannotWrite: the folder cannot be written to.
    """
    files = {
        "tokens.json": json.dumps(to_dict(found), ensure_ascii=False, indent=2) + "\n",
        # With the mark that makes a spreadsheet read it as UTF-8.
        "tokens.csv": "\ufeff" + to_csv(found),
    }
    drawn = chart(found)
    if drawn:
        files["premium.svg"] = drawn
    for name, text in files.items():
        write_text(folder / name, text)
    return list(files)


def _row(row: Row) -> dict[str, Any]:
    one = row.count
    borders = one.borders
    return {
        "tokenizer": one.tokenizer,
        "language": one.language,
        "sentences": one.sentences,
        "characters": one.characters,
        "bytes": one.nbytes,
        "words": one.words or None,
        "tokens": one.tokens,
        "tokens_per_sentence": one.tokens / one.sentences,
        "tokens_per_character": one.tokens / one.characters,
        "tokens_per_byte": one.tokens / one.nbytes,
        "tokens_per_word": one.per_word,
        "split_words_share": one.split_share,
        "byte_tokens_share": one.byte_share,
        "unknown_tokens_share": one.unknown_share,
        "lost_characters_share": one.lost_share,
        "premium": None if row.premium is None else _premium(row.premium),
        "is_meaningful": row.is_meaningful,
        "contexts": {
            str(at.size): {
                "overflowing": at.overflowing,
                "overflowing_share": at.overflowing / one.sentences,
                "mean_share": at.mean_share,
            }
            for at in row.contexts
        },
        "cost_of_thousand_sentences": row.cost_of_thousand,
        "korean_borders": None
        if borders is None
        else {
            "within_words": borders.total,
            "in_bytes_share": borders.share(borders.in_bytes),
            "in_jamo_share": borders.share(borders.in_jamo),
            "between_syllables_share": borders.share(borders.between_syllables),
            "in_morpheme_share": borders.share(borders.in_morpheme),
            "on_morpheme_share": borders.share(borders.on_morpheme),
        },
    }


def _premium(one: Premium) -> dict[str, Any]:
    return {
        "value": one.value,
        "interval": _ends(one.interval),
        "median": one.median,
        "median_interval": _ends(one.median_interval),
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif isinstance(value, list):
            found |= {f"{name}.low": value[0], f"{name}.high": value[1]}
        else:
            found[name] = value
    return found
