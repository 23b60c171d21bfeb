"""Labels to prompts, and scores of tokens back to labels: by small numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anmok.errors import BadRequest, Untranslatable
from anmok.words import naming

COCO_LIKE = ("person", "traffic light", "cat", "dog", "teddy bear", "hair drier")


def test_labels_are_spelled_as_the_model_reads_them() -> None:
    got = naming.wanted(["Traffic  Light", "St. Bernard?", "light"], None, ("en",))
    assert got.phrases == ("light", "st bernard", "traffic light")  # sorted
    assert got.owners == ((2,), (1,), (0,))
    assert got.read_as == ("Traffic  Light", "St. Bernard?", "light")


def test_korean_labels_are_read_through_the_table_and_unknown_ones_refused() -> None:
    got = naming.wanted(["고양이", "꽹과리=gong"], None, ("en",))
    assert got.phrases == ("cat", "gong")
    assert got.read_as == ("cat", "gong")
    with pytest.raises(Untranslatable, match="꽹과리"):
        naming.wanted(["꽹과리"], None, ("en",))
    assert naming.wanted(["꽹과리"], None, ("en", "ko")).phrases == ("꽹과리",)


def test_phrases_replace_the_labels_and_count_for_them() -> None:
    got = naming.wanted(["feline", "canine"], [("cat", "cats", "고양이"), ("dog",)], ("en",))
    assert got.phrases == ("cat", "cats", "dog")
    assert got.owners == ((0, 1), (2,))  # 고양이 is cat, which stands there already
    assert got.read_as == ()


@pytest.mark.parametrize("label", ["...", " ? ", "."])
def test_a_label_of_separators_alone_is_refused(label: str) -> None:
    with pytest.raises(BadRequest, match="there is no word in it"):
        naming.wanted([label], None, ("en",))


def test_phrases_are_packed_evenly_and_in_order() -> None:
    assert naming.packed([3] * 10, 30) == (tuple(range(10)),)
    # Greedy filling would give 9 and 1.
    assert naming.packed([3] * 10, 29) == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    assert naming.packed([5, 1, 1, 5], 6) == ((0, 1), (2, 3))
    assert naming.packed([], 6) == ()
    with pytest.raises(BadRequest, match="a label of 7 tokens, where one prompt has room for 6: shorten it"):
        naming.packed([2, 7], 6)


@given(st.lists(st.integers(1, 12), max_size=60), st.integers(12, 40))
def test_packing_keeps_every_phrase_and_the_bound(lengths: list[int], room: int) -> None:
    groups = naming.packed(lengths, room)
    assert [i for group in groups for i in group] == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in group) <= room for group in groups)
    # Two neighbours that fit together would be one group; so there are fewer than twice as many as must be.
    assert len(groups) <= 2 * -(-sum(lengths) // room)


def test_a_prompt_keeps_its_phrases_apart() -> None:
    got = naming.prompt([(7, 8), (9,)], start=101, stop=1012, end=102)
    assert got.ids.tolist() == [101, 7, 8, 1012, 9, 1012, 102]
    assert got.places.tolist() == [0, 0, 1, 2, 0, 1, 0]
    assert got.spans == ((1, 3), (4, 5))
    assert got.together.astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]


def test_a_phrase_scores_by_the_best_of_its_own_tokens() -> None:
    #                    start  traffic light stop  light stop  end
    tokens = np.asarray([[0.99, 0.20, 0.60, 0.98, 0.50, 0.97, 0.96], [0.0, 0.1, 0.2, 0.9, 0.7, 0.9, 0.9]], np.float32)
    got = naming.phrase_scores(tokens, ((1, 3), (4, 5)))
    np.testing.assert_array_equal(got, np.asarray([[0.6, 0.5], [0.2, 0.7]], np.float32))


def test_traffic_light_and_light_stay_two_labels() -> None:
    """Both words of the first box score above any threshold, and so does the other label: one whole label comes
    back, the better one, and never ``traffic light light``."""
    sought = naming.wanted(["traffic light", "light"], None, ("en",))
    assert sought.phrases == ("light", "traffic light")
    tokens = np.asarray([[0, 0.5, 0, 0.6, 0.7, 0, 0], [0, 0.8, 0, 0.1, 0.7, 0, 0]], np.float32)
    scores, class_ids = naming.named(naming.phrase_scores(tokens, ((1, 2), (3, 5))), sought.owners)
    assert class_ids.tolist() == [0, 1]
    np.testing.assert_array_equal(scores, np.asarray([0.7, 0.8], np.float32))


def test_any_phrase_counts_for_its_label_and_ties_go_to_the_first() -> None:
    phrases = np.asarray([[0.1, 0.9, 0.3], [0.2, 0.2, 0.2], [0.0, 0.0, 0.4]], np.float32)
    scores, class_ids = naming.named(phrases, ((0, 1), (2,)))
    assert class_ids.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(scores, np.asarray([0.9, 0.2, 0.4], np.float32))
    _, same = naming.named(phrases, ((2,), (0, 1), (2,)))  # one phrase of two labels
    assert same.tolist() == [1, 0, 0]


def test_no_box_at_all_is_named_as_none() -> None:
    scores, class_ids = naming.named(np.zeros((0, 3), np.float32), ((0,), (1, 2)))
    assert scores.shape == class_ids.shape == (0,)


def test_classes_of_a_closed_set_are_found_by_name() -> None:
    labels = ["Dog", "곰 인형=teddy bear", "traffic light"]
    assert naming.chosen(COCO_LIKE, naming.wanted(labels, None, ("en",)), labels) == ((3,), (4,), (1,))
    other = ["Hair Dryer"]
    assert naming.chosen(COCO_LIKE, naming.wanted(other, None, ("en",)), other) == ((5,),)
    groups = naming.wanted(["pet"], [("cat", "dog")], ("en",))
    assert naming.chosen(COCO_LIKE, groups, ["pet"]) == ((2, 3),)


def test_a_class_that_the_set_does_not_have_is_refused_with_the_nearest() -> None:
    for label, message in {
        "hair drying": "hair drying is none of the 6 classes of this model; did you mean hair drier?",
        "쥐": "쥐 .(rat|mouse). is none of the 6 classes of this model; ",
        "xylophone": "xylophone is none of the 6 classes of this model; a model that reads text finds other things",
    }.items():
        with pytest.raises(BadRequest, match=message):
            naming.chosen(COCO_LIKE, naming.wanted([label], None, ("en",)), [label])
