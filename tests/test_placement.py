"""Where models go: the line through what was measured, devices as they are typed, headroom, and what would help."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from anmok.catalogue import card
from anmok.errors import BadData, BadRequest
from anmok.placement import (
    Cost,
    Device,
    Measured,
    Offer,
    Plan,
    Rate,
    Settings,
    Timing,
    devices,
    fitted,
    plan,
    scales,
    wishes,
)
from anmok.placement.advice import headroom
from anmok.placement.costs import spread_of
from anmok.placement.jobs import Judge, Share
from placed_jobs import GIGA, LIMITS, gpus, job

SIZES = (1, 2, 4, 8, 16, 32)


def measured(model: str, task: str, seconds: Sequence[float], weights: int = 0, working: int = 0) -> Measured:
    """Batches of 1, 2, 4, ... items that took so long."""
    timings = [Timing(n, one, 0.0, 5, working * n) for n, one in zip(SIZES, seconds, strict=False)]
    return Measured(model, task, "cpu: of a test", weights, tuple(timings))


def line(fixed: float, each: float, count: int = 6) -> list[float]:
    return [fixed + each * n for n in SIZES[:count]]


# Costs -----------------------------------------------------------------------------------------------------


def test_the_line_through_a_line_is_that_line() -> None:
    cost = fitted(measured("a", "embed", line(0.02, 0.003)))
    assert (cost.fixed, cost.each) == pytest.approx((0.02, 0.003), rel=1e-9)  # rounding of the solver
    assert cost.residual < 1e-9
    assert cost.largest == 32
    assert cost.seconds(10) == pytest.approx(0.05)


def test_no_part_of_the_line_is_negative_and_the_residual_says_what_it_misses() -> None:
    cost = fitted(measured("a", "embed", [0.001, 0.004, 0.009]))  # faster than in proportion
    assert cost.fixed == 0.0
    assert cost.residual == pytest.approx(max(abs(cost.each * n / s - 1) for n, s in ((1, 0.001), (4, 0.009))), rel=0.5)
    assert cost.residual > 0.3


def test_one_size_makes_every_item_cost_the_same() -> None:
    assert fitted(Measured("a", "embed", "cpu", 0, (Timing(4, 0.2),))) == Cost(0.0, 0.05, 0.0, 0.0, 4)
    with pytest.raises(BadData, match="a, embed: no batch was measured"):
        fitted(Measured("a", "embed", "cpu", 0, ()))


def test_one_slow_run_does_not_change_the_spread() -> None:
    assert spread_of([1.0, 1.0, 1.0, 1.0, 9.0]) == 0.0
    steady = np.exp(np.random.default_rng(0).normal(0, 0.1, 4000))
    assert spread_of(steady.tolist()) == pytest.approx(0.1, rel=0.06)  # of an estimate from 4,000 draws


@pytest.mark.parametrize(
    ("cost", "batch", "capacity"),
    [
        (Cost(0.02, 0.003), 32, 32 / 0.116),
        (Cost(0.1, 0.1), 4, 8.0),  # 0.1 + 4 * 0.1 fills the half second
        (Cost(0.0, 2.0), 1, 0.5),
        (Cost(2.0, 0.0), 1, 0.5),
    ],
)
def test_a_batch_is_as_large_as_the_engine_makes_it(cost: Cost, batch: int, capacity: float) -> None:
    assert cost.batch(LIMITS) == batch
    assert cost.capacity(LIMITS) == pytest.approx(capacity)


# Devices ---------------------------------------------------------------------------------------------------


def test_devices_as_they_are_typed() -> None:
    assert [(d.name, d.address, d.memory_bytes) for d in devices("3x24GB")] == [
        (f"gpu{n}", f"cuda:{n}", 24 * GIGA) for n in range(3)
    ]
    mixed = devices("1x80GB, 2x24GiB", scales=scales(["0.5", "80GB=0.1"]))
    assert [(d.name, d.memory_bytes, d.slowness) for d in mixed] == [
        ("gpu0", 80 * GIGA, 0.1),
        ("gpu1", 24 * 2**30, 0.5),
        ("gpu2", 24 * 2**30, 0.5),
    ]
    assert devices("cpu", memory=12 * GIGA) == (Device("cpu", "cpu", "cpu", 12 * GIGA),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3x", "want a size as 24GB"),
        ("0x24GB", "want 1 to 64 devices"),
        ("24", "want a size as 24GB"),
        ("65x24GB", "want 1 to 64 devices"),
        ("cpu", "needs --memory 12GB"),
        ("2xcpu", "there is one processor"),
        ("", "want a size"),
    ],
)
def test_devices_that_are_none(text: str, says: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(says)):
        devices(text)


@pytest.mark.parametrize("text", ["0", "-1", "fast", "inf", "nan", "80GB="])
def test_scales_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="want a factor above 0"):
        scales([text])


def test_a_scale_for_a_device_that_is_not_there() -> None:
    with pytest.raises(BadRequest, match="--scale 40GB: no such device; --gpus 24GB has 24GB"):
        devices("24GB", scales={"40GB": 0.5})


# Headroom and remedies -------------------------------------------------------------------------------------


def test_headroom_is_where_the_p99_is_met_and_not_much_beyond() -> None:
    device, held = gpus(24)[0], [Share(job("a", 50, Cost(0.02, 0.003), wanted=0.15))]
    judge = Judge(LIMITS, 0.1)
    found = headroom(device, held, judge)
    assert found is not None
    assert judge.grown(device, held, found) <= 1 < judge.grown(device, held, 1.15 * found)
    assert headroom(device, [Share(job("a", 0, Cost(0.02, 0.003)))], judge) is None
    assert headroom(device, [Share(job("a", 1, Cost(0.5, 0.1), wanted=0.1))], judge) == 0.0


def fake(name: str = "fake") -> Offer:
    return Offer(name, "fake", card("fake"))


def planned(rates: Sequence[Rate], costs: Sequence[Measured], *, on: Sequence[Device]) -> Plan:
    offers = [fake(name) for name in dict.fromkeys(rate.model for rate in rates)]
    return plan(offers, rates, costs, on, Settings(requests=2000))


def test_a_plan_says_what_to_expect_and_what_it_rests_on() -> None:
    found = planned(
        [Rate("a", "embed", 50, 0.2), Rate("a", "classify", 10, 0.2)],
        [measured("a", "embed", line(0.01, 0.002), GIGA, 10**7), measured("a", "classify", line(0.01, 0.003), GIGA)],
        on=gpus(4),
    )
    [one] = found.planned
    assert [(row.task, row.rate) for row in one.expected] == [("embed", 50), ("classify", 10)]
    for row in one.expected:
        assert 0.012 < row.p50 < row.low < row.p99 < row.high < 0.2
        assert row.high - row.low < 0.1 * row.p99  # eight runs of 2,000 requests
    assert (one.weights_bytes, one.working_bytes, one.room_bytes) == (GIGA, 32 * 10**7, int(3.6 * GIGA))
    assert one.load == pytest.approx(50 * 0.074 / 32 + 10 * 0.106 / 32)
    assert one.headroom is not None
    assert 2 < one.headroom < 1 / one.load
    assert found.ratio == max(row.p99 / row.wanted for row in one.expected)
    assert found.notes == (
        "the times are of cpu: of a test; taken as they are for every device of the plan (--scale says otherwise)",
    )


def test_notes_say_how_far_to_trust_it() -> None:
    rough = [0.001, 0.01, 0.01, 0.02, 0.04, 0.08]
    timings = tuple(Timing(n, s) for n, s in zip(SIZES, rough, strict=True))
    on = devices("24GB", scales={"24GB": 0.5})
    offers = [fake("a"), fake("b")]
    costs = [Measured("a", "embed", "cpu: 2 cores", GIGA, timings), measured("b", "embed", line(0.01, 0.001))]
    found = plan(offers, [Rate("a", "embed", 1, 1)], costs, on, Settings())
    said = "\n".join(found.notes)
    assert "the times are of cpu: 2 cores; taken for 24GB times 0.5" in said
    assert "a, embed: a + c * items misses a measured batch by" in said
    assert "a, embed: what its batches need beside the weights is not known and counts as nothing" in said
    assert "b: no rate is given; placed by memory alone" in said


def test_a_model_that_is_too_large_says_how_large_a_device_it_needs() -> None:
    found = planned([Rate("a", "embed", 1, 1)], [measured("a", "embed", line(0.01, 0.001), 9 * GIGA)], on=gpus(8, 4))
    [out] = found.unplaced
    assert out.reason == "needs 9.00 GB; the largest device has room for 7.20 GB"
    assert out.remedies == ("a device of 10.0 GB",)
    assert [one.held for one in found.planned] == [(), ()]
    assert found.ratio == 0


def test_a_smaller_card_of_the_family_is_offered() -> None:
    large = card("siglip2-so400m16-384")
    offers = [Offer(large.name, large.name, large)]
    costs = [measured(large.name, "embed", line(0.01, 0.001), large.memory_bytes)]
    found = plan(offers, [Rate(large.name, "embed", 1, 1)], costs, gpus(2), Settings())
    [out] = found.unplaced
    assert out.remedies[-1].startswith("a smaller model: siglip2-")


def test_a_rate_that_no_device_keeps_up_with_says_which_one_would() -> None:
    found = planned([Rate("a", "embed", 1000, 1)], [measured("a", "embed", line(0.02, 0.003))], on=gpus(8, 8))
    [out] = found.unplaced
    assert out.reason == "takes all the time of 3.6 devices at full batches"
    assert out.remedies[:2] == ("at most 550 requests per second in all", "more devices")  # 2 * 32 / 0.116


def test_a_model_that_fits_alone_but_not_beside_says_what_would_let_it_in() -> None:
    costs = [measured(name, "embed", line(0.02, 0.003), 3 * GIGA) for name in ("a", "b", "c")]
    rates = [Rate("a", "embed", 100, 1), Rate("b", "embed", 1, 1), Rate("c", "embed", 100, 1)]
    found = planned(rates, costs, on=gpus(7.5))
    [out] = found.unplaced
    assert out.model == "b"  # the one with the fewest requests is left out
    assert out.reason == "fits on a device of its own, and none is left"
    assert out.remedies == ("2.50 GB more memory on gpu0", "another device")
    assert {share.job.name for share in found.planned[0].held} == {"a", "c"}


def test_what_was_not_measured_is_not_guessed() -> None:
    with pytest.raises(BadData, match="a, embed at 640x480: was not measured"):
        planned([Rate("a", "embed", 1, 1)], [], on=gpus(8))
    with pytest.raises(BadData, match="measured up to 8 items, and the engine would take 32 at a time"):
        planned([Rate("a", "embed", 1, 1)], [measured("a", "embed", line(0.01, 0.001, 4))], on=gpus(8))
    with pytest.raises(BadData, match="a, depth: a plan is for tasks of single pictures: embed, classify"):
        wishes([fake("a")], [Rate("a", "depth", 1, 1)])


@pytest.mark.parametrize(("reserve", "seed"), [(1.0, 0), (-0.1, 0), (math.nan, 0), (0.1, -1)])
def test_settings_that_make_no_sense(reserve: float, seed: int) -> None:
    with pytest.raises(BadRequest):
        Settings(reserve=reserve, seed=seed)
