"""The sentence encoder against transformers' BertModel on shared random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from anmok.errors import BadRequest
from anmok.nets.bert import MINILM_L6, TINY, Bert, Config, mean_pool, rename


def reference(config: Config) -> BertModel:
    """transformers' net of the same shape, its weights wide enough that every part of it matters."""
    torch.manual_seed(0)
    theirs: BertModel = BertModel(
        BertConfig(
            vocab_size=config.vocabulary,
            max_position_embeddings=config.positions,
            type_vocab_size=config.segments,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            layer_norm_eps=config.epsilon,
            hidden_act="gelu",
        )
    )
    theirs.train(False)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
    return theirs


def pair(config: Config) -> tuple[BertModel, Bert]:
    theirs = reference(config)
    ours = Bert(config).eval()
    ours.load_state_dict(rename(theirs.state_dict()), strict=True)
    return theirs, ours


def batch(config: Config) -> tuple[Tensor, Tensor]:
    """Three texts of 9, 4 and 1 tokens, padded to 9: ids (3, 9) and mask (3, 9)."""
    ids = torch.randint(0, config.vocabulary, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    return ids, mask


@pytest.mark.parametrize("epsilon", [1e-12, 0.5])
def test_states_equal_transformers(epsilon: float) -> None:
    config = Config(vocabulary=64, positions=16, segments=2, width=32, hidden=64, depth=2, heads=4, epsilon=epsilon)
    theirs, ours = pair(config)
    ids, mask = batch(config)
    with torch.inference_mode():
        wanted = theirs(ids, attention_mask=mask).last_hidden_state
        got = ours(ids, mask)
    assert got.shape == (3, 9, 32)
    assert wanted[mask.bool()].std() > 0.1
    assert (got - wanted)[mask.bool()].abs().max() < 1e-5


def test_sentence_vectors_equal_the_published_recipe() -> None:
    theirs, ours = pair(TINY)
    ids, mask = batch(TINY)
    with torch.inference_mode():
        states = theirs(ids, attention_mask=mask).last_hidden_state
        got = mean_pool(ours(ids, mask), mask)
    for i, length in enumerate((9, 4, 1)):
        mean = states[i, :length].mean(0)
        assert (got[i] - mean / mean.norm()).abs().max() < 1e-5


def test_a_text_does_not_see_its_padding() -> None:
    _, ours = pair(TINY)
    ids, mask = batch(TINY)
    with torch.inference_mode():
        together = mean_pool(ours(ids, mask), mask)
        other = mean_pool(ours(torch.where(mask.bool(), ids, 63), mask), mask)
        for i, length in enumerate((9, 4, 1)):
            alone = mean_pool(ours(ids[i : i + 1, :length], mask[i : i + 1, :length]), mask[i : i + 1, :length])
            assert (alone[0] - together[i]).abs().max() < 1e-5
    assert torch.equal(together, other)


def test_mean_pool_by_hand() -> None:
    states = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [float("nan"), 9.0]]])
    got = mean_pool(states, torch.tensor([[1, 1, 0]]))
    assert torch.allclose(got, torch.tensor([[0.6, 0.8]]))


def test_a_text_longer_than_the_positions_is_refused() -> None:
    ours = Bert(TINY)
    ids = torch.zeros(1, 17, dtype=torch.long)
    with pytest.raises(BadRequest, match=r"17 tokens.*at most 16"):
        ours(ids, torch.ones_like(ids))


def test_minilm_has_the_published_entries() -> None:
    with torch.device("meta"):
        ours = Bert(MINILM_L6)
    names = ours.state_dict()
    # The file has 104: these, the pooler's two and the counting numbers.
    assert len(names) == 101
    assert sum(p.numel() for p in ours.parameters()) == 22_565_376
    assert names["encoder.layer.5.attention.self.query.weight"].shape == (384, 384)
    assert names["encoder.layer.0.intermediate.dense.weight"].shape == (1536, 384)
    assert names["embeddings.word_embeddings.weight"].shape == (30522, 384)


def test_rename_drops_only_what_the_net_does_not_read() -> None:
    state = {
        "embeddings.position_ids": torch.arange(4),
        "embeddings.position_embeddings.weight": torch.zeros(4, 2),
        "pooler.dense.bias": torch.zeros(2),
        "cls.predictions.bias": torch.zeros(2),
    }
    assert list(rename(state)) == ["embeddings.position_embeddings.weight", "cls.predictions.bias"]
