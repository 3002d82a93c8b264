"""Whisper's encoder: Hugging Face's `WhisperEncoder`."""

from __future__ import annotations

import re
from typing import Any

from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, convolution, linear, norm, plan_rows, table, whole_heads

__all__ = ["plan"]

KERNEL = 3
# Of the decoder, of training and of heads that are not there.
WITHOUT_EFFECT = frozenset(
    re.findall(
        r"\w+",
        """
    apply_spec_augment classifier_proj_size decoder_attention_heads decoder_ffn_dim decoder_layerdrop decoder_layers
    encoder_layerdrop init_std mask_feature_length mask_feature_min_masks mask_feature_prob mask_time_length
    mask_time_min_masks mask_time_prob max_target_positions median_filter_width tie_word_embeddings use_cache
    use_weighted_layer_sum vocab_size
        """,
    )
)


def plan(source: Source) -> Plan:
    """What a checkpoint of Whisper's encoder becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "d_model", "encoder_attention_heads")
    positions = config.count("max_source_positions", 1500)
    metadata: dict[str, Any] = {
        "context_length": 2 * positions,  # frames, which the second convolution halves
        "embedding_length": width,
        "block_count": config.count("encoder_layers"),
        "feed_forward_length": config.count("encoder_ffn_dim"),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": 1e-5,
        "activation": ACTIVATION_NAMES[config.expect("activation_function", *ACTIVATION_NAMES)],
        "num_mel_bins": config.count("num_mel_bins", 80),
    }
    config.expect("scale_embedding", False)
    plan_rows(tensors, rows(metadata, positions), metadata["block_count"])
    config.finish(HARMLESS | WITHOUT_EFFECT)
    return Plan(metadata, tensors.finish(), {})


def rows(metadata: dict[str, Any], positions: int) -> list[Row]:
    """Every tensor of the encoder. Its keys have no bias."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, layer = "blk.{}", "layers.{}"
    return [
        convolution("conv1", "conv1", width, metadata["num_mel_bins"], KERNEL),
        convolution("conv2", "conv2", width, width, KERNEL),
        table("position_embd", "embed_positions", positions, width),
        norm(f"{block}.attn_norm", f"{layer}.self_attn_layer_norm", width),
        linear(f"{block}.attn_q", f"{layer}.self_attn.q_proj", width, width, Bias.NEEDED),
        linear(f"{block}.attn_k", f"{layer}.self_attn.k_proj", width, width),
        linear(f"{block}.attn_v", f"{layer}.self_attn.v_proj", width, width, Bias.NEEDED),
        linear(f"{block}.attn_output", f"{layer}.self_attn.out_proj", width, width, Bias.NEEDED),
        norm(f"{block}.ffn_norm", f"{layer}.final_layer_norm", width),
        linear(f"{block}.ffn_up", f"{layer}.fc1", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.fc2", width, hidden_width, Bias.NEEDED),
        norm("output_norm", "layer_norm", width),
    ]
