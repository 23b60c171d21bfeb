"""Records what the published code of Grounding DINO answers: ``python tests/golden/record_grounding_dino.py CHECKOUT``.

CHECKOUT is github.com/IDEA-Research/GroundingDINO; the golden was made at 856dde20aee659246248e20734ef9ba5214f5e44, on
its path through plain torch. Its text tower is transformers' Bert, called with the mask and the places that the
published code makes: the wrapper around an older Bert does not run with the present one. What it imports for pictures,
plots and training (torchvision, timm, matplotlib) is pretended. Weights, picture and texts come from fixed seeds, so
the golden holds answers alone, and ``tests/parity/test_grounding_dino.py`` draws the same ones.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
Floats = NDArray[np.float32]

SWIN = {"embed_dim": 16, "depths": [2, 2, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
BERT = {
    "vocab_size": 1100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SIZES: Mapping[str, Any] = {
    "backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4], "drop_path_rate": 0.0, **SWIN},
    "text_config": {"model_type": "bert", **BERT},
    "d_model": 256,  # the published code has it written into its position encodings
    "num_queries": 20,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
}
# Three phrases: tra ##ffic light . light . cat .
TOKENS = (101, 200, 201, 202, 1012, 202, 1012, 206, 1012, 102)
SHAPES = {"whole": (96, 130), "odd": (101, 67)}  # of the canvas, neither a multiple of a window


def drawn(name: str, shape: tuple[int, ...]) -> Floats:
    """Random weights that depend on the name alone: large enough that every layer matters, small enough that rounding
    does not grow from layer to layer."""
    spread = 0.1 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
    values = spread * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    is_scale = re.search(r"(norm.*|input_proj_vision\.\d\.1)\.weight$", name.lower()) is not None
    is_gate = name.endswith(("vision_param", "text_param"))
    return (values + (1.0 if is_scale else 0.5 if is_gate else 0.0)).astype(np.float32)


def canvas(size_hw: tuple[int, int]) -> Floats:
    """(1, 3, h, w), normalised."""
    return np.random.default_rng(7).standard_normal((1, 3, *size_hw)).astype(np.float32)


# From the names of transformers to the published ones, in this order.
_NAMES = (
    (r"^model\.backbone\.conv_encoder\.model", "SEEN"),
    (r"^model\.encoder\.layers\.(\d+)\.text_enhancer_layer", r"TEXT.\1"),
    (r"^model\.encoder\.layers\.(\d+)\.fusion_layer", r"FUSED.\1"),
    (r"^model\.encoder\.layers\.(\d+)\.deformable_layer", r"DEFORMED.\1"),
    (r"^SEEN\.hidden_states_norms\.stage2\.", "backbone.0.norm1."),
    (r"^SEEN\.hidden_states_norms\.stage3\.", "backbone.0.norm2."),
    (r"^SEEN\.hidden_states_norms\.stage4\.", "backbone.0.norm3."),
    (
        r"^SEEN\.swin\.embeddings\.patch_embeddings\.projection",
        "backbone.0.patch_embed.proj",
    ),
    (r"^SEEN\.swin\.embeddings\.norm", "backbone.0.patch_embed.norm"),
    (r"^SEEN\.swin\.encoder\.", "backbone.0."),
    (r"attention\.relative_position_bias\.relative_position_bias_table", "attn.relative_position_bias_table"),
    (r"(blocks\.\d+)\.attention\.o_proj", r"\1.attn.proj"),
    (r"(blocks\.\d+)\.attention\.", r"\1.attn."),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^model\.text_backbone\.", "bert.whole."),
    (r"^model\.text_projection", "feat_map"),
    (r"^model\.input_proj_vision", "input_proj"),
    (r"^model\.query_position_embeddings", "transformer.tgt_embed"),
    (r"^model\.encoder_output_bbox_embed", "transformer.enc_out_bbox_embed"),
    (
        r"^TEXT\.(\d+)\.layer_norm_before",
        r"transformer.encoder.text_layers.\1.norm1",
    ),
    (
        r"^TEXT\.(\d+)\.layer_norm_after",
        r"transformer.encoder.text_layers.\1.norm2",
    ),
    (r"^TEXT\.(\d+)\.fc", r"transformer.encoder.text_layers.\1.linear"),
    (r"^TEXT\.(\d+)\.", r"transformer.encoder.text_layers.\1."),
    (r"^FUSED\.(\d+)\.vision_param", r"transformer.encoder.fusion_layers.\1.gamma_v"),
    (r"^FUSED\.(\d+)\.text_param", r"transformer.encoder.fusion_layers.\1.gamma_l"),
    (r"^FUSED\.(\d+)\.", r"transformer.encoder.fusion_layers.\1."),
    (r"(fusion_layers\..*)_vision", r"\1_v"),
    (r"(fusion_layers\..*)_text", r"\1_l"),
    (r"(fusion_layers\..*)attn\.vision_proj", r"\1attn.v_proj"),
    (r"(fusion_layers\..*)attn\.text_proj", r"\1attn.l_proj"),
    (r"^DEFORMED\.(\d+)\.self_attn_layer_norm", r"transformer.encoder.layers.\1.norm1"),
    (r"^DEFORMED\.(\d+)\.final_layer_norm", r"transformer.encoder.layers.\1.norm2"),
    (r"^DEFORMED\.(\d+)\.fc", r"transformer.encoder.layers.\1.linear"),
    (r"^DEFORMED\.(\d+)\.", r"transformer.encoder.layers.\1."),
    (r"^model\.decoder\.layer_norm", "transformer.decoder.norm"),
    (r"^model\.decoder\.reference_points_head", "transformer.decoder.ref_point_head"),
    (r"^(model\.decoder\.layers\.\d+)\.encoder_attn_text_layer_norm", r"\1.catext_norm"),
    (r"^(model\.decoder\.layers\.\d+)\.encoder_attn_text\.", r"\1.ca_text."),
    (r"^(model\.decoder\.layers\.\d+)\.encoder_attn_layer_norm", r"\1.norm1"),
    (r"^(model\.decoder\.layers\.\d+)\.encoder_attn\.", r"\1.cross_attn."),
    (r"^(model\.decoder\.layers\.\d+)\.self_attn_layer_norm", r"\1.norm2"),
    (r"^(model\.decoder\.layers\.\d+)\.final_layer_norm", r"\1.norm3"),
    (r"^(model\.decoder\.layers\.\d+)\.fc", r"\1.linear"),
    (r"^model\.", "transformer."),
)
# Three matrices of ours, one on top of the other, are one of theirs.
_STACKED = ((("query", "key", "value"), "in_proj_", ""), (("q_proj", "k_proj", "v_proj"), "qkv.", "backbone."))


def published(state: Mapping[str, Floats]) -> dict[str, Floats]:
    """A state under transformers' names, under the published ones."""
    named: dict[str, Floats] = {}
    for name, values in state.items():
        if "swin.layernorm" in name:  # of a pooled picture, which nobody asks for
            continue
        for ours, theirs in _NAMES:
            name = re.sub(ours, theirs, name)
        named[name] = values
    for parts, whole, home in _STACKED:
        firsts = [name for name in named if f".{parts[0]}." in name and "bert." not in name and name.startswith(home)]
        for first in firsts:
            stacked = [named.pop(first.replace(f".{parts[0]}.", f".{part}.")) for part in parts]
            named[first.replace(f"{parts[0]}.", whole)] = np.concatenate(stacked)
    return named


def main(checkout: Path) -> None:
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    config = GroundingDinoConfig(**SIZES)
    state = GroundingDinoForObjectDetection(config).state_dict()
    theirs = published({name: drawn(_first(name), tuple(tensor.shape)) for name, tensor in state.items()})
    net = _reference(checkout, config)
    wanted = set(net.state_dict())
    unused = {name for name in wanted if "relative_position_index" in name or "pooler" in name}
    net.load_state_dict({name: torch.from_numpy(values) for name, values in theirs.items()}, strict=False)
    assert wanted - unused == set(theirs), sorted((wanted - unused) ^ set(theirs))
    golden: dict[str, Any] = {}
    for name, size_hw in SHAPES.items():
        with torch.inference_mode():
            out = net(torch.from_numpy(canvas(size_hw)), captions=["given as tokens"])
        golden[f"{name}_logits"] = out["pred_logits"][0, :, : len(TOKENS)].numpy()  # (Q, T)
        golden[f"{name}_boxes"] = out["pred_boxes"][0].numpy()  # (Q, 4)
    np.savez_compressed(HERE / "grounding_dino.npz", **golden)


def _first(name: str) -> str:
    """The layers of the decoder share one head for boxes, which has several names."""
    return re.sub(r"^(model\.decoder\.)?bbox_embed\.\d+", "bbox_embed.0", name)


def _reference(checkout: Path, config: Any) -> Any:
    """The published net at toy size."""
    import torch
    from transformers import BatchEncoding, BertModel

    _pretend()
    sys.path.insert(0, str(checkout))
    home = "groundingdino.models.GroundingDINO"
    nets = importlib.import_module(f"{home}.groundingdino")
    backbones = importlib.import_module(f"{home}.backbone.backbone")
    swins = importlib.import_module(f"{home}.backbone.swin_transformer")

    class Tokenizer:
        """Gives the tokens whatever the caption."""

        def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
            return [101, 102, 1012, 1029]

        def __call__(self, captions: list[str], **_: Any) -> BatchEncoding:
            ids = torch.tensor([TOKENS])
            parts = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)}
            return BatchEncoding(parts)

    class Bert(torch.nn.Module):
        def __init__(self, bert_model: Any) -> None:
            super().__init__()
            self.config, self.whole = bert_model.config, bert_model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, position_ids: Any) -> Any:
            return self.whole(input_ids, attention_mask[:, None].bool(), token_type_ids, position_ids)

    nets.BertModelWarper = Bert
    nets.get_tokenlizer.get_tokenlizer = lambda _: Tokenizer()
    nets.get_tokenlizer.get_pretrained_language_model = lambda _: BertModel(config.text_config)
    backbones.build_swin_transformer = lambda name, pretrain_img_size, **settings: swins.SwinTransformer(
        pretrain_img_size=224, **SWIN, **settings
    )
    return nets.build_groundingdino(_settings(config)).eval()


def _settings(config: Any) -> types.SimpleNamespace:
    """groundingdino/config/GroundingDINO_SwinT_OGC.py, at toy size."""
    return types.SimpleNamespace(
        backbone="swin_T_224_1k",
        position_embedding="sine",
        pe_temperatureH=20,
        pe_temperatureW=20,
        return_interm_indices=[1, 2, 3],
        backbone_freeze_keywords=None,
        enc_layers=config.encoder_layers,
        dec_layers=config.decoder_layers,
        pre_norm=False,
        dim_feedforward=config.encoder_ffn_dim,
        hidden_dim=config.d_model,
        dropout=0.0,
        nheads=config.encoder_attention_heads,
        num_queries=config.num_queries,
        query_dim=4,
        num_patterns=0,
        num_feature_levels=4,
        enc_n_points=4,
        dec_n_points=4,
        two_stage_type="standard",
        two_stage_bbox_embed_share=False,
        two_stage_class_embed_share=False,
        transformer_activation="relu",
        dec_pred_bbox_embed_share=True,
        dn_box_noise_scale=1.0,
        dn_label_noise_ratio=0.5,
        dn_labelbook_size=2000,
        embed_init_tgt=True,
        max_text_len=256,
        text_encoder_type="toy",
        use_text_enhancer=True,
        use_fusion_layer=True,
        use_checkpoint=False,
        use_transformer_ckpt=False,
        use_text_cross_attention=True,
        text_dropout=0.0,
        fusion_dropout=0.0,
        fusion_droppath=0.1,
        sub_sentence_present=True,
    )


def _pretend() -> None:
    """Modules that are imported and not used on this path; any name in them is a module that does nothing."""
    import torch

    class Anything(types.ModuleType):
        __path__: list[str] = []
        __version__ = "0.20.0"

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (torch.nn.Identity,), {})

    vision = ("", ".ops", ".ops.boxes", ".models", ".models._utils")
    names = [f"torchvision{name}" for name in vision] + ["timm", "timm.models", "timm.models.layers"]
    for name in [*names, "groundingdino.util.visualizer", "groundingdino.util.slconfig"]:
        sys.modules[name] = Anything(name)
    torchvision: Any = sys.modules["torchvision"]
    torchvision._is_tracing = lambda: False
    layers: Any = sys.modules["timm.models.layers"]
    layers.to_2tuple = lambda value: (value, value)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
