"""Checkpoints of VideoLLaMA3 in its authors' layout (github.com/DAMO-NLP-SG/VideoLLaMA3, ``videollama3_qwen2``) as
transformers' ``VideoLlama3ForConditionalGeneration`` has them: the names of the tensors, the configuration, and the
turns of a conversation, in which each picture, and each clip, ends a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from anmok.nets.eyes.videollama3 import IMAGE_TOKEN, VIDEO_TOKEN

Content = Mapping[str, Any]

TABLE: Final[tuple[tuple[str, str], ...]] = (
    (r"^model\.vision_encoder\.(vision_encoder\.)?", "model.vision_model."),
    (r"^model\.mm_projector\.", "model.projector."),
    (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
)
_FEWEST, _MOST = 16, 16_384  # tokens of a picture (``preprocessor_config.json``, by another name)
_SYSTEM: Final = (
    "You are VideoLLaMA3 created by Alibaba DAMO Academy, a helpful assistant to help people understand images and "
    "videos."
)
TURNS: Final = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" + _SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' ~ m['role'] ~ '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '" + IMAGE_TOKEN + "\n' }}"
    "{% elif c['type'] == 'video' %}{{ '" + VIDEO_TOKEN + "\n' }}"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"
)


def videollama3_state(state: Mapping[str, Tensor], content: Content) -> dict[str, Tensor]:
    """The tensors under transformers' names."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for pattern, other in TABLE:
            name = re.sub(pattern, other, name)
        found[name] = tensor
    return found


def videollama3_config(content: Content, image_id: int | None) -> dict[str, Any]:
    """The configuration as transformers has it.

    Raises:
        KeyError: the tower is not described.
    """
    text = {key: value for key, value in content.items() if key != "vision_encoder_config"}
    vision = {**content["vision_encoder_config"], "model_type": "video_llama_3_vision"}
    return {
        "model_type": "video_llama_3",
        "text_config": {**text, "model_type": "qwen2"},
        "vision_config": vision,
        "tie_word_embeddings": bool(content.get("tie_word_embeddings", False)),
        **({} if image_id is None else {"image_token_id": image_id}),
    }


def videollama3_facts(content: Content) -> dict[str, Any]:
    """What transformers' preprocessors would be told."""
    patch = int(content.get("vision_encoder_config", {}).get("patch_size", 14))
    return {
        "patch_size": patch,
        "size": {"shortest_edge": _FEWEST * patch**2, "longest_edge": _MOST * patch**2},
        "video_processor": {
            "patch_size": patch,
            "size": {"shortest_edge": _FEWEST * (2 * patch) ** 2, "longest_edge": _MOST * (2 * patch) ** 2},
            "use_token_compression": bool(content.get("use_token_compression", True)),
        },
    }
