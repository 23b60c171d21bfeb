"""FLORES-200 against the published totals of Petrov et al. (NeurIPS 2023), twenty languages, to the last token.

They count `dev`, a line feed and `devtest` as one text, in which every line feed is a space.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from anmok import tokens
from anmok.errors import MissingDependency, WeightsUnavailable
from anmok.tokens.comparing import Comparison
from command_line import answered

DATA = Path(os.environ.get("ANMOK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
FLORES = DATA / "flores200"
CODES = {
    "Amharic": "amh_Ethi", "Standard Arabic": "arb_Arab", "Bengali": "ben_Beng", "German": "deu_Latn",
    "English": "eng_Latn", "Finnish": "fin_Latn", "French": "fra_Latn", "Hindi": "hin_Deva", "Japanese": "jpn_Jpan",
    "Khmer": "khm_Khmr", "Korean": "kor_Hang", "Russian": "rus_Cyrl", "Spanish": "spa_Latn", "Swahili": "swh_Latn",
    "Tamil": "tam_Taml", "Thai": "tha_Thai", "Turkish": "tur_Latn", "Vietnamese": "vie_Latn",
    "Chinese (Simplified)": "zho_Hans", "Chinese (Traditional)": "zho_Hant",
}  # fmt: skip
PARTS = 2_010  # line feeds: 997 + 1,012 lines, and the one between the files

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FLORES.is_dir(), reason="FLORES-200 is not beside the project"),
]


def published(column: str) -> dict[str, int]:
    with (FLORES / "tokenization_lengths_20.csv").open(encoding="utf-8") as file:
        return {CODES[row["Language"]]: int(row[column]) for row in csv.DictReader(file)}


def whole(corpus: tokens.Corpus) -> dict[str, str]:
    """As they counted it. `dev` comes first in the corpus, and has 997 lines."""
    return {one.code: " ".join([*one.sentences[:997], "", *one.sentences[997:], ""]) for one in corpus.languages}


@pytest.mark.parametrize(("name", "column"), [("utf-8", "ByT5"), ("utf-32", "UTF-32"), ("canine", "CANINE")])
def test_totals_are_the_published_ones(name: str, column: str) -> None:
    corpus = tokens.from_flores(FLORES, "none")
    found = tokens.compare([tokens.tokenizer(name)], corpus)
    assert {row.count.language: row.count.tokens + PARTS for row in found.rows} == published(column)
    assert {row.count.sentences for row in found.rows} == {2_009}


@pytest.mark.weights
@pytest.mark.parametrize(("name", "column", "form"), [("cl100k_base", "cl100k_base", "none"), ("qwen", "Qwen", "NFC")])
def test_totals_of_byte_pairs_are_the_published_ones(name: str, column: str, form: tokens.Form) -> None:
    try:
        tokenizer = tokens.tokenizer(name)
    except (WeightsUnavailable, MissingDependency) as error:
        pytest.skip(str(error))
    texts = whole(tokens.from_flores(FLORES, form))
    found = {code: len(cut) for code, cut in zip(texts, tokenizer.cuts(list(texts.values())), strict=True)}
    assert found == published(column)


def test_premiums_are_close_to_the_published_ones() -> None:
    said = answered("tokens", "utf-8", "--flores", FLORES, "--languages", "ko,fi,de")
    found = {row["language"]: row["premium"] for row in said["rows"]}
    totals = published("ByT5")
    for code in ("kor_Hang", "fin_Latn", "deu_Latn"):
        exact = (totals[code] - PARTS) / (totals["eng_Latn"] - PARTS)
        assert found[code]["value"] == pytest.approx(exact)
        assert found[code]["interval"][0] < exact < found[code]["interval"][1]
        assert abs(found[code]["median"] - exact) < 0.05
    assert found["eng_Latn"] == {"value": 1, "interval": [1, 1], "median": 1, "median_interval": [1, 1]}


def test_every_figure_is_there_for_every_language() -> None:
    corpus = tokens.from_flores(FLORES)
    assert corpus.recomposed == {"arb_Arab": 30, "ben_Beng": 1195, "hin_Deva": 183, "tam_Taml": 4}
    assert [one.code for one in corpus.languages if not one.has_spaces] == [
        "jpn_Jpan", "khm_Khmr", "tha_Thai", "zho_Hans", "zho_Hant",
    ]  # fmt: skip
    found: Comparison = tokens.compare([tokens.tokenizer("characters")], corpus, terms=tokens.Terms((77,)))
    assert len(found.rows) == 20
    assert not any(row.count.lost for row in found.rows)
    assert all(np.isfinite([row.premium.value, row.premium.median]).all() for row in found.rows if row.premium)
