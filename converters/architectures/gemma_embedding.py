"""EmbeddingGemma: Hugging Face's `Gemma3TextModel` that sees both ways to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .encoder_parts import text_side
from .gemma_parts import GELU, gemma3_rows, plan_gemma3_rotations, plan_scale, refusals
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import Bias, decoder_metadata, plan_rows
from .sentences import REFUSED_DENSE
from .windows import plan_alternating_windows

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What an EmbeddingGemma checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.")
    config.expect("use_bidirectional_attention", True)
    config.expect("hidden_activation", *GELU)
    config.expect("attn_logit_softcapping", None)
    config.expect("final_logit_softcapping", None)
    metadata = decoder_metadata(config, head_dim=256) | {"attention.causal": False}
    plan_scale(config, metadata)
    plan_gemma3_rotations(tensors, config, metadata)
    bias = Bias.given(config.get("attention_bias", bool, False))
    plan_rows(tensors, gemma3_rows(tensors, metadata, bias), metadata["block_count"])
    plan_alternating_windows(config, metadata, window=4096, period=6)
    vocab_size, length = metadata["vocab_size"], metadata["context_length"]
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, 0, length)
    if REFUSED_DENSE in notes and plan_dense_sizes(tensors, metadata):
        notes.remove(REFUSED_DENSE)
    config.finish(HARMLESS | {"tie_word_embeddings"})  # only a head would use it
    return Plan(metadata, tensors.finish(), vocabularies, [*notes, *refusals(tensors, bias, own_head=True)])


def plan_dense_sizes(tensors: TensorPlan, metadata: dict[str, Any]) -> bool:
    """The sizes of the linear layers behind the pooling, which llama.cpp asks for; whether it takes these layers."""
    sizes = {tensor.name: tensor.shape for tensor in tensors.tensors if tensor.name.startswith("dense_")}
    if list(sizes) != ["dense_2.weight", "dense_3.weight"]:
        return False
    for name, (outputs, inputs) in sizes.items():
        layer = name.removesuffix(".weight")
        metadata |= {f"{layer}_feat_in": inputs, f"{layer}_feat_out": outputs}
    return all(metadata.get(f"{name.removesuffix('.weight')}_activation", "none") == "none" for name in sizes)
