"""What a language model that talks is made of, out of the files of its card, or at toy size.

What reads each kind of file is imported when there is one: a GGUF file with its bits kept needs nothing of
transformers, whose nets take longer to import than such a file takes to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anmok.errors import BadWeights
from anmok.nets.families import Family, family_of
from anmok.nets.readings import Packed
from anmok.tasks import Setup
from anmok.wording import Reader, Template
from anmok.wording.published import Files, opening


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What is read out of a checkpoint's files. ``facts`` are those of its preprocessor; ``opening`` is a token that
    stands before every prompt whose template does not begin with it."""

    family: Family
    net: nn.Module
    reader: Reader
    template: Template
    ends: frozenset[int]
    facts: Mapping[str, Any]
    opening: str = ""


def read(setup: Setup) -> Parts:
    """Of a checkpoint with its configuration and tokenizer beside it, or of one GGUF file that has everything.

    Raises:
        BadWeights: a file is missing, damaged, or does not fit the others.
        Unsupported: a GGUF file of a kind that is not read.
    """
    packed = next((path for name, path in setup.files.items() if name.endswith(".gguf")), None)
    return _checkpoint(setup) if packed is None else _unpacked(setup, packed)


def toy(setup: Setup, seed: int) -> Parts:
    """At toy size, filled at random, of the family that ``setup.kind`` names.

    Raises:
        BadWeights: a family that is not known.
    """
    from anmok.nets import toys

    family = family_of(setup.kind, setup.name)
    made = toys.toy(setup.kind, family, seed)
    for parameter in made.net.parameters():  # but no buffers: angles of positions need all their digits
        parameter.data = parameter.data.to(getattr(torch, setup.dtype))
    template = Template(made.template, family.content, family.slots, {}, setup.name)
    return Parts(family, made.net, Reader(made.tokenizer, setup.name), template, made.ends, made.facts)


def _checkpoint(setup: Setup) -> Parts:
    from anmok.nets.checkpoints import Checkpoint, tensors

    files = Files(setup.files, setup.name)
    whole = files.json("processor_config.json")
    facts = files.json("preprocessor_config.json") or whole.get("image_processor", {})
    if clips := files.json("video_preprocessor_config.json") or whole.get("video_processor"):
        facts = {**facts, "video_processor": clips}
    if sounds := whole.get("feature_extractor"):
        facts = {**facts, "feature_extractor": sounds}
    state = tensors(files.within("", ".safetensors"), setup.name)
    found = Checkpoint(files.json("config.json"), facts, state, setup.name, setup.kind)
    family = found.family
    reader = Reader(found.tokenizer(files.text("tokenizer.json")), setup.name)
    source = family.template if family.is_template_fixed else files.template(family.template)
    special = files.special()
    template = Template(source, family.content, family.slots, special, setup.name)
    ends = files.ends(reader, family.ends)
    image = reader.id_of(family.marks[0]) if family.marks else None
    added = {
        name: (tensors(files.within(folder, ".safetensors"), setup.name), files.json(f"{folder}/adapter_config.json"))
        for name, folder in family.folders.items()
    }
    net, facts = found.filled(image, added, getattr(torch, setup.dtype))
    begin = opening(reader, special["bos_token"]) if family.eyes is not None else ""
    return Parts(family, net, reader, template, ends, facts, begin)


def _unpacked(setup: Setup, path: Path) -> Parts:
    """Out of one file that has everything. Its weights are widened; or, the fastest on a processor, their bits kept."""
    from anmok.nets import gguf_files, lean_gguf

    is_kept = setup.device == "cpu" and setup.runtime == "fastest"
    found = gguf_files.opened(path, None if is_kept else getattr(torch, setup.dtype), setup.name)
    net = found.net or Packed(lean_gguf.opened(path, found.file), found.config)
    family = family_of(found.config.model_type, setup.name)
    reader = Reader(found.tokenizer, setup.name)
    template = Template(found.template, family.content, family.slots, found.special, setup.name)
    ends = found.ends | {number for mark in family.ends if (number := reader.id_of(mark)) is not None}
    if not ends:
        raise BadWeights(f"{setup.name}: no token ends its answers: {path.name} lacks tokenizer.ggml.eos_token_id")
    return Parts(family, net, reader, template, ends, {})
