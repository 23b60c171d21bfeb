"""Results and asks: frozen, checked, and plain JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from anmok.errors import (
    AnmokError,
    BadData,
    BadMedia,
    BadRequest,
    BadWeights,
    CannotWrite,
    GateFailed,
    LicenceRequired,
    MissingDependency,
    UnknownModel,
    Unsupported,
    Untranslatable,
    WeightsUnavailable,
    WrongState,
)
from anmok.inputs import Encoded
from anmok.results import Embedding, Failure, Result, Scores
from anmok.tasks import Classify, Embed


def scores(**other: object) -> Scores:
    values: dict[str, object] = {
        "labels": ("cat", "dog", "owl"),
        "scores": np.asarray([0.2, 0.5, 0.3]),
        "scoring": "softmax",
    }
    return Scores(**(values | other))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (AnmokError, 1, 500),
        (BadRequest, 2, 422),
        (Untranslatable, 2, 422),
        (WrongState, 2, 409),
        (Unsupported, 2, 501),
        (BadMedia, 3, 422),
        (BadData, 3, 422),
        (UnknownModel, 4, 404),
        (LicenceRequired, 5, 403),
        (MissingDependency, 6, 501),
        (WeightsUnavailable, 7, 503),
        (BadWeights, 8, 500),
        (CannotWrite, 9, 507),
        (GateFailed, 10, 409),
    ],
)
def test_exit_codes_and_statuses(error: type[AnmokError], code: int, status: int) -> None:
    assert (error.exit_code, error.status) == (code, status)
    assert issubclass(error, AnmokError)


def test_results_are_frozen_and_their_arrays_cannot_be_written() -> None:
    source = np.asarray([0.2, 0.5, 0.3])
    result = scores(scores=source)
    source[0] = 9.0
    assert result.scores.dtype == np.float32
    assert result.scores[0] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="read-only"):
        result.scores[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.threshold = 0.5  # type: ignore[misc]
    vector = Embedding(np.ones(4), "image")
    with pytest.raises(ValueError, match="read-only"):
        vector.vector[0] = 1.0
    assert not hasattr(vector, "__dict__")  # nothing can be smuggled in


def test_results_compare_by_identity() -> None:
    assert scores() != scores()
    assert len({scores(), scores()}) == 2


@pytest.mark.parametrize("wrong", [np.zeros(2), np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(0)])
def test_scores_of_another_shape_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(BadRequest, match=r"Scores.scores: want shape \(3,\)"):
        scores(scores=wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(wrong: float) -> None:
    with pytest.raises(BadRequest, match="not a number"):
        scores(scores=np.asarray([0.1, wrong, 0.2]))
    with pytest.raises(BadRequest, match="not a number"):
        Embedding(np.asarray([wrong]), "text")


def test_a_vector_has_one_dimension_and_a_reading_per_label() -> None:
    with pytest.raises(BadRequest, match="want shape"):
        Embedding(np.zeros((2, 3)), "image")
    with pytest.raises(BadRequest, match="one reading per label"):
        scores(read_as=("cat",))


def test_label_score_and_top() -> None:
    result = scores()
    assert (result.label, result.score) == ("dog", pytest.approx(0.5))
    assert [label for label, _ in result.top()] == ["dog", "owl", "cat"]
    assert [label for label, _ in result.top(1)] == ["dog"]
    assert [label for label, _ in scores(top_k=2).top()] == ["dog", "owl"]
    assert [label for label, _ in scores(scores=np.full(3, 0.3)).top()] == ["cat", "dog", "owl"]


def test_the_model_abstains_below_the_threshold() -> None:
    assert scores(threshold=0.5).label == "dog"
    assert scores(threshold=0.51).label is None
    assert scores(threshold=0.51).to_dict()["label"] is None


def test_json_is_plain_and_keeps_hangul() -> None:
    result = scores(labels=("고양이", "개", "새"), read_as=("cat", "dog", "bird"), top_k=2)
    text = result.to_json()
    assert "고양이" not in text.split("read_as")[0]  # third by score
    assert json.loads(text) == {
        "label": "개",
        "scores": [
            {"label": "개", "score": pytest.approx(0.5)},
            {"label": "새", "score": pytest.approx(0.3)},
        ],
        "scoring": "softmax",
        "read_as": {"고양이": "cat", "개": "dog", "새": "bird"},
    }
    assert "read_as" not in scores(read_as=("cat", "dog", "owl")).to_dict()
    assert Embedding(np.asarray([0.5, -1]), "image").to_dict() == {"space": "image", "vector": [0.5, -1.0]}
    failure = Failure("x.jpg", BadMedia("x.jpg: no such file"))
    assert failure.to_dict() == {"source": "x.jpg", "error": "BadMedia", "message": "x.jpg: no such file"}
    with pytest.raises(NotImplementedError):
        Result().to_dict()


# --- asks ----------------------------------------------------------------------------------------------------


def test_equal_asks_are_equal_values() -> None:
    assert Classify(("a", "b")) == Classify(("a", "b"))
    assert hash(Classify(("a", "b"), top_k=2)) == hash(Classify(("a", "b"), top_k=2))
    assert Classify(("a", "b")) != Classify(("b", "a"))
    assert Embed() == Embed("image") != Embed("features")
    assert (Classify.task, Embed.task) == ("classify", "embed")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Classify(("a",)).top_k = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "phrase"),
    [
        ({"labels": ()}, "give at least one"),
        ({"labels": ("cat", " ")}, "one of them is empty"),
        ({"labels": ("cat", "dog", "cat")}, "given twice: cat"),
        ({"templates": ("a photo",)}, "exactly one {}"),
        ({"templates": ("{} and {}",)}, "exactly one {}"),
        ({"templates": ()}, "give at least one"),
        ({"descriptions": (("a cat",),)}, "one group of sentences per label"),
        ({"descriptions": (("a cat",), ())}, "at least one sentence"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"threshold": -0.1}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"top_k": 0}, "at least 1"),
    ],
)
def test_questions_without_sense_are_refused(wrong: dict[str, object], phrase: str) -> None:
    with pytest.raises(BadRequest, match=phrase):
        Classify(**({"labels": ("cat", "dog")} | wrong))  # type: ignore[arg-type]


def test_an_embedding_in_another_space_than_there_is_is_refused() -> None:
    with pytest.raises(BadRequest, match="space"):
        Embed("patches")  # type: ignore[arg-type]


def test_a_state_knows_its_size() -> None:
    state = Encoded("m", {"features": np.zeros(10, np.float32), "patches": np.zeros((2, 3), np.float64)})
    assert state.nbytes == 40 + 48
