"""Recorded numbers of the published weights. A card that claims ``golden`` without a record is red, not skipped.

Made by ``python -m tests.test_goldens``, after the numbers were compared with the public implementations.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import anmok
from anmok.inputs import Item

FOLDER = Path(__file__).parent / "golden"
SENTENCES = ("a photo of a cat.", "solar cells under electroluminescence", "An old blue bicycle leans on the wall.")
CLAIMED = [card.name for card in anmok.cards() if card.verified.golden]
# float32 sums in another order on another processor: the last two of seven digits.
TOLERANCE = 1e-4


def picture(index: int) -> NDArray[np.uint8]:
    """A pattern of waves, (200 + 30 index, 260, 3): no file, the same everywhere."""
    y, x = np.mgrid[: 200 + 30 * index, :260]
    waves = [np.sin(x / (9 + 4 * c + index)) * np.cos(y / (7 + 3 * c)) for c in range(3)]
    return np.round(np.stack(waves, 2) * 127 + 128).astype(np.uint8)


def measured(name: str) -> dict[str, list[list[float]]]:
    """The first eight values of each vector that the model makes."""
    model = anmok.load(name)
    pictures: list[Item] = [picture(i) for i in range(3)]
    texts: list[Item] = [anmok.Text(text) for text in SENTENCES]
    found: dict[str, list[list[float]]] = {}
    if name != "minilm-l6":
        found["features"] = rows(model, pictures, anmok.Embed(space="features"))
        found["image"] = rows(model, pictures, anmok.Embed())
    if name != "efficientnet-lite2":
        found["text"] = rows(model, texts, anmok.Embed())
    return found


def rows(model: anmok.Model, items: list[Item], ask: anmok.Embed) -> list[list[float]]:
    return [[round(float(v), 7) for v in answer.vector[:8]] for answer in model.run(items, ask)]


def test_the_small_models_claim_goldens() -> None:
    assert CLAIMED == ["mini", "efficientnet-lite2", "minilm-l6"]


@pytest.mark.weights
@pytest.mark.parametrize("name", CLAIMED)
def test_golden(name: str) -> None:
    recorded = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    found = measured(name)
    assert found.keys() == recorded.keys()
    for key, values in recorded.items():
        np.testing.assert_allclose(found[key], values, rtol=0, atol=TOLERANCE, err_msg=f"{name} {key}")


@pytest.mark.weights
def test_mini_tells_a_cat_from_a_dog_in_words() -> None:
    model = anmok.load("mini")
    cat, kitten, truck = (model.embed(anmok.Text(text)).vector for text in ("cat", "kitten", "truck"))
    assert cat @ kitten > 0.7
    assert cat @ truck < 0.45


def main() -> None:
    for name in CLAIMED:
        text = json.dumps(measured(name), indent=1) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
