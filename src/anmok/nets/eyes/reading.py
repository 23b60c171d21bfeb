"""The language part of transformers' nets that see, called by itself: rows in, logits out.

The nets as a whole want pixels, or keep positions of the last picture that they saw; their language part has no state.
It is called with ``inputs_embeds``, ``attention_mask``, ``position_ids``, ``cache`` and what ``Qwen.extras`` says, and
gives ``last_hidden_state``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """``model`` reads, ``head`` makes logits of its states; ``factor`` is on these."""

    model: nn.Module
    head: nn.Module
    factor: float = 1.0

    @classmethod
    def of(cls, net: Any) -> Language:
        """Of a net that is called ``...ForConditionalGeneration`` in transformers. HyperCLOVA X multiplies its logits;
        Idefics3 and SmolVLM have another name for the part."""
        text = net.config.text_config
        model = net.model.text_model if hasattr(net.model, "text_model") else net.model.language_model
        is_scaled = text.model_type == "hyperclovax"  # Granite's field of the same name divides
        return cls(model, net.lm_head, float(text.logits_scaling) if is_scaled else 1.0)

    def embedded(self, ids: Tensor) -> Tensor:
        """Tokens int64 (..., T) to rows (..., T, D), as the model wants them in ``inputs_embeds``."""
        rows: Tensor = self.model.get_input_embeddings()(ids)  # type: ignore[operator]
        return rows

    def logits(self, states: Tensor) -> Tensor:
        """States (..., D) to logits (..., V)."""
        told: Tensor = self.head(states)
        return told * self.factor
