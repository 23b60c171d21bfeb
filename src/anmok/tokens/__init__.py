"""Tokenizers across languages: how many tokens the same sentence costs in each.

tokenizers = [tokenizer("utf-8"), tokenizer("smollm2")]
found = compare(tokenizers, own_sentences())
found.of("smollm2")[1].premium.value  # Korean over English
"""

from __future__ import annotations

from anmok.tokens.comparing import Comparison, Context, Premium, Row, Terms, compare, median_interval, premium
from anmok.tokens.corpus import FORMS, Corpus, Form, Language, from_files, from_flores, from_texts, own_sentences
from anmok.tokens.counting import Count, count
from anmok.tokens.cutting import Cut, Tokenizer
from anmok.tokens.findings import findings, warnings
from anmok.tokens.korean import Borders, has_analyser, with_morphemes
from anmok.tokens.naming import USUAL, is_here, names, tokenizer
from anmok.tokens.writing import to_csv, to_dict, write

__all__ = [
    "FORMS",
    "USUAL",
    "Borders",
    "Comparison",
    "Context",
    "Corpus",
    "Count",
    "Cut",
    "Form",
    "Language",
    "Premium",
    "Row",
    "Terms",
    "Tokenizer",
    "compare",
    "count",
    "findings",
    "from_files",
    "from_flores",
    "from_texts",
    "has_analyser",
    "is_here",
    "median_interval",
    "names",
    "own_sentences",
    "premium",
    "to_csv",
    "to_dict",
    "tokenizer",
    "warnings",
    "with_morphemes",
    "write",
]
