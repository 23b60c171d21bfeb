"""The keys of a body that pass to an engine, and why others do not. A key that is in no table does not pass.

Read out of the request classes of vLLM (github.com/vllm-project/vllm, vllm/entrypoints/openai), LMDeploy
(github.com/InternLM/lmdeploy, lmdeploy/serve/openai/protocol.py) and SGLang (github.com/sgl-project/sglang,
python/sglang/srt/entrypoints/openai/protocol.py), 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SAMPLING: Final = frozenset(
    [
        "model",
        "stream",
        "stream_options",
        "n",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "stop_token_ids",
        "max_tokens",
        "max_completion_tokens",
        "min_tokens",
        "min_new_tokens",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "logit_bias",
        "logprobs",
        "ignore_eos",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "bad_words",
        "allowed_token_ids",
        "truncate_prompt_tokens",
        "thinking_token_budget",
        "response_format",
        "cache_salt",
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
    ]
)
_CHAT: Final = frozenset(
    [
        "messages",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
        "verbosity",
        "include_reasoning",
        "enable_thinking",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
    ]
)
_COMPLETION: Final = frozenset(["prompt", "suffix", "echo", "add_special_tokens"])
_EMBEDDING: Final = frozenset(
    [
        "model",
        "input",
        "messages",
        "encoding_format",
        "dimensions",
        "user",
        "truncate_prompt_tokens",
        "add_special_tokens",
    ]
)

ROUTES: Final[Mapping[str, frozenset[str]]] = {
    "chat/completions": _SAMPLING | _CHAT,
    "completions": _SAMPLING | _COMPLETION,
    "embeddings": _EMBEDDING,
}

MESSAGE: Final = frozenset(
    [
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "reasoning",
        "reasoning_content",
        "annotations",
    ]
)
# `max_dynamic_patch` is LMDeploy's: tiles of one picture. Its `data` would be opened as a path.
PICTURE: Final = ("url", "detail", "max_dynamic_patch")
STREAMING: Final = ("include_usage", "continuous_usage_stats", "include_obfuscation")
TEMPLATE: Final = ("enable_thinking", "thinking", "reasoning_effort")
FORMATS: Final = ("text", "json_object", "json_schema")

_TEMPLATE = "a caller's template is a program that the engine would run"
_CODE = "it names or carries code that the engine would load"
_TENSOR = "a tensor from a caller is read by the engine as it is, and a wrong one brings it down"
_GRAMMAR = "a grammar or expression from a caller can keep the engine's compiler busy without end; use response_format"
_LOADING = "it makes the engine load adapters, or open files, by a caller's name"
_MEDIA = "it sets how the engine reads files and how much memory that takes"
_HOSTS = "it makes the engine connect to hosts that a caller names"
_OTHERS = "it reaches into what belongs to other callers of the engine"
_COST = "it multiplies the work of one request"
_AROUND = "it goes around the messages, which are what is checked here"
_INSIDE = "it shows the inside of the engine"
_TOOLS = "the engine would go out to the web for a caller"

REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("chat_template", "chat_template_content_format"), _TEMPLATE),
    **dict.fromkeys(
        (
            "logits_processors",
            "custom_logit_processor",
            "custom_params",
            "vllm_xargs",
            "extra_args",
            "logits_processor",
        ),
        _CODE,
    ),
    **dict.fromkeys(("prompt_embeds", "input_embeds", "multi_modal_data"), _TENSOR),
    **dict.fromkeys(
        (
            *("guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_decoding_backend"),
            *("guided_whitespace_pattern", "structured_outputs", "structural_tag", "regex", "ebnf", "json_schema"),
            *("stop_regex", "grammar"),
        ),
        _GRAMMAR,
    ),
    **dict.fromkeys(
        (
            *("lora", "lora_path", "lora_name", "lora_request", "adapter_name", "ngram_corpus_id"),
            "image_data",  # LMDeploy's: an address or a path
        ),
        _LOADING,
    ),
    **dict.fromkeys(("mm_processor_kwargs", "media_io_kwargs", "images_config"), _MEDIA),
    **dict.fromkeys(("input_ids", "do_preprocess"), _AROUND),
    **dict.fromkeys(
        (
            *("kv_transfer_params", "ec_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room"),
            *("data_parallel_rank", "routed_dp_rank", "disagg_prefill_dp_rank"),
        ),
        _HOSTS,
    ),
    **dict.fromkeys(
        ("priority", "request_id", "rid", "session_id", "session_params", "extra_key", "custom_labels"), _OTHERS
    ),
    **dict.fromkeys(("best_of", "use_beam_search", "length_penalty", "prompt_logprobs"), _COST),
    **dict.fromkeys(
        (
            *("return_hidden_states", "return_routed_experts", "return_token_ids", "return_prompt_text"),
            *("return_tokens_as_token_ids", "return_logprob"),
        ),
        _INSIDE,
    ),
    "web_search_options": _TOOLS,
}
