"""HyperCLOVA X SEED Omni 8B: a Llama that is shown pictures and sounds, each of them twice: as codes, for which it has
words, and as rows. Here it reads, sees and hears; what draws and speaks is left out.

Source: NAVER Cloud, "HyperCLOVA X 8B Omni" (2026, arXiv:2601.01792). The order of things is that of the code beside its
weights (``modeling_vlm.py``, ``preprocessor.py``) and of github.com/NAVER-Cloud-HyperCLOVA-X/OmniServe (track B). What
sees is Qwen2.5-VL's tower and one layer; what hears is Qwen2-Audio's and two; the codes are TA-Tok's and CosyVoice 2's.

The codes of a picture stand one after the other, as OmniServe puts them. The makers' later code for vLLM writes its
proportions before them and an end after each line; with which of the two the weights do better was not measured.

Left out: sound tracks of clips, which a net of their own makes shorter (``video_audio_compressor``), and clips. A sound
is heard half a minute at a time, as Whisper does, whatever its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2AudioEncoder, Qwen2AudioEncoderConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from anmok.errors import BadWeights
from anmok.nets.eyes import Size
from anmok.nets.eyes.levels import HALF, Levels
from anmok.nets.eyes.qwen import QwenRules, patched, smart_size
from anmok.nets.families import Family, Listening, Own
from anmok.nets.own_families import Pair
from anmok.nets.picture_codes import PictureCodes
from anmok.nets.pretrained import configured, fill, filled
from anmok.nets.readings import Whole
from anmok.nets.speech_codes import FEWEST, RATE, STEP, Sizes, SpeechCodes, log_mel

Content = Mapping[str, Any]
State = Mapping[str, Tensor]

IMAGE_TOKEN: Final = "<|IMAGE_PAD|>"
AUDIO_TOKEN: Final = "<|AUDIO_PAD|>"
CONTEXT: Final = 32_768  # the makers' words; their file may name the shorter one of an earlier stage
SECONDS: Final = 300  # 15,000 of the 32,768 tokens that it reads
MOST_SOUNDS: Final = 4
_PACE: Final = 25  # codes a second, and as many rows
_FIRST_PICTURE, _FIRST_SOUND = 135_168, 128_606  # words of the codes 0
_SIZE: Final[Content] = {"shortest_edge": 3136, "longest_edge": 2_073_600}  # of a picture, in pixels
_SEEN: Final = ("vision_model.", "mm_projector.", "discrete_vision_model.")
_HEARD: Final = ("audio_model.", "audio_projector.", "discrete_audio_model.")
_READ: Final = "language_model."
_LEFT_OUT: Final = "video_audio_compressor."


class Sight(nn.Module):
    """What lies between a picture and the reader, under the names of the published checkpoint."""

    def __init__(self, tower: Qwen2_5_VisionTransformerPretrainedModel, codes: PictureCodes, width: int) -> None:
        super().__init__()
        self.vision_model = tower
        self.mm_projector = nn.Linear(int(tower.config.out_hidden_size), width)
        self.discrete_vision_model = codes

    @classmethod
    def made(cls, content: Content) -> Sight:
        """As a ``config.json`` describes it, filled at random."""
        tower = Qwen2_5_VisionTransformerPretrainedModel(_vision_config(content, "random"))
        return cls(tower, PictureCodes.made(content.get("discrete_vision_config") or {}), _width(content))

    @classmethod
    def filled(cls, content: Content, state: State, dtype: torch.dtype, name: str) -> Sight:
        """Raises:
        BadWeights: a tensor is missing, left over, or of another shape."""
        whole, rest, made = _SEEN[0], _SEEN[1], _SEEN[2]
        kind, config = Qwen2_5_VisionTransformerPretrainedModel, _vision_config(content, name)
        tower = filled(kind, config, _under(state, whole), dtype, name)
        told = content.get("discrete_vision_config") or {}
        codes, known = PictureCodes.empty(told, _under(state, made), dtype, name)
        with torch.device("meta"):
            sight = cls(tower, codes, _width(content))
        tensors = {key: one for key, one in state.items() if key.startswith(rest)}
        return fill(sight, tensors | _over(tower.state_dict(), whole) | _over(known, made), dtype, name)


class Mlp(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, inputs)
        self.fc2 = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y


class Hearing(nn.Module):
    """What lies between a sound and the reader, under the names of the published checkpoint."""

    def __init__(self, tower: Qwen2AudioEncoder, sizes: Sizes, width: int) -> None:
        super().__init__()
        self.audio_model = tower
        self.audio_projector = Mlp(int(tower.config.d_model), width)
        self.discrete_audio_model = SpeechCodes(sizes)

    @classmethod
    def made(cls, content: Content) -> Hearing:
        """As a ``config.json`` describes it, filled at random."""
        tower = Qwen2AudioEncoder(_audio_config(content, "random"))
        return cls(tower, _speech(content), _width(content))

    @classmethod
    def filled(cls, content: Content, state: State, dtype: torch.dtype, name: str) -> Hearing:
        """Raises:
        BadWeights: a tensor is missing, left over, or of another shape."""
        whole = _HEARD[0]
        tower = filled(Qwen2AudioEncoder, _audio_config(content, name), _under(state, whole), dtype, name)
        with torch.device("meta"):
            net = cls(tower, _speech(content), _width(content))
        rest = {key: one for key, one in state.items() if not key.startswith(whole)}
        return fill(net, rest | _over(tower.state_dict(), whole), dtype, name)

    def rows(self, sound: Tensor) -> Tensor:
        """A sound (N,) to rows (M, W), about 25 a second. What it hears behind the end of a sound does not count."""
        tower: Any = self.audio_model
        places = int(tower.config.max_source_positions)
        length = 2 * places * STEP  # values that are heard at once
        parts = torch.split(sound, length)
        bands = [log_mel(functional.pad(part, (0, length - len(part)))) for part in parts]  # each (128, 2 * places)
        states = [-(-len(part) // STEP) for part in parts]  # windows that are not all padding
        counts = torch.tensor([-(-count // 2) for count in states], device=sound.device)  # (C,)
        is_there = torch.arange(places, device=sound.device) < counts[:, None]  # (C, places)
        dtype = tower.conv1.weight.dtype
        mask = torch.zeros_like(is_there, dtype=dtype).masked_fill(~is_there, float("-inf"))  # (C, places)
        heard = tower(torch.stack(bands).to(dtype), attention_mask=mask[:, None, None]).last_hidden_state
        kept = [one[: int(count) // 2] for one, count in zip(heard, counts, strict=True)]
        rows: Tensor = self.audio_projector(torch.cat(kept))  # (M, W)
        return rows


class Omni(Pair):
    """Sight, hearing and reader as one net."""

    sight: Sight
    ear: Hearing

    def words(self, codes: Tensor, first: int) -> Tensor:
        """Codes int64 (..., N) to the rows (..., N, W) of the words that they are."""
        rows: Tensor = self.get_input_embeddings()(codes + first)
        return rows


class Eyes:
    """A picture as 729 codes, squashed to a square, and as it is, a row for each 28 x 28 pixels."""

    def __init__(self, net: Omni, facts: Content) -> None:
        told = {key: one for key, one in facts.items() if one is not None}
        codes = net.sight.discrete_vision_model
        self._net, self._rules = net, QwenRules.of({**told, "size": {**_SIZE, **told.get("size", {})}})
        self._side, self._codes = codes.side, codes.count
        self._first = int(net.content.get("discrete_image_unit_0_id", _FIRST_PICTURE))

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (H, W, 3) to float32 (3, h + k, w): the picture at the tower's size, and in the last k lines the
        squashed one, line by line.

        Raises:
            BadMedia: a strip more than 200 times as long as wide.
        """
        seen = self._rules.prepared(image)  # (3, h, w)
        levels = Levels(HALF, HALF)
        square = levels.numbers(levels.resized(image, (self._side, self._side))).reshape(3, -1)  # (3, side * side)
        width = seen.shape[2]
        padded = np.pad(square, ((0, 0), (0, -square.shape[1] % width)))
        return np.concatenate([seen, padded.reshape(3, -1, width)], axis=1)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, h + k, w) to rows (B, 729 + N, W), those of the codes first."""
        area = self._side**2
        height = batch.shape[2] - -(-area // batch.shape[3])
        square = batch[:, :, height:].flatten(2)[..., :area]  # (B, 3, area)
        square = square.reshape(-1, 3, self._side, self._side)  # (B, 3, side, side)
        codes = self._net.sight.discrete_vision_model(square)  # (B, 729)
        seen = self._seen(batch[:, :, :height])  # (B, N, W)
        return torch.cat([self._net.words(codes, self._first), seen], dim=1)

    def _seen(self, pictures: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, N, W)."""
        rules, sight = self._rules, self._net.sight
        tower: Any = sight.vision_model
        cut = patched(pictures[:, None].expand(-1, rules.times, -1, -1, -1), rules)  # (B * P, F)
        grid = [1, pictures.shape[2] // rules.patch, pictures.shape[3] // rules.patch]
        grids = torch.tensor([grid] * len(pictures), device=pictures.device)  # (B, 3)
        merged = tower(cut.to(tower.dtype), grids).pooler_output  # (B * N, C)
        rows: Tensor = sight.mm_projector(merged)  # (B * N, W)
        return rows.reshape(len(pictures), -1, rows.shape[-1])  # (B, N, W)

    def slot(self, size_hw: Size) -> str:
        height, width = smart_size(size_hw, self._rules)
        side = self._rules.patch * self._rules.merge
        return (
            f"<|discrete_image_start|>{IMAGE_TOKEN * self._codes}<|discrete_image_end|>\n"
            f"<|image_start|>{IMAGE_TOKEN * (height // side * (width // side))}<|image_end|>"
        )

    def packed(self, rows: Tensor, size_hw: Size) -> Tensor:
        return rows


class Ears:
    """A sound as 25 codes a second, and as many rows."""

    rate, seconds = RATE, SECONDS

    def __init__(self, net: Omni, facts: Content | None = None) -> None:
        self._net = net
        self._first = int(net.content.get("discrete_audio_unit_0_id", _FIRST_SOUND))

    def prepare(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sound float32 (N,) of 16,000 values a second between -1 and 1, as it is; silence behind one that is shorter
        than a tenth of a second. Codes and rows want other bands, which are made with them."""
        return np.pad(sound, (0, max(0, FEWEST - len(sound))))

    def prepare_track(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same: it takes no clips."""
        return self.prepare(sound)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, N), all of one length, to rows (B, M, W), those of the codes first."""
        ear = self._net.ear
        codes = torch.stack([ear.discrete_audio_model(sound) for sound in batch])  # (B, M')
        rows = torch.stack([ear.rows(sound) for sound in batch])  # (B, M - M', W)
        return torch.cat([self._net.words(codes, self._first), rows], dim=1)

    def slot(self, count: int) -> str:
        """The text that stands for a sound of so many rows in a prompt. There are as many codes as rows or, for the
        last quarter of their time, one more."""
        codes = count - count // 2
        told = f'{{"audio_duration": "{codes / _PACE:.2f}s"}}'
        return (
            "<|audio_aux_start|>다음 중 audio_duration은 오디오 길이 정보입니다. 참고하여 답변하세요. "
            f"{told}<|audio_aux_end|>\n"
            f"<|discrete_audio_start|>{AUDIO_TOKEN * codes}<|discrete_audio_end|>\n"
            f"<|audio_start|>{AUDIO_TOKEN * (count // 2)}<|audio_end|>"
        )


def parted(state: State, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint in three: what ``Sight`` and ``Hearing`` are filled with, and the reader under the names
    of transformers' own. What makes sound tracks shorter is left out.

    Raises:
        BadWeights: a tensor that belongs to none of them.
    """
    seeing: dict[str, Tensor] = {}
    hearing: dict[str, Tensor] = {}
    reading: dict[str, Tensor] = {}
    left: list[str] = []
    for key, tensor in state.items():
        short = key.removeprefix("model.")
        if short.startswith(_SEEN):
            seeing[short] = tensor
        elif short.startswith(_HEARD):
            hearing[short] = tensor
        elif short.startswith(_READ):
            reading[short.removeprefix(_READ)] = tensor
        elif not short.startswith(_LEFT_OUT):
            left.append(key)
    if left:
        raise BadWeights(f"{name}: the weights do not fit the net: {len(left)} left over ({', '.join(left[:3])})")
    return seeing, hearing, reading


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): one for key, one in state.items() if key.startswith(prefix)}


def _over(state: State, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": one for key, one in state.items()}


def _width(content: Content) -> int:
    return int(content["text_config"]["hidden_size"])


def _text_config(content: Content, name: str) -> LlamaConfig:
    return configured(LlamaConfig, content["text_config"], name)


def _vision_config(content: Content, name: str) -> Qwen2_5_VLVisionConfig:
    kind = Qwen2_5_VLVisionConfig
    return configured(kind, {**content["vision_config"], "model_type": kind.model_type}, name)


def _audio_config(content: Content, name: str) -> Qwen2AudioEncoderConfig:
    return configured(Qwen2AudioEncoderConfig, content["audio_config"], name)


def _speech(content: Content) -> Sizes:
    return Sizes.of(content.get("discrete_audio_config") or {})


def _made(content: Content) -> nn.Module:
    reader = LlamaForCausalLM(_text_config(content, "random"))
    return Omni(Sight.made(content), reader, content, Hearing.made(content))


def _filled(content: Content, state: State, dtype: torch.dtype, name: str) -> nn.Module:
    seeing, hearing, reading = parted(state, name)
    try:
        config = _text_config(content, name)
        sight = Sight.filled(content, seeing, dtype, name)
        ear = Hearing.filled(content, hearing, dtype, name)
    except KeyError as error:
        raise BadWeights(f"{name}: config.json lacks {error}") from None
    config.max_position_embeddings = max(config.max_position_embeddings, CONTEXT)
    return Omni(sight, filled(LlamaForCausalLM, config, reading, dtype, name), content, ear).eval()


def _toy(words: int, end: int) -> tuple[Content, Content]:
    """``config.json`` and ``preprocessor_config.json`` of a net that knows so many words, the first of which are codes
    as well."""
    narrow = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": end}
    more = {"model_type": "llama", "num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": words}
    siglip = {**narrow, "model_type": "siglip_vision_model", "image_size": 16, "patch_size": 4, "num_hidden_layers": 3}
    ear = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    content = {
        "model_type": "hyperclovax_omni",
        "text_config": {**narrow, **more, **ends},
        "vision_config": {
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 24,
            "fullatt_block_indexes": [1],
        },
        "discrete_vision_config": {"tower": siglip, "codes": 32, "width": 12},
        "audio_config": {**ear, "model_type": "qwen2_audio_encoder", "num_mel_bins": 128, "max_source_positions": 50},
        "discrete_audio_config": {"width": 16, "depth": 2, "heads": 2, "directions": 3, "kernel": 5},
        "discrete_image_unit_0_id": 64,
        "discrete_audio_unit_0_id": 32,
    }
    return content, {"min_pixels": 28 * 28, "max_pixels": 8 * 28 * 28}


def _reads(net: nn.Module, eyes: Any) -> Whole:
    return Whole(net)


# Turns as ChatML has them. Of the published template what it writes without tools, and with its advice to answer
# without thinking aloud first.
_TURNS: Final = (
    "{% set seen = namespace(count=0, heard=0) %}{% for m in messages %}{{ '<|im_start|>' ~ m['role'] ~ '\n' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{% if c['type'] == 'image' %}"
    '{{ \'<|mime_start|>{"id": "image_%02d", "type": "image/jpeg", \' % seen.count'
    ' ~ \'"filename": "image.jpg"}<|mime_end|>\n' + IMAGE_TOKEN + "' }}"
    "{% set seen.count = seen.count + 1 %}"
    "{% elif c['type'] == 'audio' %}"
    '{{ \'<|mime_start|>{"id": "audio_%02d", "type": "audio/mpeg", \' % seen.heard'
    ' ~ \'"filename": "user_query.wav"}<|mime_end|>\n' + AUDIO_TOKEN + "' }}"
    "{% set seen.heard = seen.heard + 1 %}"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
)

OMNI: Final = Family(
    "",
    _reads,
    Eyes,
    image=IMAGE_TOKEN,
    marks=(IMAGE_TOKEN, AUDIO_TOKEN),
    ends=("<|im_end|>", "<|endofturn|>"),
    most_pictures=8,
    hearing=Listening(Ears, MOST_SOUNDS, AUDIO_TOKEN),
    template=_TURNS,
    is_template_fixed=True,
    own=Own(_made, _filled, _toy),
)
