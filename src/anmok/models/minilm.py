"""all-MiniLM-L6-v2: English sentences to unit vectors. The tongue of `mini`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from anmok.errors import BadWeights, Unsupported
from anmok.inputs import Encoded, Text
from anmok.nets import bert
from anmok.results import Embedding
from anmok.tasks import Embed, Setup, TextRules

_BATCH = 32  # sentences
CONFIGS = {"l6": bert.MINILM_L6}


class MiniLm:
    """Mean-pooled token states, as sentence-transformers does for this model."""

    def __init__(self, setup: Setup, net: bert.Bert, tokenizer: Tokenizer) -> None:
        self._setup = setup
        self._device = torch.device(setup.device)
        self._net = net.eval().to(self._device)
        self._tokenizer = tokenizer
        tokenizer.enable_truncation(setup.text.context)
        tokenizer.enable_padding()

    @classmethod
    def from_files(cls, setup: Setup) -> MiniLm:
        net = bert.Bert(CONFIGS[setup.kind])
        try:
            net.load_state_dict(bert.rename(load_file(setup.files["weights.safetensors"])), strict=True)
        except RuntimeError as error:
            raise BadWeights(f"{setup.name}: the weights do not fit the net ({error})") from None
        return cls(setup, net, Tokenizer.from_file(str(setup.files["tokenizer.json"])))

    @classmethod
    def tiny(cls, setup: Setup, seed: int) -> MiniLm:
        torch.manual_seed(seed)
        letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz0123456789.", start=1)}
        tokenizer = Tokenizer(models.WordLevel({**letters, "[UNK]": 0}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        return cls(replace(setup, text=TextRules(context=bert.TINY.positions)), bert.Bert(bert.TINY), tokenizer)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._net.state_dict().values())

    def embed(self, states: Sequence[Encoded | Text], ask: Embed) -> list[Embedding]:
        if not all(isinstance(state, Text) for state in states):
            raise Unsupported(f"{self._setup.name} reads text only: pass anmok.Text")
        rows = self.vectors([state.text for state in states if isinstance(state, Text)])
        return [Embedding(row, "text") for row in rows]

    @property
    def soft_start(self) -> int:
        """One token opens every text and one ends it; the toy tokenizer has neither."""
        return int(self._tokenizer.num_special_tokens_to_add(False)) // 2

    def tokens(self, texts: Sequence[str], room: int = 0) -> tuple[Tensor, Tensor]:
        """Ids (N, T) and which of them are tokens (N, T); ``room`` places of the context stay free."""
        longest = max(self._setup.text.context - room, 1)
        rows = []
        for one in self._tokenizer.encode_batch(list(texts)):
            ids = [token for token, is_token in zip(one.ids, one.attention_mask, strict=True) if is_token]
            rows.append(torch.tensor(ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]))
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)  # (N, T)
        return padded.clamp(min=0).to(self._device), (padded >= 0).to(self._device)

    def token_vectors(self, ids: Tensor) -> Tensor:
        """(N, T) to (N, T, W)."""
        return self._net.words(ids)

    def read_vectors(self, vectors: Tensor, is_token: Tensor) -> Tensor:
        """(N, T, W) to unit rows (N, D), differentiable."""
        return bert.mean_pool(self._net.read(vectors, is_token), is_token)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows (N, D)."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            encoded = self._tokenizer.encode_batch(list(texts[start : start + _BATCH]))
            ids = torch.tensor([one.ids for one in encoded], device=self._device)  # (B, T)
            mask = torch.tensor([one.attention_mask for one in encoded], device=self._device)  # (B, T)
            with torch.inference_mode():
                rows.append(bert.mean_pool(self._net(ids, mask), mask).cpu().numpy())  # (B, D)
        return np.concatenate(rows)
