"""Nomic BERT to llama.cpp's keys and tensor names: the published checkpoints, and those that transformers 5 writes.

The published configurations have GPT-2's names, and many keys that must have the value of this architecture.
"""

from __future__ import annotations

from dataclasses import replace

from .encoder_parts import BERT, embedding_rows, encoder_metadata, gated_layer_rows, prefix_of, text_side
from .heads import MASKED_WORDS, PRETRAINING, bert_heads, plan_task_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import plan_rows
from .rotary import plan_rotary

__all__ = ["plan"]

NOMIC = replace(
    BERT,
    width="n_embd",
    layers="n_layer",
    heads="n_head",
    feed_forward="n_inner",
    epsilon="layer_norm_epsilon",
    layer="encoder.layers.{}",
    parts=("attn.Wqkv", "attn.out_proj", "norm1", "mlp.fc12", "mlp.fc11", "mlp.fc2", "norm2"),
)
TRANSFORMERS = replace(
    BERT,
    layer="layers.{}",
    parts=(
        *("self_attn", "self_attn.o_proj", "post_attention_layernorm"),
        *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "post_mlp_layernorm"),
    ),
)
# Training, speed, and what GPT-2's configuration has that this model does not read.
_WITHOUT_EFFECT = (
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "dense_seq_output", "fused_bias_fc", "fused_dropout_add_ln"),
    *("last_layer_subset", "pad_vocab_size_multiple", "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx"),
    *("scale_attn_weights", "use_flash_attn", "use_xentropy", "tie_word_embeddings"),
)


def plan(source: Source) -> Plan:
    """What a Nomic BERT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    published = "n_embd" in config.values
    names = NOMIC if published else TRANSFORMERS
    activation = "activation_function" if published else "hidden_act"
    config.expect(activation, "swiglu" if published else "silu")
    metadata = encoder_metadata(config, replace(names, activation=None))
    num_positions = read_published(config) if published else config.count("max_position_embeddings", 2048)
    head_dim = metadata["embedding_length"] // metadata["attention.head_count"]
    config.expect("head_dim", head_dim, None)
    vocab_size, num_types = config.count("vocab_size"), config.count("type_vocab_size", 2)
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, num_types, num_positions)
    metadata["rope.dimension_count"] = head_dim
    base = config.number("rotary_emb_base", 1000.0) if published else 1000.0
    plan_rotary(tensors, config, metadata, "default", theta=base)
    prefix = prefix_of(tensors, "bert.", "nomic_bert.")
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    norm = tensors.first(f"{prefix}emb_ln.weight", f"{prefix}embeddings.LayerNorm.weight").removesuffix(".weight")
    plan_rows(tensors, embedding_rows(f"{prefix}embeddings", width, vocab_size, num_types, None, norm))
    stored = NOMIC if tensors.has(f"{prefix}{NOMIC.layer.format(0)}.attn.Wqkv.weight") else TRANSFORMERS
    layers = gated_layer_rows("blk.{}", f"{prefix}{stored.layer}", stored.parts, width, hidden_width)
    plan_rows(tensors, layers, metadata["block_count"])
    heads = bert_heads(prefix, "silu")
    heads[MASKED_WORDS] = replace(heads[MASKED_WORDS], norm="cls.predictions.transform.layer_norm")
    heads[PRETRAINING] = heads[MASKED_WORDS]
    notes += plan_task_head(source, tensors, metadata, heads, f"{prefix}pooler.*", "cls.seq_relationship.*")
    config.finish(HARMLESS | {*_WITHOUT_EFFECT})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def read_published(config: Config) -> int:
    """Check what the published configurations say beside the sizes; returns the number of positions.

    Behind the length of training they scale their rotation by the length of each text, so the context ends there.
    """
    for key in ("causal", "prenorm", "parallel_block", "parallel_block_tied_norm", "use_rms_norm"):
        config.expect(key, False)
    for key in ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "rotary_emb_interleaved"):
        config.expect(key, False)
    config.expect("rotary_emb_fraction", 1.0, 1)
    config.expect("rotary_emb_scale_base", None)
    config.get("rotary_scaling_factor", float, 0.0)
    num_positions = config.count("n_positions", 8192)
    trained = config.count("max_trained_positions", 2048)
    if trained < num_positions:
        config.notes.append(f"the context is the {trained} positions of the training, as llama.cpp has it")
    return min(num_positions, trained)
