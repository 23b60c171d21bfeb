"""The SmolVLM of random weights as OpenVINO GenAI's ``VLMPipeline`` reads a model: nets, tokenizer and settings.

``python -m benchmarks.chat.openvino_folder TEXT.gguf FOLDER SITE``: in our interpreter, which has the net and torch;
``SITE`` holds the packages of OpenVINO's own environment.

GenAI knows no Idefics3, which SmolVLM is, but LLaVA, which is put together in the same way: rows of a tower stand in
the places of ``<image>`` tokens. So the nets of SmolVLM stand in a folder of LLaVA's. The language model is the graph
that GenAI makes of our GGUF (eight bits in blocks of 32, as llama.cpp reads it), the table of embeddings taken out;
the tower is converted by OpenVINO from torch.

Source of the names of files and settings: github.com/openvinotoolkit/openvino.genai, src/cpp/src/visual_language.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.chat import shapes

_NET = "openvino_model.xml"
_TOKENIZERS = ("openvino_tokenizer", "openvino_detokenizer")


class _Sight(nn.Module):
    """float32 (N, 3, 512, 512) -> (N, 64, 576): tower and connector, no pixel padded."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self._tower, self._connector = net.model.vision_model, net.model.connector
        self._side = net.config.vision_config.image_size // net.config.vision_config.patch_size

    def forward(self, pixel_values: Tensor) -> Tensor:
        mask = torch.ones(len(pixel_values), self._side, self._side, dtype=torch.bool)
        rows = self._tower(pixel_values=pixel_values, patch_attention_mask=mask).last_hidden_state  # (N, 1024, 768)
        seen: Tensor = self._connector(rows)  # (N, 64, 576)
        return seen


def write(gguf: Path, folder: Path) -> None:
    """All that the pipeline opens.

    Raises:
        RuntimeError: this OpenVINO reads the GGUF or converts the tower otherwise than that of 2026 did.
    """
    net = shapes.smolvlm()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as work:
        _write_language(gguf, Path(work), folder, net.config.text_config.hidden_size)
    _write_tower(net, folder)
    _write_settings(net.config, folder)


def _write_language(gguf: Path, work: Path, folder: Path, width: int) -> None:
    import openvino
    import openvino_genai

    # GenAI keeps what it makes of a GGUF beside it.
    beside = work / gguf.name
    beside.symlink_to(gguf.resolve())
    openvino_genai.LLMPipeline(str(beside), "CPU", enable_save_ov_model=True)
    for name in _TOKENIZERS:
        for end in (".xml", ".bin"):
            shutil.copy(work / f"{name}{end}", folder / f"{name}{end}")
    net = openvino.Core().read_model(work / _NET)
    table = _cut(net, width)
    # The numbers stay as they are: eight bits with scales of sixteen.
    openvino.save_model(net, folder / "openvino_language_model.xml", compress_to_fp16=False)
    openvino.save_model(table, folder / "openvino_text_embeddings_model.xml", compress_to_fp16=False)


def _cut(net: Any, width: int) -> Any:
    """The table of embeddings as a net of its own; what is left takes ``inputs_embeds`` (B, T, width)."""
    import openvino
    from openvino import opset13 as ops

    ids = next(one for one in net.get_parameters() if "input_ids" in one.output(0).get_names())
    users = [target.get_node() for target in ids.output(0).get_target_inputs()]
    looked_up = [_gathers(node) for node in users if node.get_type_name() != "ShapeOf"]
    if len(looked_up) != 1 or looked_up[0] is None:
        raise RuntimeError("the graph that OpenVINO GenAI makes of a GGUF looks its embeddings up in another way")
    table = looked_up[0]
    rows = ops.parameter([-1, -1, width], openvino.Type.f32, name="inputs_embeds")
    rows.output(0).set_names({"inputs_embeds"})
    _replace(table, rows)
    whole = [ops.constant([one], openvino.Type.i64) for one in (0, 2, 1)]
    for node in users:
        if node.get_type_name() == "ShapeOf":
            _replace(node, ops.slice(ops.shape_of(rows), *whole))  # (B, T, width) -> (B, T)
    net.add_parameters([rows])
    net.remove_parameter(ids)
    net.validate_nodes_and_infer_types()
    table.output(0).set_names({"inputs_embeds"})
    return openvino.Model([table.output(0)], [ids], "text_embeddings")


def _gathers(node: Any) -> Any:
    """The look-up that a node is, or that it leads to."""
    if node.get_type_name() == "Gather":
        return node
    after = [target.get_node() for target in node.output(0).get_target_inputs()]
    return next((one for one in after if one.get_type_name() == "Gather"), None)


def _replace(old: Any, new: Any) -> None:
    for target in list(old.output(0).get_target_inputs()):
        target.replace_source_output(new.output(0))


def _write_tower(net: Any, folder: Path) -> None:
    import openvino

    tower, example = _Sight(net).eval(), shapes.picture(1)[0]  # (1, 3, 512, 512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trace warns of every size that it keeps; here all are fixed
        shape = openvino.PartialShape([-1, *example.shape[1:]])
        converted = openvino.convert_model(tower, example_input=example, input=[shape])
    converted.inputs[0].get_tensor().set_names({"pixel_values"})
    converted.outputs[0].get_tensor().set_names({"last_hidden_state"})
    with torch.inference_mode():
        right = tower(example).numpy()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    apart = abs(openvino.compile_model(converted, "CPU", exact)(example.numpy())[0] - right).max()
    if apart > 1e-3 * abs(right).max():
        raise RuntimeError(f"the tower that OpenVINO converted is {apart:.2g} apart from torch's")
    openvino.save_model(converted, folder / "openvino_vision_embeddings_model.xml")


def _write_settings(config: Any, folder: Path) -> None:
    vision = config.vision_config
    side = {"height": vision.image_size, "width": vision.image_size}
    files = {
        "config.json": {
            "model_type": "llava",
            "hidden_size": config.text_config.hidden_size,
            "vision_config": {"patch_size": vision.patch_size},
        },
        "preprocessor_config.json": {
            "crop_size": side,
            "size": {"shortest_edge": vision.image_size},
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    sys.path.append(sys.argv[3])  # behind ours, so that torch and numpy are the same
    write(Path(sys.argv[1]), Path(sys.argv[2]))
