"""What it is worth that a conversation is read from where it parts with an earlier one.

``python benchmarks/chat_memory.py PHOTO [--model mini-chat] [--threads 2] [--rounds 3]``: ten questions about one photo
in one conversation that grows, the picture encoded once; with the memory as it is, and with the memory emptied before
each question, by turns. Prints JSON: the prompt's tokens and the median seconds to the first token of each question.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import torch

import anmok
from anmok.inputs import Encoded
from anmok.load import Model

QUESTIONS = (
    "What is this?",
    "What color is it?",
    "Is there a dog?",
    "How many people are there?",
    "Describe the photo.",
    "Is there a car?",
    "Are you sure?",
    "What else might it be?",
    "Is there a tree?",
    "So, what is this?",
)
TOKENS = 12  # of an answer


def asked(model: Model, state: Encoded, is_reusing: bool) -> list[anmok.Reply]:
    """The answers, one conversation from end to end."""
    kind: Any = model.kind
    speaker = getattr(kind, "_talks", kind)._speaker
    speaker._memory = []
    said = anmok.Conversation.about(state, question=QUESTIONS[0])
    replies: list[anmok.Reply] = []
    for question in (*QUESTIONS[1:], ""):
        if not is_reusing:
            speaker._memory = []
        replies += model.run([said], anmok.Chat(TOKENS))
        if question:
            said = said.then(replies[-1].text, question)
    return replies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="mini-chat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    model = anmok.load(told.model, device="cpu", runtime="fastest")
    [state] = model.encode([told.photo])
    model.run([anmok.Conversation.about(state, question="Hm?")], anmok.Chat(2))  # to warm up
    runs: dict[bool, list[list[anmok.Reply]]] = {True: [], False: []}
    for _ in range(told.rounds):
        for is_reusing in (True, False):
            runs[is_reusing].append(asked(model, state, is_reusing))
    texts = [[reply.text for reply in run] for both in runs.values() for run in both]
    first = {
        is_reusing: [median(run[i].seconds_to_first for run in some) for i in range(len(QUESTIONS))]
        for is_reusing, some in runs.items()
    }
    content = {
        "model": told.model,
        "threads": told.threads,
        "answers": texts[0],
        "runs with the same answers": sum(some == texts[0] for some in texts),
        "runs": len(texts),
        "others": [[i, some[i]] for some in texts for i in range(len(some)) if some[i] != texts[0][i]],
        "tokens": [reply.tokens_in for reply in runs[True][0]],
        "seconds to first, reusing": [round(one, 3) for one in first[True]],
        "seconds to first, reading all": [round(one, 3) for one in first[False]],
        "median from the second question on": [round(median(first[kind][1:]), 3) for kind in (True, False)],
    }
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
