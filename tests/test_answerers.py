"""Every form of a head: by hand, in a folder and back, and served as the ladder measured it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from anmok.errors import BadWeights
from anmok.load import Adapter, Answerer, Bottleneck, Cache, Head, Prompt, load, tiny
from anmok.tasks import Classify
from conftest import coloured

Array = NDArray[np.float32]
LABELS = ("red", "green", "blue")
F, D, K, N = 48, 6, 3, 5  # `fake` has 48 features


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def head() -> Head:
    return Head(numbers(K, D, seed=1), numbers(K, seed=2), projection=numbers(F, D, seed=3), is_normalised=True)


FORMS: dict[str, Answerer] = {
    "linear": head(),
    "cache": Cache(head(), numbers(N, D), np.abs(numbers(N, K)), 2.0, 0.5),
    "bottleneck": Bottleneck(head(), numbers(D, 2), numbers(2, D), 0.2),
    "prompt": Prompt(head(), numbers(4, 7)),
}
FORMS["cache of features"] = Cache(head(), numbers(N, F), np.abs(numbers(N, K)), 2.0, 0.5, is_projected=False)


def adapter(form: Answerer) -> Adapter:
    return Adapter("fake", load("fake").maker, LABELS, "few labels", head=form)


@pytest.mark.parametrize("name", FORMS)
def test_a_folder_gives_back_the_same_answers(name: str, tmp_path: Path) -> None:
    features = numbers(9, F, seed=5)
    adapter(FORMS[name]).write(tmp_path / "best")
    back = Adapter.read(tmp_path / "best").head
    assert back is not None
    assert back.kind == FORMS[name].kind == name.split()[0]
    assert back.nbytes == FORMS[name].nbytes == sum(array.nbytes for array in FORMS[name].tensors().values())
    np.testing.assert_array_equal(back.logits(features), FORMS[name].logits(features))


@pytest.mark.parametrize("name", FORMS)
def test_a_model_with_it_answers_as_it_does(name: str) -> None:
    model = tiny("fake").with_adapter(Adapter("fake", tiny("fake").maker, LABELS, "few labels", head=FORMS[name]))
    rng = np.random.default_rng(0)
    images = [coloured(colour, rng) for colour in LABELS]
    logits = FORMS[name].logits(np.stack([state.features for state in model.encode(images)])).astype(np.float64)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    scores = np.stack([answer.scores for answer in model.run(images, Classify(LABELS))])  # (3, K)
    np.testing.assert_allclose(scores, raised / raised.sum(1, keepdims=True), atol=1e-5)


def test_a_cache_is_its_formula() -> None:
    features, one = numbers(9, F, seed=5), FORMS["cache"]
    assert isinstance(one, Cache)
    rows = features @ one.head.projection
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = one.head.logits(features) + 2.0 * np.exp(-0.5 * (1 - rows @ one.keys.T)) @ one.values
    np.testing.assert_allclose(one.logits(features), wanted, rtol=1e-4, atol=1e-4)


def test_a_bottleneck_with_no_share_is_its_head_and_moves_rows_otherwise() -> None:
    features = numbers(9, F, seed=5)
    still = Bottleneck(head(), numbers(D, 2), numbers(2, D), 0.0)
    np.testing.assert_allclose(still.logits(features), head().logits(features), atol=1e-5)
    rows = head().rows(features)
    moved = np.maximum(np.maximum(rows @ numbers(D, 2), 0) @ numbers(2, D), 0)
    mixed = 0.2 * moved + 0.8 * rows
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    np.testing.assert_allclose(FORMS["bottleneck"].logits(features), head().answer(mixed), rtol=1e-4, atol=1e-4)


def test_a_folder_from_before_there_were_kinds_is_a_linear_head(tmp_path: Path) -> None:
    adapter(FORMS["linear"]).write(tmp_path / "best")
    toml = tmp_path / "best" / "anmok.toml"
    old = toml.read_text().replace('"kind" = "linear"\n', "")
    assert "kind" not in old
    toml.write_text(old)
    back = Adapter.read(tmp_path / "best").head
    assert isinstance(back, Head)
    np.testing.assert_array_equal(back.weight, head().weight)


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("linear", "bias", "weight"),
        ("cache", "keys", "keys"),
        ("bottleneck", "up", "down"),
        ("prompt", "context", "context"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, tensor: str, said: str, tmp_path: Path) -> None:
    adapter(FORMS[name]).write(tmp_path / "best")
    file = tmp_path / "best" / "head.safetensors"
    save_file({**load_file(file), tensor: numbers(8)}, file)
    with pytest.raises(BadWeights, match=f"{said} .*does not fit"):
        Adapter.read(tmp_path / "best")


def test_a_kind_of_a_later_version_is_named(tmp_path: Path) -> None:
    adapter(FORMS["prompt"]).write(tmp_path / "best")
    toml = tmp_path / "best" / "anmok.toml"
    toml.write_text(toml.read_text().replace('"prompt"', '"oracle"'))
    with pytest.raises(BadWeights, match="kind 'oracle'"):
        Adapter.read(tmp_path / "best")
