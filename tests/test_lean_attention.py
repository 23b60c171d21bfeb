"""Attention head by head and block by block is attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import SiglipVisionConfig, SiglipVisionModel

from anmok.nets.lean_attention import attend_by_heads, by_heads
from anmok.nets.lean_blocks import Exactly, InBlocks, Prompt
from anmok.nets.lean_layers import Sizes


def made(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[2]))


def prompt(queries: Tensor, kept: Tensor, *, may_be_loud: bool | None = None) -> Prompt:
    """Where queries (T, heads, head) attend; exactly, unless it is said how loud they may be."""
    count, heads, head = queries.shape
    sizes = Sizes(heads * head, heads, len(kept) // 2, head, 1, 1, 4096, 1e-5)
    past = kept.shape[1] - count
    made = Exactly(sizes, count, past) if may_be_loud is None else InBlocks(sizes, count, past, may_be_loud)
    mixed = torch.cat((queries, kept[:, -count:].transpose(0, 1)), 1)  # (T, heads + 2 * kv heads, head)
    made.turn(mixed.flatten(1), torch.ones(*mixed.shape[:2], head // 2, dtype=torch.complex64))
    assert torch.equal(made.fresh, kept[:, -count:])
    return made


def in_blocks(queries: Tensor, kept: Tensor, may_be_loud: bool = False) -> Tensor:
    """bfloat16 (T, heads * head), which is the same in a second layer."""
    rows = prompt(queries, kept, may_be_loud=may_be_loud)
    first = rows.attended(kept).clone()
    assert torch.equal(rows.attended(kept), first)
    return first


@pytest.mark.parametrize(("count", "others"), [(1, 1), (7, 1500), (300, 300), (2000, 1100)])
def test_a_head_at_a_time_is_all_at_once(count: int, others: int) -> None:
    query, key, value = made(2, 3, count, 16), made(2, 3, others, 16), made(2, 3, others, 24)
    exact = scaled_dot_product_attention(query, key, value, scale=0.3).transpose(1, 2)  # (B, T, H, E)
    found = by_heads(query, key, value, 0.3)
    assert found.dtype == torch.bfloat16
    assert found.shape == (2, count, 3, 24)
    # bfloat16 has 8 bits: scores, shares and values are each rounded by up to 0.4 %.
    assert float((found - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("loud", [1.0, 3.0, 12.0, 60.0])
def test_scores_of_any_size(loud: float) -> None:
    """Where exponentials leave the range of bfloat16, the greatest score is taken off first."""
    query, key, value = (made(1, 2, 200, 16) for _ in range(3))
    query = query.flip(2) * loud
    exact = scaled_dot_product_attention(*(one.bfloat16().float() for one in (query, key, value)), scale=1.0)
    found = by_heads(query, key, value, 1.0)
    assert torch.isfinite(found).all()
    # Scores are rounded to 8 bits: of one of 60, a quarter is off, so loud ones pick among equals.
    assert float((found - exact.transpose(1, 2)).norm() / exact.norm()) < 0.01 * max(1.0, loud)


@pytest.mark.parametrize("product", [-3000.0, -90.0, -70.0, -60.0, 0.0, 60.0, 70.0, 90.0, 3000.0])
def test_equal_keys_share_equally_whatever_their_scores(product: float) -> None:
    key = torch.zeros(1, 1, 1024, 16)
    key[..., 0] = 1.0
    value = torch.full((1, 1, 1024, 16), 1000.0)
    found = by_heads(product * key, key, value, 1.0)
    torch.testing.assert_close(found.float(), torch.full((1, 1024, 1, 16), 1000.0), rtol=0.01, atol=0)
    kept = torch.cat((key[0], value[0]))  # (2, S, D): one head that every row's own is
    told = in_blocks(product * key[0].transpose(0, 1)[-700:], kept)
    torch.testing.assert_close(told.float(), torch.full((700, 16), 1000.0), rtol=0.01, atol=0)


@pytest.mark.parametrize("loud", [0.3, 8.0])
@pytest.mark.parametrize(("count", "past"), [(1, 0), (1, 700), (127, 9), (128, 0), (300, 0), (257, 300), (700, 1)])
def test_blocks_of_a_prompt_see_what_came_before(count: int, past: int, loud: float) -> None:
    queries, kept = made(count, 6, 16) * loud, made(4, past + count, 16)  # three queries share a key
    seen = torch.ones(count, past + count, dtype=torch.bool).tril_(past)
    rounded = queries.bfloat16().float().transpose(0, 1)[None], *kept.bfloat16().float()[None].chunk(2, 1)
    exact = scaled_dot_product_attention(*rounded, attn_mask=seen, scale=1.0, enable_gqa=True)[0].transpose(0, 1)
    found = in_blocks(queries, kept)
    assert found.shape == (count, 6 * 16)
    assert found.dtype == torch.bfloat16
    assert float((found - exact.flatten(1)).norm() / exact.norm()) < 0.01 * max(1.0, loud)


@pytest.mark.parametrize(("count", "past"), [(1, 0), (1, 700), (300, 0), (257, 300)])
def test_attention_in_float32_and_of_the_last_row_alone(count: int, past: int) -> None:
    queries, kept = made(count, 6, 16) * 3, made(4, past + count, 16)
    seen = torch.ones(count, past + count, dtype=torch.bool).tril_(past)
    heads = [one.repeat_interleave(3, 0)[None] for one in kept.chunk(2)]  # (1, heads, S, head)
    scores = (queries.transpose(0, 1)[None] @ heads[0].transpose(2, 3)).masked_fill(~seen, -torch.inf)
    want = (scores.softmax(-1) @ heads[1])[0].transpose(0, 1).flatten(1)  # (T, heads * head)
    rows = prompt(queries, kept)
    torch.testing.assert_close(rows.attended(kept), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows.attended_last(kept), want[-1:], rtol=1e-4, atol=1e-5)


def test_a_loud_layer_leaves_those_behind_it_as_they_are() -> None:
    """From then on softmax is taken at once, which is as near."""
    queries, kept = made(300, 3, 16), made(2, 300, 16)
    want = in_blocks(queries, kept, may_be_loud=True)
    rows = prompt(queries, kept, may_be_loud=False)
    assert not torch.equal(rows.attended(kept), want)
    assert torch.isfinite(rows.attended(100 * kept)).all()
    assert torch.equal(rows.attended(kept), want)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("place", [0, 150, 299])
def test_one_loud_row_is_found_wherever_it_is(place: int, sign: float) -> None:
    """Its exponentials overflow, or all vanish; in one head, in one block, of the first, the middle or the last."""
    queries, kept = made(300, 3, 16), made(2, 300, 16)
    queries[:], kept[:] = queries.flip(0), kept.abs()
    queries[place, place % 3] = sign * 40.0
    exact = scaled_dot_product_attention(
        queries.transpose(0, 1)[None], *kept[None].chunk(2, 1), is_causal=True, scale=1.0, enable_gqa=True
    )[0].transpose(0, 1)
    found = in_blocks(queries, kept).view(300, 3, 16)
    assert torch.isfinite(found).all()
    assert float((found - exact)[place, place % 3].abs().max()) < 0.7  # a score of 500 is rounded to the next 2
    quiet = torch.arange(300) != place
    assert float((found - exact)[quiet].norm() / exact[quiet].norm()) < 0.01
    head_by_head = by_heads(
        queries.transpose(0, 1)[None], kept[:1, None].expand(1, 3, 300, 16), kept[1:, None].expand(1, 3, 300, 16), 1.0
    )
    assert torch.isfinite(head_by_head).all()


def test_attention_that_is_to_be_loud_is_the_same() -> None:
    queries, kept = made(300, 6, 16), made(4, 300, 16)
    quick, plain = in_blocks(queries, kept), in_blocks(queries, kept, may_be_loud=True)
    assert 0 < float((quick.float() - plain.float()).norm() / plain.float().norm()) < 0.01


def test_a_picture_does_not_depend_on_those_beside_it() -> None:
    query, key, value = (made(2, 3, 200, 16).flip(0) for _ in range(3))
    loud = torch.cat((query[:1], 100 * query[1:]))
    assert torch.equal(by_heads(loud, key, value, 1.0)[0], by_heads(query[:1], key[:1], value[:1], 1.0)[0])


def test_a_tower_answers_alike() -> None:
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=192, patch_size=16
    )
    tower = SiglipVisionModel(config).eval()
    pixels = made(2, 3, 192, 192)  # 144 patches
    with torch.inference_mode():
        before = tower(pixels).last_hidden_state
        assert attend_by_heads(tower)
        after = tower(pixels).last_hidden_state
    distance = float((after - before).norm() / before.norm())
    assert 0 < distance < 0.01  # bfloat16's: it does attend in the new way
    assert not attend_by_heads(tower)  # it does already


def test_a_tower_that_is_trained_attends_as_it_did() -> None:
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=192, patch_size=16
    )
    tower, pixels = SiglipVisionModel(config), made(2, 3, 192, 192)
    before = tower(pixels).last_hidden_state
    assert attend_by_heads(tower)
    after = tower(pixels).last_hidden_state
    torch.testing.assert_close(after, before)
    after.sum().backward()
    assert all(one.grad is not None for name, one in tower.named_parameters() if "q_proj" in name)


def test_what_attends_otherwise_is_left_alone() -> None:
    assert not attend_by_heads(torch.nn.Linear(2, 2))
    assert not attend_by_heads(SiglipVisionModel(SiglipVisionConfig(num_hidden_layers=1, attn_implementation="eager")))
