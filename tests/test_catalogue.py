"""The catalogue: what its rows may say, that they agree with the nets, and that each claim has its test."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anmok.catalogue import Card, card, cards
from anmok.catalogue.sources import (
    LICENCES,
    ClosedSource,
    HubSource,
    NoSource,
    PackageSource,
    RemoteSource,
    suffix,
)
from anmok.errors import UnknownModel
from anmok.tasks import (
    Chat,
    Classify,
    Depth,
    Detect,
    Embed,
    Gaze,
    Matting,
    Normals,
    Parse,
    Pointing,
    Pose,
    Segment,
    Track,
)
from published_sizes import NETS
from published_talkers import STATED, published_talker

TESTS = Path(__file__).parent
ALL = cards(is_hidden=True)
HUB = [one for one in ALL if isinstance(one.source, HubSource)]
ASKS = (Chat, Classify, Embed, Depth, Detect, Gaze, Matting, Normals, Parse, Pointing, Pose, Segment, Track)
TASKS = {ask.task for ask in ASKS}
BY_NAME = {"ids": lambda one: one.name}


@pytest.mark.parametrize("one", ALL, **BY_NAME)
def test_a_row_is_whole(one: Card) -> None:
    assert re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", one.name)
    assert set(one.tasks) <= TASKS
    assert bool(one.tasks) != isinstance(one.source, ClosedSource)
    assert one.scoring in ("softmax", "sigmoid")
    assert set(one.parts) <= {"vision", "text", "detector", "segmenter", "looks", "talks"}
    assert LICENCES[one.licence.id] is one.licence
    assert one.summary.endswith(".")
    assert all(template.count("{}") == 1 for template in one.text.templates)
    assert one.text.context > 0
    assert ("classify" in one.tasks) <= bool(one.languages), "labels need a tower that reads them"
    assert all(re.fullmatch(r"[a-z]{2,3}", language) for language in one.languages)
    assert one.successor == "" or card(one.successor)
    if not one.is_hidden:
        assert 2018 < one.year <= 2026
        assert one.params > 0 or one.parts or isinstance(one.source, RemoteSource | ClosedSource)
        assert one.cite or one.parts
    module, _, name = one.code.partition(":")
    spec = importlib.util.find_spec(f"anmok.models.{module}")
    assert spec is not None
    assert spec.origin is not None
    assert f"class {name}" in Path(spec.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("one", HUB, **BY_NAME)
def test_a_hub_row_names_its_files(one: Card) -> None:
    assert isinstance(one.source, HubSource)
    assert one.name.startswith(one.family)
    whole = [file for file in one.source.files if "-lora/" not in file]  # without adapters that belong to them
    weights = [file for file in whole if suffix(file) in (".safetensors", ".pth", ".mf.gz")]
    assert len(weights) == 1
    assert ("config.json" in one.source.files) == (weights == ["model.safetensors"])
    files = set(one.source.every_file)
    reads = "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= files or suffix(weights[0]) == ".mf.gz"
    assert reads == bool(one.languages)
    is_proposed = one.source.revision.startswith("refs/pr/")  # locked by the first pull, as one that names nothing
    assert one.source.revision == "" or one.source.is_commit or is_proposed, "a branch or a tag may move"


# Each family's own paper and code: scoring, tokens of context, whether texts are lower-cased and filled up to it.
TEXT_TOWERS = {
    "clip": ("softmax", 77, False, False),
    "openclip": ("softmax", 77, False, False),
    "siglip": ("sigmoid", 64, True, True),
    "siglip2": ("sigmoid", 64, True, True),
}
SHORTER_CONTEXT = {"siglip-so400m14-224": 16}


@pytest.mark.parametrize("one", [one for one in HUB if {"classify", "embed"} <= set(one.tasks)], **BY_NAME)
def test_texts_and_scores_are_as_published(one: Card) -> None:
    scoring, context, is_lowercased, is_padded = TEXT_TOWERS[one.family]
    assert one.scoring == scoring
    assert one.text.context == SHORTER_CONTEXT.get(one.name, context)
    assert (one.text.is_lowercased, one.text.is_padded) == (is_lowercased, is_padded)
    assert len(one.text.templates) == 1
    assert one.text.templates[0].lower().replace("this is ", "") in ("a photo of a {}.", "a photo of {}.")


def test_names_do_not_differ_by_dashes_alone() -> None:
    plain = [one.name.replace("-", "") for one in ALL]
    assert len(set(plain)) == len(plain) == len({one.name for one in ALL})
    assert "fake" not in {one.name for one in cards()}


def test_parts_stand_in_the_catalogue() -> None:
    for one in ALL:
        assert not isinstance(one.source, NoSource) or one.is_hidden or one.parts
        assert all(part in {other.name for other in ALL} for part in one.parts.values())


def test_a_misspelt_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownModel, match="did you mean siglip2-b16-256"):
        card("siglip2-b16-265")
    with pytest.raises(UnknownModel, match="`anmok models` lists them"):
        card("qqqq")


def test_a_task_keeps_those_that_claim_it() -> None:
    assert "dinov2-s14" in {one.name for one in cards("embed")}
    talking = {"exaone", "gemma", "hyperclovax", "internvl", "llava", "moondream", "phi", "qwen", "smolvlm"}
    talking |= {"videollama2", "videollama3"}
    assert {one.family for one in cards("classify")} == {"clip", "mini", "openclip", "siglip", "siglip2", *talking}
    assert cards("paint") == ()


def test_who_reads_korean_says_so() -> None:
    talkers = {"exaone", "gemma", "hyperclovax", "phi", "qwen", "solar"}
    assert {one.family for one in cards() if "ko" in one.languages} == {"siglip2"} | talkers
    for one in cards("chat"):
        assert ("ko" in one.languages) == ("Korean" in one.summary)
    assert len(card("siglip2-b16-256").languages) == len(set(card("siglip2-b16-256").languages)) == 36


def test_what_wants_a_licence_says_so() -> None:
    asked = {one.family for one in cards() if not one.licence.is_accepted_by_default}
    weights = {"dinov3", "depth-anything-v2", "depth-anything-3", "mobilevit", "sam3", "sapiens", "sapiens2"}
    talkers = {"exaone", "gemma", "hyperclovax", "internvl", "llava", "qwen", "solar"}
    assert asked == weights | talkers | {"remote"}
    for one in cards():
        assert isinstance(one.source, RemoteSource) == one.licence.id.startswith("remote:")


@pytest.mark.parametrize("one", HUB, **BY_NAME)
def test_parameters_are_counted(one: Card) -> None:
    if one.name in STATED:  # no configuration could be seen
        assert one.params == STATED[one.name]
        return
    with torch.device("meta"):  # sizes without numbers
        net = published_talker(one) if one.code == "talking:Talks" else NETS[one.family](one.kind)
    assert sum(parameter.numel() for parameter in net.parameters()) == one.params
    assert one.memory_bytes == 4 * one.params


def test_parameters_of_mini_are_counted() -> None:
    from anmok.nets import bert, efficientnet_lite

    with torch.device("meta"):
        eye = efficientnet_lite.EfficientNetLite(efficientnet_lite.LITE2)
        small = efficientnet_lite.EfficientNetLite(efficientnet_lite.LITE0)
        tongue = bert.Bert(bert.MINILM_L6)
    counts = {
        name: sum(parameter.numel() for parameter in net.parameters())
        for name, net in (("efficientnet-lite2", eye), ("minilm-l6", tongue))
    }
    counts["mini"] = sum(counts.values()) + 1280 * 384  # and the map between them
    counts["efficientnet-lite0"] = sum(parameter.numel() for parameter in small.parameters())
    for name, count in counts.items():
        assert card(name).params == pytest.approx(count, rel=0.01)


# By what a card's `parity` is proven: family and architecture -> module of tests/parity and test in it.
PARITY = {
    ("moondream", "2b"): ("test_moondream", "test_answers_equal_the_reference"),
    ("clip", "vit"): ("test_clip", "test_openai_names_give_the_same_vit"),
    ("clip", "resnet"): ("test_clip_resnet", "test_image_tower_equals_the_reference"),
    ("openclip", "vit"): ("test_clip", "test_logits_equal_transformers"),
    ("siglip", "vit"): ("test_siglip", "test_scores_are_the_sigmoid_of_transformers_logits"),
    ("siglip2", "vit"): ("test_siglip", "test_scores_are_the_sigmoid_of_transformers_logits"),
    ("dinov2", "dinov2"): ("test_dino", "test_features_equal_transformers"),
    ("dinov2", "dinov2_with_registers"): ("test_dino", "test_features_equal_transformers"),
    ("dinov3", "dinov3_vit"): ("test_dino", "test_features_equal_transformers"),
    ("dinov3", "dinov3_convnext"): ("test_dino", "test_features_equal_transformers"),
    ("depth-anything-v2", "relative"): ("test_depth_anything", "test_the_net_is_that_of_the_authors"),
    ("depth-anything-v2", "metric"): ("test_depth_anything", "test_the_net_is_that_of_the_authors"),
    ("depth-anything-3", "anyview"): ("test_depth_anything3", "test_answers_equal_the_reference"),
    ("depth-anything-3", "mono"): ("test_depth_anything3", "test_answers_equal_the_reference"),
    ("depth-anything-3", "metric"): ("test_depth_anything3", "test_answers_equal_the_reference"),
    **{
        ("sapiens", head): ("test_sapiens", "test_transformer_and_head_equal_the_published_code")
        for head in ("pose17", "pose133", "pose308", "parts", "depth", "normals")
    },
    ("sapiens2", "pose"): ("test_sapiens2", "test_published_names_fill_the_net"),
    ("sapiens2", "parts"): ("test_sapiens2", "test_published_names_fill_the_net"),
    ("sapiens2", "normals"): ("test_sapiens2", "test_published_names_fill_the_net"),
    ("sapiens2", "pointmap"): ("test_sapiens2", "test_names_of_the_library_fill_the_net"),
    ("sapiens2", "matting"): ("test_sapiens2", "test_names_of_the_library_fill_the_net"),
    ("vitpose", "simple"): ("test_vitpose", "test_points_equal_those_of_transformers"),
    ("vitpose", "classic"): ("test_vitpose", "test_points_equal_those_of_transformers"),
    ("vitpose", "plus"): ("test_vitpose", "test_points_equal_those_of_transformers"),
    ("grounding-dino", "grounding_dino"): ("test_grounding_dino", "test_the_net_is_that_of_the_authors"),
    ("mm-grounding-dino", "mm_grounding_dino"): (
        "test_grounding_dino",
        "test_boxes_and_scores_equal_transformers",
    ),
    ("owlv2", "vit"): ("test_owlv2", "test_boxes_scores_and_labels_equal_transformers"),
    ("rtdetr", "rt_detr_v2"): ("test_detr", "test_boxes_scores_and_names_equal_transformers"),
    ("dfine", "d_fine"): ("test_detr", "test_boxes_scores_and_names_equal_transformers"),
    ("rfdetr", "rf_detr"): ("test_detr", "test_boxes_scores_and_names_equal_transformers"),
    ("sam2", "sam2.1"): ("test_sam2_authors", "test_a_clip_is_followed_as_by_the_authors"),
    ("edgetam", "edgetam"): ("test_edgetam", "test_a_clip_is_followed_as_by_the_authors"),
    ("samurai", "motion"): ("test_samurai", "test_masks_are_chosen_as_theirs_are"),
    ("sam", "vit"): ("test_sam", "test_prompts_are_read_as_published"),
    ("sam3", "sam3"): ("test_sam3", "test_finds_equal_transformers"),
    ("florence2", "davit"): ("test_florence2", "test_answers_equal_transformers"),
    **{
        (family, kind): ("test_talking", "test_words_are_answered_as_transformers_does")
        for family, kinds in {
            "exaone": ("exaone4",),
            "gemma": ("gemma2", "gemma3_text"),
            "hyperclovax": ("llama", "hyperclovax"),
            "phi": ("phi3",),
            "qwen": ("qwen2", "qwen3"),
            "smollm2": ("llama",),
            "solar": ("llama", "solar_open"),
        }.items()
        for kind in kinds
    },
    **{
        (family, kind): ("test_talking", "test_pictures_are_answered_as_transformers_does")
        for family, kinds in {
            "exaone": ("exaone4_5",),
            "gemma": ("gemma3", "gemma4"),
            "hyperclovax": ("hyperclovax_vision_v2",),
            "internvl": ("internvl",),
            "llava": ("llava", "llava_next", "llava_next_video", "llava_onevision"),
            "phi": ("phi4_multimodal",),
            "qwen": ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"),
            "smolvlm": ("idefics3", "smolvlm"),
        }.items()
        for kind in kinds
    },
    ("gemma", "gemma3_crops"): ("test_talking", "test_pictures_are_answered_as_transformers_does"),
    ("gemma", "gemma3n"): ("test_gemma3n", "test_it_answers_as_transformers_does"),
    ("gemma", "gemma4_hears"): ("test_gemma_hearing", "test_answers_are_the_nets_own"),
    ("llava", "llavaonevision1_5"): ("test_onevision15", "test_numbers_of_the_tower_are_those_of_the_authors"),
    ("hyperclovax", "hyperclovax_vlm"): ("test_connectors", "test_the_abstractor_is_honeybees"),
    ("hyperclovax", "hyperclovax_omni"): ("test_hyperclovax_omni", "test_codes_of_sounds_are_cosyvoices"),
    ("videollama2", "videollama2_mistral"): ("test_connectors", "test_connectors_are_videollama2s"),
    ("videollama2", "videollama2_qwen2"): ("test_connectors", "test_connectors_are_videollama2s"),
    ("videollama2", "videollama2_qwen2_av"): ("test_connectors_sound", "test_tokens_are_beats"),
    ("phi", "phi4_multimodal_speech"): ("test_phi4_hearing", "test_answers_are_the_nets_own"),
    ("vit", "vit"): ("test_backbone", "test_features_equal_what_transformers_gives_its_classifier"),
    ("resnet", "resnet"): ("test_backbone", "test_features_equal_what_transformers_gives_its_classifier"),
    ("mobilevit", "mobilevit"): ("test_backbone", "test_features_equal_what_transformers_gives_its_classifier"),
    ("mini", "lite0"): ("test_efficientnet_lite", "test_equals_the_reference_at_every_parity_of_the_sides"),
    ("mini", "lite2"): ("test_efficientnet_lite", "test_equals_the_reference_at_every_parity_of_the_sides"),
    ("mini", "llama"): ("test_gguf_files", "test_four_bits_are_widened_as_transformers_widens_them"),
    ("mini", "l6"): ("test_bert", "test_states_equal_transformers"),
}


@pytest.mark.parametrize("one", ALL, **BY_NAME)
def test_claims_are_proven(one: Card) -> None:
    if one.verified.parity:
        module, test = PARITY[one.family, one.kind.partition("-")[0]]
        assert f"def {test}(" in (TESTS / "parity" / f"{module}.py").read_text(encoding="utf-8")
    # Nobody here has had weights from the hub: nothing may be claimed of them.
    reaches = isinstance(one.source, PackageSource) or bool(one.parts)
    assert reaches or not (one.verified.golden or one.verified.real)


CARD = """
[family]
family = "toy"
code = "toy_models.toy:Toy"
tasks = ["embed"]
licence = "mit"
source = {}
pixels = { size = 8, fit = "squash", filter = "nearest", mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
[[model]]
name = "toy-one"
kind = "one"
summary = "A plug-in."
"""
CODE = """
import numpy as np
from anmok import geometry
from anmok.results import Embedding
class Toy:
    nbytes = 0
    def __init__(self, setup): self.setup = setup
    @classmethod
    def from_files(cls, setup): return cls(setup)
    def prepare(self, image): return geometry.view(image, self.setup.pixels)
    def encode(self, batch): return {"features": batch.mean((2, 3))}
    def embed(self, states, ask): return [Embedding(state.features, ask.space) for state in states]
"""


def installed(folder: Path, rows: str) -> dict[str, str]:
    """A package with a model of its own, as pip would leave it; the environment that finds it."""
    (folder / "toy_models").mkdir()
    (folder / "toy_models" / "__init__.py").touch()
    (folder / "toy_models" / "toy.py").write_text(CODE)
    (folder / "toy_models" / "toy.toml").write_text(rows)
    facts = folder / "toy_models-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-models\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[anmok.models]\ntoy = toy_models\n")
    return {"PYTHONPATH": str(folder), "PATH": "", "HOME": str(folder)}


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_package_adds_its_own_models(tmp_path: Path) -> None:
    environment = installed(tmp_path, CARD)
    code = (
        "import anmok, numpy as np; one = anmok.card('toy-one'); assert one in anmok.cards('embed');"
        "print(anmok.load('toy-one', device='cpu').embed(np.full((4, 6, 3), 255, np.uint8)).vector.tolist())"
    )
    done = run(code, environment)
    assert done.stdout == "[1.0, 1.0, 1.0]\n", done.stderr


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (CARD.replace("toy-one", "mini"), "toy.toml: a model called 'mini' stands in the catalogue already"),
        (CARD.replace("mit", "mitt"), "toy.toml: the row of 'toy-one' is not a card ('mitt')"),
        (CARD.replace("kind =", "kinds ="), "toy.toml: the row of 'toy-one' is not a card"),
        (CARD.replace('"A plug-in."', "A plug-in."), "toy.toml is not TOML"),
    ],
)
def test_a_row_that_is_no_card_is_named(rows: str, said: str, tmp_path: Path) -> None:
    done = run("import anmok; anmok.cards()", installed(tmp_path, rows))
    assert done.returncode == 1
    assert f"anmok.errors.BadData: {said}" in done.stderr
