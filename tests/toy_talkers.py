"""Every family of language models at toy size: as a model, as transformers runs it, and as a checkpoint in files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

import published_videos
from anmok import Chat, Conversation, Model, Text, Turn
from anmok.catalogue import card
from anmok.geometry import Pixels
from anmok.inputs import Frames, Source
from anmok.models.talking import Talks
from anmok.nets import toys
from anmok.nets.families import FAMILIES
from anmok.tasks import Setup, TextRules
from battery import picture

READ = [name for name, family in FAMILIES.items() if family.eyes is None]
LOOK = [name for name, family in FAMILIES.items() if family.eyes is not None]
WATCH = [name for name, family in FAMILIES.items() if family.watching is not None]
FIRST, SECOND = picture((37, 61), 1), picture((52, 30), 2)
SHORT = Chat(max_tokens=6)


PIXELS = Pixels(16, "squash", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def setup(kind: str, files: dict[str, Path] | None = None, dtype: str = "float32") -> Setup:
    return Setup(kind, kind, PIXELS, TextRules(), "softmax", ("en",), dtype=dtype, files=files or {})


def model_of(talks: Talks, kind: str, dtype: str = "float32") -> Model:
    return Model(card("fake-talk"), talks, setup(kind, dtype=dtype))


@cache
def model(kind: str, dtype: str = "float32") -> Model:
    return model_of(Talks.tiny(setup(kind, dtype=dtype), 0), kind, dtype)


def between(*shown: Source, question: str = "And?") -> Conversation:
    """Words after each picture."""
    return Conversation((Turn("user", tuple(part for one in shown for part in (one, Text(question)))),))


def about(*shown: Any, question: str = "What is it? 뭐예요?") -> Conversation:
    return Conversation.about(*shown, question=question)


def script(talker: Model, said: Conversation) -> Any:
    """As the net reads it."""
    kind: Any = talker.kind
    [state] = talker._looker.states([said])
    return kind._script(state)


@dataclass(frozen=True)
class Told:
    """An answer: its tokens, with the one that ends it, and the logits (T, V) of which each was the likeliest."""

    tokens: list[int]
    logits: NDArray[np.float32]


def written(talker: Model, said: Conversation, most: int = SHORT.max_tokens) -> Told:
    """By us, greedily."""
    kind: Any = talker.kind
    run = kind._speaker.begin([script(talker, said)])
    tokens, logits = [], []
    while True:
        logits.append(run.logits[0])
        tokens.append(int(np.argmax(run.logits[0])))
        if len(tokens) == most or tokens[-1] in kind._parts.ends:
            return Told(tokens, np.stack(logits))
        run.step(tokens[-1:])


def native(talker: Model, said: Conversation, most: int = SHORT.max_tokens) -> Told:
    """By transformers' ``generate``, greedily, which is given our ids and our pixels."""
    ids, told = given(talker, said)
    net: Any = talker.kind._net  # type: ignore[attr-defined]
    with torch.inference_mode():
        found = net.generate(
            ids,
            **told,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=most,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return Told(found.sequences[0, ids.shape[1] :].tolist(), torch.cat(found.logits).float().numpy())


def read_anew(net: Any, talker: Model, said: Conversation, most: int) -> Told:
    """By a net of transformers that reads everything again for each token."""
    ids, told = given(talker, said)
    logits: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for _ in range(most):
            logits.append(net(ids, **told).logits[0, -1].numpy())
            ids = torch.cat([ids, torch.tensor([[int(logits[-1].argmax())]])], 1)  # (1, S + 1)
    return Told(ids[0, -most:].tolist(), np.stack(logits))


def given(talker: Model, said: Conversation) -> tuple[Tensor, dict[str, Tensor]]:
    """Ids (1, S), and the pixels of all that is shown."""
    kind: Any = talker.kind
    ids = torch.tensor([script(talker, said).ids])  # (1, S)
    pictures = [one for shown in said.shown for one in (shown.pictures if isinstance(shown, Frames) else (shown,))]
    prepare = kind.prepare_frame if said.clips else getattr(kind, "prepare", None)
    made = [torch.from_numpy(prepare(np.asarray(one)).pixels) for one in pictures] if prepare else []
    model_type = kind._net.config.model_type
    if said.clips and hasattr(kind._frames, "reel"):
        told = together_seen(kind, said, [np.asarray(one) for one in pictures])
    else:
        told = inputs(kind, made, [np.asarray(one).shape[:2] for one in pictures], is_clip=bool(said.clips))
    marks = torch.isin(ids, torch.tensor(sorted(kind._marks), dtype=torch.long)).long()  # (1, S)
    if made and (model_type.startswith("qwen") or model_type == "gemma4"):
        told["mm_token_type_ids"] = marks * (2 if said.clips and model_type != "gemma4" else 1)
    if model_type == "gemma3":
        told["token_type_ids"] = marks
    dtype = next(kind._net.parameters()).dtype
    return ids, {name: one.to(dtype) if one.is_floating_point() else one for name, one in told.items()}


def together_seen(kind: Any, said: Conversation, frames: Sequence[NDArray[np.uint8]]) -> dict[str, Tensor]:
    """Of a clip whose frames are seen together, as the published video processor prepares it."""
    [clip] = said.clips
    assert isinstance(clip, Frames)
    if kind._net.config.model_type == "video_llama_3":
        return published_videos.videollama3(frames, kind._frames._rules)
    told = published_videos.qwen(frames, kind._eyes._rules)
    if kind._net.config.model_type == "qwen2_5_vl" and len(clip.seconds) > 1:
        apart = (clip.seconds[-1] - clip.seconds[0]) / (len(clip.seconds) - 1)
        told["second_per_grid_ts"] = torch.tensor([2 * apart])
    return told


def inputs(kind: Any, made: list[Tensor], sizes: Sequence[tuple[int, int]], is_clip: bool) -> dict[str, Tensor]:
    """What was prepared, under the names and in the shapes that the family's net wants."""
    model_type = kind._net.config.model_type
    if not made:
        return {}
    if model_type in ("llava", "gemma3"):
        return {"pixel_values": torch.stack(made)}  # (N, 3, h, w)
    if model_type == "internvl":
        return {"pixel_values": torch.cat(made)}  # (tiles, 3, h, w)
    if model_type in ("idefics3", "smolvlm"):
        return {"pixel_values": torch.cat(made)[None]}  # (1, tiles, 3, h, w)
    if model_type.startswith("llava"):
        if is_clip:
            return {"pixel_values_videos": torch.stack(made)[None]}  # (1, F, 3, h, w)
        told = {"image_sizes": torch.tensor(sizes)}
        if model_type != "llava_onevision":
            return {"pixel_values": together(made), **told}
        # Ours end with the padded tile, which transformers prepares where there are several pictures.
        shown = [one[:-1] for one in made] if len(made) == 1 else [one[-1:] for one in made]
        return {"pixel_values": together(shown), "batch_num_images": torch.tensor([len(made)]), **told}
    if model_type == "gemma4":
        return gemma4(made, kind._eyes._rules.patch)
    if model_type == "phi4_multimodal":
        return phi4(made, [kind._eyes.layout(size) for size in sizes], kind._eyes._patch)
    patch = kind._eyes._rules.patch
    if model_type == "video_llama_3":
        return videollama3(made, patch)
    return {
        "pixel_values": torch.cat([kind._eyes.patches(one[None]) for one in made]),  # (patches, F)
        "image_grid_thw": torch.tensor([[1, one.shape[1] // patch, one.shape[2] // patch] for one in made]),
    }


def together(made: Sequence[Tensor], value: float = 0.0) -> Tensor:
    """Of several lengths (N, longest, ...), filled up."""
    longest = max(len(one) for one in made)
    return torch.stack([torch.cat([one, one.new_full((longest - len(one), *one.shape[1:]), value)]) for one in made])


def gemma4(made: Sequence[Tensor], patch: int) -> dict[str, Tensor]:
    pixels, places = [], []
    for one in made:
        rows, columns = one.shape[1] // patch, one.shape[2] // patch
        cut = one.reshape(3, rows, patch, columns, patch).permute(1, 3, 2, 4, 0)  # (R, C, p, p, 3)
        pixels.append(cut.reshape(rows * columns, -1))
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        places.append(torch.stack([x, y], -1).flatten(0, 1))  # (R * C, 2)
    return {"pixel_values": together(pixels), "image_position_ids": together(places, -1)}


def phi4(made: Sequence[Tensor], layouts: Sequence[Any], patch: int) -> dict[str, Tensor]:
    seen = [(~torch.isnan(one[:, 0, ::patch, ::patch])).float() for one in made]  # (T, patches, patches)
    side = made[0].shape[-1]
    return {
        "image_pixel_values": together([torch.nan_to_num(one, nan=1.0) for one in made]),
        "image_attention_mask": together(seen, 1.0),
        "image_sizes": torch.tensor([[one.grid_hw[0] * side, one.grid_hw[1] * side] for one in layouts]),
    }


def videollama3(made: Sequence[Tensor], patch: int) -> dict[str, Tensor]:
    """Pictures (3, h, w) line by line, as the net takes them where each patch is a token."""
    grids = [(one.shape[1] // patch, one.shape[2] // patch) for one in made]
    cut = [
        one.reshape(3, rows, patch, columns, patch).permute(1, 3, 0, 2, 4).reshape(rows * columns, -1)  # (P, F)
        for one, (rows, columns) in zip(made, grids, strict=True)
    ]
    return {
        "pixel_values": torch.cat(cut),
        "image_grid_thw": torch.tensor([[1, *grid] for grid in grids]),
        "image_merge_sizes": torch.ones(len(made), dtype=torch.long),
    }


def checkpoint(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Path]:
    """The toy as it would lie on a hub, by the names of its files; Phi-4 with adapters that change nothing."""
    toy = toys.toy(kind, FAMILIES[kind], 0)
    net: Any = toy.net.to(dtype)
    net.save_pretrained(folder)
    texts = {
        "tokenizer.json": toy.tokenizer,
        "chat_template.jinja": toy.template,
        "tokenizer_config.json": json.dumps({"eos_token": "<|im_end|>"}),
        "preprocessor_config.json": json.dumps(dict(toy.facts)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in FAMILIES[kind].folders.values():
        adapter(net, folder / name, 0.0)
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.*"))}


def adapter(net: Any, folder: Path, scale: float) -> dict[str, Tensor]:
    """Of rank 2 beside one matrix of each layer; what it adds to them."""
    generator = torch.Generator().manual_seed(0)
    tensors, changes = {}, {}
    for name, weight in net.named_parameters():
        if name.startswith("model.layers.") and name.endswith("o_proj.weight"):
            low = torch.randn(2, weight.shape[1], generator=generator)
            high = torch.randn(weight.shape[0], 2, generator=generator) * scale
            layer = "base_model.model." + name.removesuffix(".weight")
            tensors |= {f"{layer}.lora_A.weight": low, f"{layer}.lora_B.weight": high}
            changes[name] = high @ low * 2
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    return changes


def loaded(files: dict[str, Path], kind: str, dtype: str = "float32") -> Model:
    return model_of(Talks.from_files(setup(kind, files, dtype)), kind, dtype)


def stretched(kind: str, folder: Path, bound: int) -> dict[str, Path]:
    """A checkpoint of Phi's kin whose positions turn by other angles in conversations of more tokens than that."""
    files = checkpoint(kind, folder)
    config = json.loads(files["config.json"].read_text())
    config |= {"original_max_position_embeddings": bound, "max_position_embeddings": 512}
    config["rope_parameters"] = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
        "factor": 512 / bound,
        "original_max_position_embeddings": bound,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0, 3.0, 2.0, 1.5],
    }
    files["config.json"].write_text(json.dumps(config))
    return files
