"""BERT and those with its graph, and their heads: RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT.

Keys and tensor names are llama.cpp's. The RoBERTas count positions from their padding token's id + 1 on; the file has
the rows from there on alone.
"""

from __future__ import annotations

from .encoder_parts import (
    BERT,
    DISTILBERT,
    EncoderNames,
    embedding_rows,
    encoder_metadata,
    layer_rows,
    prefix_of,
    refuse_decoders,
    text_side,
)
from .heads import Head, bert_heads, distilbert_heads, plan_task_head, roberta_heads
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import plan_rows

__all__ = ["plan"]

_WITHOUT_EFFECT = (
    *("tie_word_embeddings", "tie_weights_"),  # only a head would use them
    "sinusoidal_pos_embds",  # they are stored as learned ones are
    # of the first BERT's own code; nobody reads them
    *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_type"),
    "pooler_size_per_head",
)
_ROBERTAS = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}


def plan(source: Source) -> Plan:
    """What a BERT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    names = DISTILBERT if is_one_of(config, {"distilbert": "DistilBert"}) else BERT
    metadata = encoder_metadata(config, names)
    first = config.get("pad_token_id", int, 1) + 1 if is_one_of(config, _ROBERTAS) else 0
    stored = config.count("max_position_embeddings", 512)
    if not 0 <= first < stored:
        raise config.fail("pad_token_id", f"leaves none of the {stored} positions")
    num_types = 0 if names is DISTILBERT else config.count("type_vocab_size", 2)
    vocab_size = config.count("vocab_size")
    refuse_decoders(config)
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, num_types, stored - first)
    prefix = prefix_of(tensors, "bert.", "roberta.", "distilbert.")
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    positions = (metadata["context_length"], first, stored)
    plan_rows(tensors, embedding_rows(f"{prefix}embeddings", width, vocab_size, num_types, positions))
    layers = layer_rows("blk.{}", f"{prefix}{names.layer}", names.parts, width, hidden_width)
    plan_rows(tensors, layers, metadata["block_count"])
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    heads = heads_of(config, names, prefix, metadata["activation"])
    notes += plan_task_head(source, tensors, metadata, heads, f"{prefix}pooler.*", "cls.seq_relationship.*")
    if metadata["activation"] == "relu":
        notes.append("llama.cpp computes GELU for this architecture, and the model has ReLU: its results differ")
    config.finish(HARMLESS | {*_WITHOUT_EFFECT})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def heads_of(config: Config, names: EncoderNames, prefix: str, activation: str) -> dict[str, Head]:
    """Where the family has its heads."""
    if names is DISTILBERT:
        return distilbert_heads(activation)
    return roberta_heads() if is_one_of(config, _ROBERTAS) else bert_heads(prefix, activation)


def is_one_of(config: Config, families: dict[str, str]) -> bool:
    """Whether a configuration is of one of these families: by its model type or, without one, by its classes."""
    model_type = config.get("model_type", str, "")
    classes = config.get("architectures", list, [])
    return model_type in families or (not model_type and str(classes[0]).startswith(tuple(families.values())))
