"""Gemma 3: the text of Hugging Face's `Gemma3ForCausalLM` and `Gemma3ForConditionalGeneration` to llama.cpp's keys and
tensor names.
"""

from __future__ import annotations

from typing import Any

from ...text.defaults import GENERATION_KEYS
from .gemma_parts import GELU, gemma3_rows, plan_gemma3_rotations, plan_scale, read_cap, refusals
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import Bias, decoder_metadata, is_own_head, linear, plan_rows, vocabulary_of
from .windows import plan_alternating_windows

__all__ = ["plan"]

LAYERS_OF_27B = 62
# What absent keys mean: a configuration with images names only what is otherwise in its text.
USUAL = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
}
OF_IMAGES = ("vision_tower.*", "multi_modal_projector.*", "model.vision_tower.*", "model.multi_modal_projector.*")
KEYS_OF_IMAGES = frozenset(
    {"vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index"}
)


def plan(source: Source) -> Plan:
    """What a Gemma 3 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    sees_images = "text_config" in source.config.values
    tensors = TensorPlan(source.checkpoint, *(() if sees_images else ("model.", "transformer.")))
    config, notes = text_of(source.config, tensors) if sees_images else (source.config, [])
    config.values = {**USUAL, **config.values}
    config.expect("hidden_activation", *GELU)
    config.expect("attn_logit_softcapping", None)
    config.expect("use_bidirectional_attention", False, None)
    metadata = decoder_metadata(config, head_dim=256)
    plan_scale(config, metadata, LAYERS_OF_27B)
    if config.values.get("final_logit_softcapping") is not None:
        metadata["final_logit_softcapping"] = read_cap(config, "final_logit_softcapping", 0.0)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_gemma3_rotations(tensors, config, metadata)
    bias = Bias.given(config.get("attention_bias", bool, False))
    plan_rows(tensors, gemma3_rows(tensors, metadata, bias), metadata["block_count"])
    plan_alternating_windows(config, metadata, window=4096, period=6)
    if sees_images:
        plan_head_beside_images(tensors, config, metadata)
    else:
        notes += plan_decoder_head(source, tensors, metadata, tied=True)
    config.finish(HARMLESS)
    notes += refusals(tensors, bias, own_head=True)
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def text_of(config: Config, tensors: TensorPlan) -> tuple[Config, list[str]]:
    """The text's configuration of a model that sees images, and what is left out."""
    text = config.section("text_config") or Config({}, f"{config.path}: text_config")
    text.notes = config.notes
    text.values = {"tie_word_embeddings": config.get("tie_word_embeddings", bool, True), **text.values}
    of_text = {key: value for key, value in text.values.items() if key in GENERATION_KEYS}
    config.values = {**of_text, **config.values}
    config.finish(HARMLESS | KEYS_OF_IMAGES)
    count = len(tensors.ignore(*OF_IMAGES))
    return text, [f"{count} tensors of images are left out: the file has the text's part of the model"]


def plan_head_beside_images(tensors: TensorPlan, config: Config, metadata: dict[str, Any]) -> None:
    """The output matrix of the text, if it is not the token embeddings'."""
    head = tensors.first("lm_head.weight", "language_model.lm_head.weight")
    if is_own_head(tensors, config, "tie_word_embeddings", True, head, "token_embd.weight"):
        shape = metadata["vocab_size"], metadata["embedding_length"]
        plan_rows(tensors, [linear("output", head.removesuffix(".weight"), *shape)])
