from __future__ import annotations

import pytest

from anmok.errors import BadRequest
from anmok.evidence.intervals import wilson
from anmok.evidence.power import images_for_half_width, images_to_settle, interval_for, winners_curse

GAINS = (0.01, 0.02, 0.03, 0.05)
TABLE = {
    0.05: (3_923, 979, 434, 155),
    0.10: (7_847, 1_960, 870, 312),
    0.20: (15_696, 3_923, 1_742, 626),
    0.30: (23_545, 5_885, 2_614, 940),
}
CURSE = {  # images: points for the best of 5, 10, 20, 40
    20: (7.0, 9.5, 11.4, 12.8),
    50: (4.6, 6.1, 7.3, 8.7),
    100: (3.5, 4.4, 5.4, 6.0),
    200: (2.5, 3.2, 3.9, 4.6),
    500: (1.6, 1.9, 2.4, 2.7),
    1_000: (1.1, 1.5, 1.7, 2.0),
}


@pytest.mark.parametrize("disagreement", TABLE)
def test_images_to_settle_is_the_table(disagreement: float) -> None:
    assert tuple(images_to_settle(gain, disagreement) for gain in GAINS) == TABLE[disagreement]


def test_images_to_settle_scales_with_what_it_should() -> None:
    assert images_to_settle(-0.05, 0.1) == 312
    assert images_to_settle(0.05, 0.1, design_effect=3) == pytest.approx(3 * 312, abs=3)
    assert images_to_settle(0.05, 0.1, power=0.9) > 400
    assert images_to_settle(0.05, 0.1, alpha=0.01) > 400
    assert images_to_settle(0.05, 0.05) == 155


@pytest.mark.parametrize(("gain", "disagreement"), [(0, 0.1), (0.2, 0.1), (0.1, 1.1), (float("nan"), 0.1)])
def test_images_to_settle_refuses_impossible_gains(gain: float, disagreement: float) -> None:
    with pytest.raises(BadRequest):
        images_to_settle(gain, disagreement)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.8, 0.97, 1.0])
@pytest.mark.parametrize("half_width", [0.005, 0.02, 0.1, 0.3])
def test_images_for_half_width_is_the_fewest(p: float, half_width: float) -> None:
    n = images_for_half_width(p, half_width)
    assert interval_for(n, p).half_width <= half_width + 1e-12
    assert n == 1 or interval_for(n - 1, p).half_width > half_width


def test_interval_for_is_what_labels_would_give() -> None:
    assert interval_for(200, 0.8) == wilson(160, 200)
    assert interval_for(200, 0.8).half_width == pytest.approx(0.0553, abs=2e-4)
    with pytest.raises(BadRequest):
        images_for_half_width(0.8, 0)


@pytest.mark.parametrize("n", CURSE)
def test_winners_curse_is_the_table(n: int) -> None:
    for k, points in zip((5, 10, 20, 40), CURSE[n], strict=True):
        assert 100 * winners_curse(k, n) == pytest.approx(points, abs=0.3)


def test_winners_curse_of_one_is_none_and_it_repeats_itself() -> None:
    assert winners_curse(1, 50) < 0.002
    assert winners_curse(5, 50, rho=1.0) < 0.003
    assert winners_curse(5, 50, seed=3) == winners_curse(5, 50, seed=3)
    with pytest.raises(BadRequest):
        winners_curse(0, 50)
