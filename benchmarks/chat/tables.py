"""What is said of the numbers: a table per model, and whether ours is level with the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.chat.asking import Answer
    from benchmarks.chat.comparing import Results

_HEAD = "| runtime | prompt | tokens/s | first token ms | CPU ms/token | same text |"
_COMMANDS = "| `--runtime` | tokens in | tokens out | start to first letter s | start to last letter s |"
_LEVEL = 0.95  # of a peer's rate, or over its time, within which two are level
_BUSY = 1.5  # load beyond the threads that we use ourselves, from which on other work is seen in the numbers


def printed(out: Results) -> str:
    """Markdown."""
    lines = [f"{out.machine}; {out.threads} threads, answers of {out.new} tokens, medians (quartiles).", ""]
    for model in out.answers:
        lines += [f"**{model}**", "", _HEAD, "|---" * (_HEAD.count("|") - 1) + "|", *_table(out, model), ""]
    if out.commands:
        lines += ["**anmok chat as a whole command**", "", _COMMANDS, "|---" * (_COMMANDS.count("|") - 1) + "|"]
        lines += [*_whole(out), ""]
    lines += [f"- {name}: {out.versions[name]}{'; ' if note else ''}{note}" for name, note in out.notes.items()]
    lines += [f"- {name}: did not run: {why}" for name, why in out.missing.items()]
    lines += ["", *(f"- {claim}" for model in out.answers for claim in claims(out, model))]
    if out.load_average and max(out.load_average) > out.threads + _BUSY:
        lines += ["", f"The machine had other work (load {max(out.load_average):.1f}): these numbers are no evidence."]
    return "\n".join(lines)


def claims(out: Results, model: str) -> Iterator[str]:
    """Ours against each peer, by the medians of the ratios of rounds; the first of ours is the one that chat picks."""
    rows = out.answers[model]
    ours = next((name for name in rows if name.startswith("anmok") and rows[name]), None)
    if ours is None:
        return
    for name in rows:
        if name.startswith("anmok"):
            continue
        for length, theirs in rows[name].items():
            mine = rows[ours].get(length, [])
            rates = [one.rate / two.rate for one, two in zip(mine, theirs, strict=False)]
            firsts = [two.first / one.first for one, two in zip(mine, theirs, strict=False)]
            if rates:
                yield (
                    f"{model}, {length} tokens: {_word(rates)} {name} in tokens a second, {_spread(rates, 2)} times; "
                    f"{_word(firsts)} it to the first token, {_spread(firsts, 2)} times as fast"
                )


def _word(ratios: Sequence[float]) -> str:
    middle = float(np.median(ratios))
    return "ahead of" if middle > 1 / _LEVEL else "level with" if middle >= _LEVEL else "behind"


def _table(out: Results, model: str) -> Iterator[str]:
    for name, by_length in out.answers[model].items():
        share = out.agreement.get(model, {}).get(name)
        same = "" if share is None else f"{100 * share:.0f} %"
        for length, answers in by_length.items():
            yield _row(name, length, answers, same)


def _whole(out: Results) -> Iterator[str]:
    for runtime, runs in out.commands.items():
        first, last = [one.first for one in runs], [one.last for one in runs]
        yield f"| {runtime} | {runs[0].tokens_in} | {runs[0].tokens_out} | {_spread(first, 2)} | {_spread(last, 2)} |"


def _row(name: str, length: int, answers: Sequence[Answer], same: str) -> str:
    rate, first = [one.rate for one in answers], [1000 * one.first for one in answers]
    cpu = [1000 * one.cpu for one in answers]
    return f"| {name} | {length} | {_spread(rate)} | {_spread(first, 0)} | {_spread(cpu)} | {same} |"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """``21.3 (20.9 to 21.8)``."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
