"""``tokens``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from anmok.cli.console import note, out, plain, print_json, progress_bar, warn
from anmok.errors import BadRequest, CannotWrite

if TYPE_CHECKING:
    from anmok.tokens import Comparison, Corpus, Form, Row, Terms, Tokenizer


def tokens_command(
    tokenizers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOKENIZER]...", help="utf-8, smollm2, clip-l14, ./tokenizer.json, owner/name ..."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; ko=... says its language. May be repeated.")] = None,
    file: Annotated[
        list[str] | None, typer.Option(help="A sentence a line; ko=FILE says its language. May be repeated.")
    ] = None,
    flores: Annotated[Path | None, typer.Option(help="A folder with FLORES-200: dev/ and devtest/.")] = None,
    languages: Annotated[str, typer.Option(help="With commas: en,ko,de. All by default.")] = "",
    reference: Annotated[str, typer.Option(help="The language that counts as one.")] = "en",
    context: Annotated[str, typer.Option(help="Tokens that models take, 77/64/8192: who overflows?")] = "",
    price: Annotated[
        list[str] | None, typer.Option(help="Of a million tokens: 2.50, or NAME=2.50. May be repeated.")
    ] = None,
    form: Annotated[str, typer.Option(help="Unicode normal form before counting: NFC, NFKC or none.")] = "NFC",
    output: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for JSON, CSV and a chart.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    accept_licence: Annotated[
        list[str] | None, typer.Option("--accept-licence", help="A licence you accept, by name.")
    ] = None,
) -> None:
    """Compare tokenizers: what the same sentence costs in Korean, German or Chinese, and whether it still fits.

    Example: anmok tokens utf-8 smollm2 clip --languages en,ko --context 77
    """
    from anmok.cli.outputs import check_folder
    from anmok.tokens import Terms, compare, findings, to_dict, warnings, write

    terms = Terms(_contexts(context), _prices(price or ()), seed)
    corpus = _corpus(text, file, flores, form)
    if languages:
        kept = [code.strip() for code in languages.split(",") if code.strip()]
        corpus = corpus.only([*dict.fromkeys([*([reference] if corpus.code_of(reference) else []), *kept])])
    if output is not None:
        if output.exists() and not output.is_dir():
            raise CannotWrite(f"--out {output}: is a file; give a folder")
        check_folder(output)
    chosen = _chosen(tokenizers or (), accept_licence or ())
    corpus, analyser = _with_morphemes(corpus)
    with progress_bar("count") as report:
        found = compare(chosen, corpus, reference, terms, report, analyser)
    if as_json:
        print_json(to_dict(found))
    else:
        _print(found, terms)
        for said in findings(found):
            note(said)
    for said in warnings(found):
        warn(said)
    if output is not None:
        note(f"{output}: {', '.join(write(found, output))}")


def _corpus(text: list[str] | None, file: list[str] | None, flores: Path | None, form: str) -> Corpus:
    from anmok.tokens import FORMS, from_files, from_flores, from_texts, own_sentences

    if form not in FORMS:
        raise BadRequest(f"--form {form}: want one of {', '.join(FORMS)}")
    how: Form = form  # type: ignore[assignment]  # one of FORMS
    if sum(one is not None for one in (text, file, flores)) > 1:
        raise BadRequest("give --text, --file or --flores: one of them")
    if text is not None:
        return from_texts(text, how)
    if file is not None:
        return from_files(file, how)
    return own_sentences(how) if flores is None else from_flores(flores, how)


def _contexts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.replace(",", "/").split("/") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise BadRequest(f"--context {text}: want numbers of tokens with / between them, such as 77/64/8192")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _prices(texts: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, amount = text.rpartition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise BadRequest(f"--price {text}: want what a million tokens cost, 2.50 or NAME=2.50") from None
    return found


def _chosen(names: Sequence[str], accept: Sequence[str]) -> list[Tokenizer]:
    """Those that were named; else the usual ones that are on this machine."""
    from anmok.tokens import USUAL, is_here, tokenizer

    if not names:
        absent = [name for name in USUAL if not is_here(name)]
        if absent:
            note(f"not on this machine and so left out: {', '.join(absent)}; name them to have them fetched")
        names = [name for name in USUAL if name not in absent]
    found = []
    for name in dict.fromkeys(names):
        with progress_bar(f"fetch {name}") as report:
            found.append(tokenizer(name, accept, _bytes(report)))
    return found


def _bytes(report: Callable[[int, int], None]) -> Callable[[str, int, int], None]:
    return lambda _file, done, total: report(done, total)


def _with_morphemes(corpus: Corpus) -> tuple[Corpus, str]:
    """The corpus with the morphemes of its Korean, and who found them."""
    from anmok.tokens import has_analyser, with_morphemes

    if any(one.morphemes is not None for one in corpus.languages):
        return corpus, "marked by hand"
    if not has_analyser() or not any(one.is_korean for one in corpus.languages):
        return corpus, ""
    languages = tuple(with_morphemes(one) if one.is_korean else one for one in corpus.languages)
    return replace(corpus, languages=languages), "Kiwi"


def _print(found: Comparison, terms: Terms) -> None:
    corpus = found.corpus
    sizes = {len(one.sentences) for one in corpus.languages}
    many = f"{_many(sizes.pop(), 'sentence')} each" if len(sizes) == 1 else "of several lengths"
    of = _many(len(corpus.languages), "language")
    out.print(plain(f"{corpus.name}: {of}, {many}, Unicode form {corpus.form}", "bold"), soft_wrap=True)
    for one in found.tokenizers:
        rows = found.of(one.name)
        vocabulary = f", {one.vocabulary:,} tokens" if one.vocabulary else ""
        out.print()
        out.print(plain(f"{one.name}  {one.kind}{vocabulary}", "bold"), soft_wrap=True)
        out.print(_counts(rows))
        if terms.contexts or any(row.cost_of_thousand is not None for row in rows):
            out.print(_contexts_table(rows, terms))
    if any(row.count.borders is not None for row in found.rows):
        out.print()
        out.print(
            plain(f"borders within Korean words{f' (morphemes {found.morphemes})' * bool(found.morphemes)}", "bold")
        )
        out.print(_borders(found))


def _table(*titles: str, names: int = 1, gap: int = 2) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 0, 0, gap))
    for i, title in enumerate(titles):
        table.add_column(title, justify="left" if i < names else "right", no_wrap=i >= names)
    return table


def _counts(rows: Sequence[Row]) -> Table:
    titles = ("tokens", "/sent", "/char", "/word", "split", "premium", "95 %", "median", "lost", "bytes")
    table = _table("", *titles, gap=1)  # with two, a long text's counts would not fit into eighty columns
    for row in rows:
        one, over = row.count, row.premium
        word = "-" if one.per_word is None else f"{one.per_word:.2f}"
        counts = (f"{one.tokens:,}", f"{one.tokens / one.sentences:.1f}", f"{one.tokens / one.characters:.2f}", word)
        premium = ("-", "-", "-")
        if over is not None:
            ends = over.interval
            between = "-" if ends is None else f"{ends.low:.2f}-{ends.high:.2f}"
            premium = (f"{over.value:.2f}{'' if row.is_meaningful else '?'}", between, f"{over.median:.2f}")
        shares = (_percent(one.lost_share), _percent(one.byte_share))
        table.add_row(plain(one.language), *counts, _percent(one.split_share), *premium, *shares)
    return table


def _contexts_table(rows: Sequence[Row], terms: Terms) -> Table:
    titles = [title for size in terms.contexts for title in (f"over {size}", f"of {size}")]
    has_price = any(row.cost_of_thousand is not None for row in rows)
    table = _table("", *titles, *(["1,000 sentences cost"] if has_price else []))
    for row in rows:
        cells = []
        for at in row.contexts:
            cells += [_percent(at.overflowing / row.count.sentences), _percent(at.mean_share)]
        if has_price:
            cells.append("-" if row.cost_of_thousand is None else f"{row.cost_of_thousand:.4g}")
        table.add_row(plain(row.count.language), *cells)
    return table


def _borders(found: Comparison) -> Table:
    table = _table("", "", "borders", "in bytes", "in jamo", "in a morpheme", "on a morpheme", names=2)
    for row in found.rows:
        one = row.count.borders
        if one is not None:
            kinds = (one.in_bytes, one.in_jamo, one.in_morpheme, one.on_morpheme)
            shares = (_percent(one.share(kind)) for kind in kinds)
            table.add_row(plain(row.count.tokenizer), plain(row.count.language), f"{one.total:,}", *shares)
    return table


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def _percent(share: float | None) -> str:
    """Never 0 % for what is there: ``<0.1 %``."""
    if share is None:
        return "-"
    return "<0.1 %" if 0 < share < 0.001 else f"{100 * share:.{1 if share < 0.1 else 0}f} %"
