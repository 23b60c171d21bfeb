"""Records what published weights answer: ``python -m tests.golden.make mini efficientnet-lite2 minilm-l6``.

Run it from the root of the checkout, where the weights are (``anmok pull NAME``), once for a card; look at the
difference before a file is replaced, for a golden that follows the code proves nothing. Then write ``golden`` into
the card's ``verified``. ``tests/test_goldens.py`` compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anmok.errors import Unsupported
from anmok.inputs import Text
from anmok.load import Model, load

HERE = Path(__file__).parent
KEPT = 8  # values of each vector
LABELS = ("red stripes", "a blue circle", "a chess board")
QUESTIONS = ("What is the capital of France?", "Write the numbers from 7 to 12.")
TOKENS = 12  # of an answer
SENTENCES = ("a photo of a cat", "Two dogs are sleeping on the sofa.", "solar cell with a crack")


def pictures() -> dict[str, NDArray[np.uint8]]:
    """Whole numbers alone, so that they are the same on every machine: (H, W, 3), of three shapes."""
    y, x = np.mgrid[0:240, 0:320]
    stripes = np.stack([x // 20 % 2 * 230, (x + y) // 8 % 60, (x * y) // 700 % 50], -1)
    y, x = np.mgrid[0:301, 0:211]
    is_inside = (x - 105) ** 2 + (y - 150) ** 2 < 80**2
    disc = np.stack([np.where(is_inside, 20, 235), y % 128 + 60, np.where(is_inside, 220, 240)], -1)
    y, x = np.mgrid[0:128, 0:128]
    board = np.repeat(((x // 16 + y // 16) % 2 * 255)[:, :, None], 3, 2)
    named = {"stripes": stripes, "disc": disc, "board": board}
    return {name: image.astype(np.uint8) for name, image in named.items()}


def measured(model: Model) -> dict[str, Any]:
    """The first values of every vector that the model makes, its scores where it classifies, and how its answers begin
    where it talks."""
    answers: dict[str, Any] = {}
    for space in ("features", "image"):
        for name, image in pictures().items():
            answers[f"{space} of {name}"] = _of_picture(model, image, space)
    for sentence in SENTENCES:
        answers[f"text {sentence!r}"] = _of_text(model, sentence)
    if "classify" in model.card.tasks:
        for name, image in pictures().items():
            answers[f"scores of {name}"] = model.classify(image, LABELS).scores.tolist()
    if "chat" in model.card.tasks:
        for question in QUESTIONS:
            answers[f"answer to {question!r}"] = model.chat(question, max_tokens=TOKENS).text
        for name, image in pictures().items() if model.kind.most_pictures else ():
            answers[f"answer about {name}"] = model.chat(image, "What is this?", max_tokens=TOKENS).text
    return {name: values for name, values in answers.items() if values}


def _of_picture(model: Model, image: NDArray[np.uint8], space: Any) -> list[float]:
    try:
        return model.embed(image, space=space).vector[:KEPT].tolist()
    except Unsupported:  # it reads texts only
        return []


def _of_text(model: Model, sentence: str) -> list[float]:
    try:
        return model.embed(Text(sentence)).vector[:KEPT].tolist()
    except Unsupported:  # it sees pictures only
        return []


def main(names: list[str]) -> None:
    for name in names:
        model = load(name, device="cpu")
        content = {"card": name, "maker": model.maker, "values": measured(model)}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {len(content['values'])} recorded")


if __name__ == "__main__":
    main(sys.argv[1:])
