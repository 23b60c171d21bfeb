"""What a reader of the figures has to know, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anmok.tokens.comparing import Comparison

_MANY = 4  # names in one sentence


def findings(found: Comparison) -> list[str]:
    """How the texts were counted, and which figures mean less than they seem to."""
    return [*_texts(found), *_words(found), *_tokenizers(found)]


def warnings(found: Comparison) -> list[str]:
    """Figures that say nothing: what a tokenizer cannot read costs few tokens."""
    said = []
    for tokenizer in found.tokenizers:
        lossy = [row.count for row in found.of(tokenizer.name) if row.count.lost]
        if lossy:
            worst = sorted(lossy, key=lambda one: -one.lost_share)
            shares = [f"{one.language} {_percent(one.lost_share)}" for one in worst]
            said.append(
                f"{tokenizer.name} cannot read all characters ({_some(shares)}): its counts and premiums there say"
                " nothing, for what is lost costs no tokens"
            )
    return said


def _texts(found: Comparison) -> Iterator[str]:
    corpus = found.corpus
    if corpus.form == "none":
        yield "texts are counted as they stand, in no common Unicode form"
    elif corpus.recomposed:
        changed = [f"{code} {n}" for code, n in corpus.recomposed.items()]
        yield f"sentences that were not {corpus.form} and were brought to it: {_some(changed)}"
    if found.reference is None:
        why = "has no reference language" if corpus.is_parallel else "is not parallel"
        yield f"{corpus.name} {why}, so there are no premiums"


def _words(found: Comparison) -> Iterator[str]:
    languages = found.corpus.languages
    spaceless = [one.code for one in languages if not one.has_spaces]
    if spaceless:
        yield f"no spaces between words in {_some(spaceless)}: no tokens per word, no split words there"
    korean = [one for one in languages if one.is_korean]
    if korean:
        yield f"a word of {_some([one.code for one in korean])} is an eojeol, a stem with its particles and endings"
        if any(one.morphemes is None for one in korean):
            yield "whether Korean is cut between morphemes is not known: pip install kiwipiepy"


def _tokenizers(found: Comparison) -> Iterator[str]:
    lower = [one.name for one in found.tokenizers if one.is_lowercasing]
    if lower:
        yield f"text is lower-cased by {_some(lower)}, and by no other"
    special = [f"{one.name} {one.specials}" for one in found.tokenizers if one.specials]
    if special:
        yield f"special tokens are left out, but fill a context: {_some(special)} for each text"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _MANY
    return ", ".join(names[:_MANY]) + (f" and {rest} more" if rest > 0 else "")


def _percent(share: float) -> str:
    return "under 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
