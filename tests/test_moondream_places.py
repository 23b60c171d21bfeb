"""Where Moondream points, what it boxes, and where it says that somebody looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anmok import Detect, Gaze, Pointing
from anmok.errors import BadRequest, Unsupported, Untranslatable
from anmok.inputs import Prompted
from anmok.load import tiny
from anmok.nets import moondream as net
from anmok.nets.moondream_mind import TorchMind, places
from battery import picture
from toy_moondream import GRID, NAMES, PHRASES, kind, mind, model, state_of


def sorted_rows(found: Any) -> NDArray[np.float64]:
    rows = np.concatenate([found.xyxy, found.scores[:, None]], 1).astype(np.float64)
    return rows[np.lexsort(rows.T)]


def test_labels_are_asked_one_by_one_in_any_order() -> None:
    state = state_of((61, 83))
    both, turned = (model().detect(state, labels) for labels in (["cat", "dog"], ["dog", "cat"]))
    cats, dogs = (model().detect(state, [label]) for label in ("cat", "dog"))
    assert len(both) == len(cats) + len(dogs) > 0
    np.testing.assert_array_equal(sorted_rows(both), sorted_rows(turned))
    np.testing.assert_array_equal(sorted_rows(both[both.class_ids == 0]), sorted_rows(cats))
    np.testing.assert_array_equal(sorted_rows(both[both.class_ids == 1]), sorted_rows(dogs))
    assert (np.diff(both.scores) <= 0).all()
    assert ((both.scores > 0) & (both.scores <= 1)).all()


def test_what_is_found_is_thinned_out_as_asked() -> None:
    state = state_of((61, 83))
    [every] = model().run([state], Detect(("cat", "dog")))
    middle = float(np.median(every.scores))
    [sure] = model().run([state], Detect(("cat", "dog"), threshold=middle))
    assert 0 < len(sure) == int((every.scores >= middle).sum()) < len(every)
    [top] = model().run([state], Detect(("cat", "dog"), top_k=2))
    np.testing.assert_array_equal(top.xyxy, every.xyxy[:2])
    [apart] = model().run([state], Detect(("cat", "dog"), nms=0.01))
    assert 0 < len(apart) < len(every)


def test_phrases_of_one_label_are_looked_for_together() -> None:
    state = state_of((61, 83))
    [found] = model().run([state], Detect(("pet",), phrases=(("cat", "dog"),), nms=1.0))
    assert len(found) == len(model().detect(state, ["cat", "dog"]))
    assert found.names == ("pet",) * len(found)
    [twice] = model().run([state], Detect(("pet",), phrases=(("cat", "cat"),), nms=1.0))
    assert len(twice) == len(model().detect(state, ["cat"]))


def test_korean_labels_are_translated_or_refused() -> None:
    state = state_of((61, 83))
    korean, english = (model().detect(state, [label]) for label in ("고양이", "cat"))
    assert (korean.labels, korean.read_as) == (("고양이",), ("cat",))
    np.testing.assert_array_equal(korean.xyxy, english.xyxy)
    with pytest.raises(Untranslatable, match="꽹과리"):
        model().detect(state, ["꽹과리"])


def test_labels_that_cannot_be_asked_are_refused_in_one_line() -> None:
    state = state_of((20, 20))
    with pytest.raises(BadRequest, match="moondream2 finds what a text names: give labels"):
        model().detect(state)
    with pytest.raises(BadRequest, match=r"label 'x+' has 605 tokens, more than moondream2 reads"):
        model().detect(state, ["x" * 600])


@pytest.mark.parametrize("name", NAMES)
def test_points_lie_in_the_picture(name: str) -> None:
    state = state_of((61, 183), 2, name)
    found = model(name).point(state, ["cat"])
    assert found.xy.dtype == np.float32
    assert 0 < len(found) <= 50
    assert found.names == ("cat",) * len(found)
    assert ((found.xy >= 0) & (found.xy <= (183, 61))).all()
    again = model(name).point(state_of((122, 366), 2, name), ["cat"])
    assert len(again) == 0 or again.xy.max() > 183  # in its own pixels, not in those of the net


@pytest.mark.parametrize("name", NAMES)
def test_points_are_the_shares_of_the_walk_in_pixels(name: str) -> None:
    """x and y as the net says them, times width and height, which is the authors' own reading."""
    state, one = state_of((61, 183), 2, name), kind(name)
    walks = [one._walked(state, label, one._phrases.point, has_size=False) for label in ("cat", "dog")]
    [both] = model(name).run([state], Pointing(("cat", "dog")))
    wanted = [(np.float32(at.score), number, at.x * 183, at.y * 61) for number, walk in enumerate(walks) for at in walk]
    wanted = sorted(wanted, key=lambda row: -row[0])
    got = np.concatenate([both.scores[:, None], both.class_ids[:, None], both.xy], 1)
    assert len(got) == len(wanted) > 1
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-4)
    middle = float(np.median(both.scores))
    [sure] = model(name).run([state], Pointing(("cat", "dog"), threshold=middle, top_k=1))
    np.testing.assert_array_equal(sure.xy, both.xy[:1])
    [rest] = model(name).run([state], Pointing(("cat", "dog"), threshold=middle))
    assert len(rest) == int((both.scores >= middle).sum()) < len(both)


def test_points_of_korean_labels_are_those_of_the_english() -> None:
    state = state_of((61, 183), 2)
    korean, english = (model().point(state, [label]) for label in ("고양이", "cat"))
    assert (korean.labels, korean.read_as) == (("고양이",), ("cat",))
    np.testing.assert_array_equal(korean.xy, english.xy)
    with pytest.raises(Untranslatable, match="꽹과리"):
        model().point(state, ["꽹과리"])
    with pytest.raises(BadRequest, match=r"label 'x+' has 605 tokens, more than moondream2 reads"):
        model().point(state, ["x" * 600])


def test_gazes_of_eyes_end_in_the_picture_or_nowhere() -> None:
    state = state_of((61, 183), 2)
    eyes = [(x, 30.0, 1) for x in (0.0, 60.0, 120.0, 183.0)]
    found = model().run([Prompted(state, points=(eye,)) for eye in eyes], Gaze())
    assert [one.eyes.tolist() for one in found] == [[[x, 30.0]] for x, _, _ in eyes]
    assert [len(one.faces) for one in found] == [0, 0, 0, 0]
    for one in found:
        assert ((one.targets >= 0) & (one.targets <= (183, 61))).all()
        # Where something is likelier than the end of the text, the end has less than half.
        assert bool(one.is_inside[0]) <= (one.scores[0] > 0.5)
    assert {bool(one.is_inside[0]) for one in found} == {True, False}
    with pytest.raises(BadRequest, match=r"point \(184, 3\) lies outside the picture of 183 x 61"):
        model().run([Prompted(state, points=((184.0, 3.0, 1),))], Gaze())


def test_a_face_looks_from_its_middle_and_all_faces_are_looked_for() -> None:
    state = state_of((61, 183), 2)
    boxes = ((10.0, 10.0, 40.0, 50.0), (170.0, 50.0, 200.0, 90.0))
    [faces] = model().run([Prompted(state, boxes=boxes)], Gaze())
    assert faces.faces.tolist() == [[10, 10, 40, 50], [170, 50, 183, 61]]  # within the picture
    assert faces.eyes.tolist() == [[25, 30], [176.5, 55.5]]
    alone = [model().gaze(Prompted(state, points=((x, y, 1),))) for x, y in faces.eyes.tolist()]
    np.testing.assert_array_equal(faces.targets, np.concatenate([one.targets for one in alone]))
    np.testing.assert_array_equal(faces.scores, np.concatenate([one.scores for one in alone]))
    found = model().detect(state, ["face"])
    every = model().gaze(state)
    np.testing.assert_array_equal(every.faces, found.xyxy)
    np.testing.assert_allclose(every.eyes, (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2, rtol=0, atol=1e-4)
    assert len(model().run([state], Gaze(face=1.0))[0]) == 0


def test_somebody_who_looks_out_of_the_picture_looks_nowhere() -> None:
    loaded = tiny("moondream2", 1)
    with torch.no_grad():
        loaded.kind._mind._net.text.lm_head.bias[PHRASES.eos] += 1000.0
    found = loaded.gaze(Prompted(picture((61, 183), 2), points=((60.0, 30.0, 1),)))
    assert (found.is_inside.tolist(), found.targets.tolist()) == ([False], [[0, 0]])
    assert found.scores[0] == 0
    assert found.to_dict()["people"] == [{"eye": [60, 30], "target": None, "score": 0}]
    assert len(loaded.gaze(picture((61, 183), 2))) == 0  # nor is there a face


def test_a_gaze_is_asked_of_faces_or_of_one_eye() -> None:
    image = picture((61, 183), 2)
    refused = [
        (Prompted(image, points=((1, 1, 1), (9, 9, 1))), "gaze takes one point"),
        (Prompted(image, points=((1, 1, 0),)), "gaze takes one point"),
        (Prompted(image, exemplars=(((1, 1, 9, 9), 1),)), "no masks or exemplars"),
        (Prompted(image, mask=np.ones((61, 183), np.bool_)), "no masks or exemplars"),
    ]
    for prompt, message in refused:
        with pytest.raises(BadRequest, match=message):
            model().gaze(prompt)
    [both] = model().run([Prompted(image, points=((20, 20, 1),), boxes=((10, 10, 40, 50),))], Gaze())
    assert (both.eyes.tolist(), both.faces.tolist()) == ([[20, 20]], [[10, 10, 40, 50]])
    assert len(model().gaze(Prompted(image)).faces) == len(model().detect(image, ["face"]))
    with pytest.raises(Unsupported, match=r"moondream-0.5b-int8 does not gaze"):
        model(NAMES[1]).gaze(image)


def test_a_walk_ends_where_the_model_says_or_the_context_does() -> None:
    never = TorchMind(net.Moondream(net.TINY), "cpu", torch.float32)
    with torch.no_grad():
        never._net.text.lm_head.bias[0] = -1000.0
    memory = never.begin(0, None)
    found = places(never, never.copied(memory, 0), never.words((1, 2)), 0, most=7, has_size=True)
    assert len(found) == 7
    found = places(never, never.copied(memory, 0), never.words((1, 2)), 0, most=1000, has_size=True)
    assert len(found) == (512 - 3) // 3
    with torch.no_grad():
        never._net.text.lm_head.bias[0] = 1000.0
    assert places(never, never.copied(memory, 0), never.words((1, 2)), 0, most=7, has_size=True) == []


def test_a_score_is_the_chance_that_there_is_one_more() -> None:
    rows = np.random.default_rng(1).normal(size=(GRID, 64)).astype(np.float32)
    memory, ids = mind().begin(0, rows), mind().words((1, 268, 2, 3))
    logits, _ = mind().read(mind().copied(memory, 0), ids)
    [first] = places(mind(), mind().copied(memory, 0), ids, 0, most=1, has_size=True)
    raised = np.exp(logits.astype(np.float64))
    assert first.score == pytest.approx(1 - raised[0] / raised.sum(), rel=1e-6)
    assert 0.5 < first.score < 1.0


def test_sizes_stand_on_steps_of_the_logarithm() -> None:
    heads = net.PlaceHeads(net.Places(bins=8, sizes=2048, inner=4), 8).eval()
    for width_bin, height_bin in ((0, 1023), (1023, 0), (512, 341)):
        with torch.no_grad():
            heads.size_decoder.fc2.bias.zero_()
            heads.size_decoder.fc2.bias[[width_bin, 1024 + height_bin]] = 1000.0
            width, height = heads.size(torch.zeros(8))
        assert width == pytest.approx(2 ** (width_bin / 1023 * 10 - 10), rel=1e-6)
        assert height == pytest.approx(2 ** (height_bin / 1023 * 10 - 10), rel=1e-6)
