from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anmok.errors import BadData, BadRequest
from anmok.evidence.compare import holm, mcnemar_midp, paired, trial

RNG = np.random.default_rng(11)
_START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _the_same_data_in_any_order() -> None:
    """Each test begins with a fresh generator, whichever tests ran before it in this process."""
    RNG.bit_generator.state = _START


def _pair(n: int, only_a: int, only_b: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) answers of two models that differ as asked; both have the rest right."""
    a, b = np.ones(n), np.ones(n)
    b[:only_a] = 0
    a[only_a : only_a + only_b] = 0
    return a, b


def test_paired_agrees_with_the_closed_form() -> None:
    # Bonett & Price 2012: variance ((b + c + 2) / (n + 2) - gain^2) / (n + 2)
    a, b = _pair(1_000, 30, 70)
    got = paired(a, b, seed=0)
    assert got.gain == pytest.approx(0.04)
    assert got.disagreement == pytest.approx(0.1)
    half = 1.96 * np.sqrt((102 / 1_002 - (40 / 1_002) ** 2) / 1_002)
    assert got.interval.low == pytest.approx(0.04 - half, abs=0.001)
    assert got.interval.high == pytest.approx(0.04 + half, abs=0.001)
    assert got.interval90.half_width == pytest.approx(half * 1.645 / 1.96, rel=0.04)
    assert (got.n_images, got.n_groups, got.n_draws) == (1_000, 1_000, 1)


@pytest.mark.parametrize(("only_a", "only_b"), [(30, 50), (40, 45), (10, 30), (60, 35)])
def test_p_is_near_mcnemar(only_a: int, only_b: int) -> None:
    a, b = _pair(600, only_a, only_b)
    assert paired(a, b, seed=0).p == pytest.approx(mcnemar_midp(only_a, only_b), rel=0.35, abs=0.02)


def test_p_is_where_the_interval_touches_zero() -> None:
    a, b = _pair(500, 25, 42)
    tried = trial([("A", a), ("B", b)], None, seed=0)
    gain = tried.gain("A", "B")
    p = gain.p_value()
    assert gain.interval(1 - 1.03 * p).low > 0 > gain.interval(1 - 0.97 * p).low
    assert tried.gain("B", "A").p_value() == pytest.approx(p, rel=0.3)


def test_identical_answers_are_the_same_only_on_enough_images() -> None:
    few, many = np.ones(50), np.ones(500)
    assert not paired(few, few, seed=0).is_same(0.01)
    got = paired(many, many, seed=0)
    assert got.is_same(0.01)
    assert got.p == pytest.approx(1.0, abs=0.02)
    # in groups of fifty, five hundred images are ten
    assert not paired(many, many, np.repeat(np.arange(10), 50), seed=0).is_same(0.01)


def test_groups_widen_the_interval() -> None:
    group = np.repeat(np.arange(40), 25)
    a = np.ones(1_000)
    a[group % 5 == 0] = 0  # B is right on whole groups that A has wrong
    got, plain = paired(a, np.ones(1_000), group, seed=0), paired(a, np.ones(1_000), seed=0)
    assert got.gain == plain.gain == pytest.approx(0.2)
    assert got.interval.half_width > 4 * plain.interval.half_width
    assert got.design_effect == pytest.approx(25, rel=0.15)
    assert got.n_groups == 40


def test_copies_add_nothing() -> None:
    a, b = _pair(200, 10, 30)
    plain = paired(a, b, seed=0)
    copied = paired(np.repeat(a, 6), np.repeat(b, 6), np.repeat(np.arange(200), 6), seed=0)
    assert copied.interval.low == pytest.approx(plain.interval.low, abs=0.004)
    assert copied.interval.high == pytest.approx(plain.interval.high, abs=0.004)


def test_draws_count_as_students_t_says() -> None:
    # B gains 0, 4 and 8 points on three supports: t interval 4 +- 4.303 * 4 / sqrt(3) = 4 +- 9.9 points
    a = np.ones((3, 5_000))
    b, low = a.copy(), RNG.permutation(5_000)
    a[:, low[:400]] = 0
    for draw, gained in enumerate((0, 200, 400)):
        b[draw, low[gained:400]] = 0
    got = paired(a, b, seed=0)
    assert got.gain == pytest.approx(0.04)
    assert got.interval.half_width == pytest.approx(0.099, rel=0.12)
    assert got.n_draws == 3
    assert got.draw_variance == pytest.approx((4.303 / 1.96) ** 2 * 0.04**2 / 3, rel=0.02)


def test_zero_shot_is_compared_with_every_draw() -> None:
    zero = RNG.random(400) < 0.7
    shots = RNG.random((5, 400)) < 0.8
    got = paired(zero, shots, seed=0)
    assert got.n_draws == 5
    assert got.gain == pytest.approx(shots.mean() - zero.mean())
    back = paired(shots, zero, seed=0)
    assert back.gain == pytest.approx(-got.gain)
    assert back.interval.low == pytest.approx(-got.interval.high, abs=0.01)


def test_rungs_with_fewer_draws_share_the_first_ones() -> None:
    ten, five = RNG.random((10, 300)) < 0.7, RNG.random((5, 300)) < 0.7
    got = trial([("ten", ten), ("five", five)], None, seed=0).contrasts([("ten", "five")])[0]
    assert got.n_draws == 5
    assert got.gain == pytest.approx(five.mean() - ten[:5].mean())


def test_a_seed_repeats_itself() -> None:
    a, b = RNG.random((3, 200)) < 0.7, RNG.random((3, 200)) < 0.75
    assert paired(a, b, seed=4) == paired(a, b, seed=4)
    assert paired(a, b, seed=4).interval != paired(a, b, seed=5).interval


def test_intervals_follow_holm() -> None:
    base = np.ones(1_000)
    models = [("base", 1 - base)]
    for k, right in enumerate((300, 12, 8, 0)):
        model = 1 - base
        model[:right] = 1
        models.append((str(k), model))
    found = trial(models, None, seed=0).contrasts([("base", str(k)) for k in range(4)])
    assert [c.p_adjusted for c in found] == pytest.approx(holm([c.p for c in found]))
    assert found[0].interval.level == pytest.approx(1 - 0.05 / 4)
    for contrast in found:
        assert (contrast.p_adjusted <= 0.05) == (contrast.interval.low > 0)
    # twelve to nothing and eight to nothing are significant after Holm, nothing to nothing is not
    assert [c.p_adjusted <= 0.05 for c in found] == [True, True, True, False]


def test_holm_is_stepwise() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]).shape == (0,)
    with pytest.raises(BadRequest):
        holm([0.5, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=50)
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    raw, adjusted = np.array(p), holm(p)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(raw * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


def test_mcnemar_midp_values() -> None:
    assert mcnemar_midp(0, 0) == 1.0
    assert mcnemar_midp(7, 7) == pytest.approx(1.0)
    assert mcnemar_midp(1, 7) == mcnemar_midp(7, 1) == pytest.approx(2 * 1 / 256 + 8 / 256)
    exact = stats.binomtest(9, 31).pvalue
    assert mcnemar_midp(9, 22) == pytest.approx(exact - stats.binom.pmf(9, 31, 0.5))
    with pytest.raises(BadRequest):
        mcnemar_midp(-1, 2)


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(BadData, match="same images"):
        paired(np.ones(3), np.ones(4), seed=0)
    with pytest.raises(BadRequest, match="different names"):
        trial([("A", np.ones(3)), ("A", np.ones(3))], None, seed=0)
    with pytest.raises(BadRequest, match="'C'"):
        trial([("A", np.ones(3)), ("B", np.ones(3))], None, seed=0).gain("A", "C")


def test_many_groups_give_the_same_spread_as_few() -> None:
    # 100 groups are resampled by a multinomial, 101 by independent Poisson weights
    halves = []
    for n_groups in (100, 101):
        group = np.repeat(np.arange(n_groups), 10)
        values = np.random.default_rng(3).random(group.size)
        halves.append(paired(values < 0.6, values < 0.7, group, seed=0).interval.half_width)
    assert halves[0] == pytest.approx(halves[1], rel=0.05)
