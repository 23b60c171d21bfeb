"""A CLIP ViT-B/32 of random weights in one folder, in transformers' layout, that every server loads.

The picture tower is whole: 12 layers, 768 wide, 224 pixels in patches of 32, 512 values out. The text tower has one
narrow layer, for no request touches it and a server that loads it anyway shall not pay for it. Random weights take
the same time as trained ones.
"""

from __future__ import annotations

import json
from pathlib import Path

NAME = "bench-vit-b32"
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SIZE = 224

_SEED = 0
_CARD = """# Written by the benchmark: random weights, for measuring speed alone.
[family]
family = "clip"
code = "clip:Clip"
tasks = ["embed", "classify"]
licence = "apache-2.0"
languages = ["en"]
is_hidden = true
pixels = {{ size = {size}, fit = "crop", filter = "bicubic", mean = {mean}, std = {std} }}
text = {{ templates = ["a photo of a {{}}."], context = 77 }}

[[model]]
name = "{name}"
kind = "transformers"
params = {params}
summary = "CLIP ViT-B/32 of random weights."
source = {{ path = {path}, files = ["config.json", "model.safetensors", "tokenizer.json"] }}
"""


def folder(home: Path) -> Path:
    """The folder with the weights, written where it is not there yet."""
    here = home / NAME
    if not (here / "model.safetensors").is_file():
        here.mkdir(parents=True, exist_ok=True)
        _write(here)
    return here


def onnx_folder(home: Path) -> Path:
    """The picture tower as ``visual.onnx``, and a ``textual.onnx`` that does nothing, for a server without torch."""
    here = home / f"{NAME}-onnx"
    if not (here / "textual.onnx").is_file():
        here.mkdir(parents=True, exist_ok=True)
        _export(folder(home), here)
    return here


def plug_in(home: Path) -> Path:
    """A folder for ``PYTHONPATH`` through which anmok knows a card of those weights, as of any plug-in's."""
    weights = folder(home)
    plugs = home / "plug-in"
    package, known = plugs / "bench_cards", plugs / "bench_cards-0.dist-info"
    for one in (package, known):
        one.mkdir(parents=True, exist_ok=True)
    params = (weights / "model.safetensors").stat().st_size // 4
    card = _CARD.format(
        size=SIZE, mean=list(MEAN), std=list(STD), name=NAME, params=params, path=json.dumps(str(weights))
    )
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "bench.toml").write_text(card, encoding="utf-8")
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-cards\nVersion: 0\n", encoding="utf-8")
    (known / "entry_points.txt").write_text("[anmok.models]\nbench = bench_cards\n", encoding="utf-8")
    return plugs


def _write(here: Path) -> None:
    import torch
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import CLIPConfig, CLIPModel

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = letters + [f"{letter}</w>" for letter in letters]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    spaces = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    ends = {"bos_token_id": len(words), "eos_token_id": len(words) + 1}
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    torch.manual_seed(_SEED)
    config = CLIPConfig(
        text_config={**text, **ends, "vocab_size": len(words) + 2, "projection_dim": 512},
        vision_config={**vision, "patch_size": 32, "image_size": SIZE, "projection_dim": 512},
        projection_dim=512,
    )
    CLIPModel(config).save_pretrained(here)
    tokenizer.save(str(here / "tokenizer.json"))
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    _json(here / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **names, "pad_token": "<|endoftext|>"})
    _json(here / "vocab.json", tokenizer.get_vocab())
    (here / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    _json(here / "preprocessor_config.json", _preprocessing())


def _export(source: Path, here: Path) -> None:
    import warnings

    import torch
    from torch import Tensor, nn
    from transformers import CLIPVisionModelWithProjection

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = CLIPVisionModelWithProjection.from_pretrained(source, attn_implementation="eager")
            self.net.eval()  # type: ignore[no-untyped-call]  # of transformers

        def forward(self, pixels: Tensor) -> Tensor:
            rows: Tensor = self.net(pixel_values=pixels).image_embeds  # (B, 512)
            return rows

    pixels, ids = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, 77, dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one, and says so
        for net, example, name in ((Tower(), pixels, "visual"), (nn.Identity(), ids, "textual")):
            torch.onnx.export(
                net,
                (example,),
                here / f"{name}.onnx",
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                dynamo=False,
            )


def _preprocessing() -> dict[str, object]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
