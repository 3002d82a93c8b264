"""ModernBERT: Hugging Face's `ModernBertModel` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from ...errors import ConversionError
from .encoder_parts import text_side
from .heads import CLASSES, MASKED_WORDS, SPANS, TOKEN_CLASSES, Head, plan_task_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, linear, norm, plan_rows, table, whole_heads

__all__ = ["plan"]

# Training and speed, what published files have and nobody reads, what only heads have.
_WITHOUT_EFFECT = (
    *("initializer_cutoff_factor", "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad"),
    *("sparse_prediction", "sparse_pred_ignore_index", "layer_norm_eps", "position_embedding_type"),
    *("tie_word_embeddings", "decoder_bias"),
)


def plan(source: Source) -> Plan:
    """What a ModernBERT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads")
    metadata: dict[str, Any] = {
        "embedding_length": width,
        "block_count": config.count("num_hidden_layers"),
        "feed_forward_length": config.count("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("norm_eps", 1e-5),
        "attention.causal": False,
        "hidden_activation": config.expect("hidden_activation", "gelu", "silu"),
        "rope.dimension_count": width // num_heads,
        "rope.scaling.type": "none",
    }
    read_layers(config, metadata)
    vocab_size, num_positions = config.count("vocab_size"), config.count("max_position_embeddings", 8192)
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, 0, num_positions)
    metadata["vocab_size"] = vocab_size
    name = "embeddings.tok_embeddings"
    prefix = tensors.first(f"{name}.weight", f"model.{name}.weight").removesuffix(f"{name}.weight")
    norm_bias = Bias.given(config.get("norm_bias", bool, False))
    plan_rows(tensors, rows(config, prefix, metadata, vocab_size, norm_bias), metadata["block_count"])
    if any(tensor.name.endswith(".bias") for tensor in tensors.tensors):
        notes.append("llama.cpp refuses a ModernBERT with biases")
    notes += plan_task_head(source, tensors, metadata, heads_of(config, norm_bias))
    config.finish(HARMLESS | {*_WITHOUT_EFFECT})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def read_layers(config: Config, metadata: dict[str, Any]) -> None:
    """Which layers see a window, how wide it is, and by which bases either kind rotates."""
    count = metadata["block_count"]
    every = config.count("global_attn_every_n_layers", 3)
    kinds = [str(kind) for kind in config.get("layer_types", list, [])]
    if kinds:
        every = next((layer for layer in range(1, len(kinds)) if kinds[layer] == "full_attention"), count)
        expected = ["sliding_attention" if layer % every else "full_attention" for layer in range(count)]
        if kinds != expected:
            raise config.fail("layer_types", "not supported: full attention in the first layer and every n-th after it")
    metadata["attention.sliding_window"] = config.count("local_attention", 128)
    metadata["attention.sliding_window_pattern"] = every
    config.expect("rope_scaling", None)
    sections = config.section("rope_parameters") or Config({}, config.path)
    for key, section, old, theta in (
        ("rope.freq_base", "full_attention", "global_rope_theta", 160000.0),
        ("rope.freq_base_swa", "sliding_attention", "local_rope_theta", 10000.0),
    ):
        settings = sections.section(section) or Config({}, sections.path)
        settings.expect("rope_type", "default")
        metadata[key] = settings.number("rope_theta", config.number(old, theta))
        if metadata[key] < 1:
            raise ConversionError(f"{config.path}: the base {metadata[key]} of {section} is less than 1")
        settings.finish()
    sections.finish()


def rows(config: Config, prefix: str, metadata: dict[str, Any], vocab_size: int, norm_bias: Bias) -> list[Row]:
    """Every tensor of the model."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    attention_bias, mlp_bias = (Bias.given(config.get(f"{x}_bias", bool, False)) for x in ("attention", "mlp"))
    block, layer = "blk.{}", f"{prefix}layers.{{}}"
    later = range(1, metadata["block_count"])  # the first layer has the norm of the embeddings
    return [
        table("token_embd", f"{prefix}embeddings.tok_embeddings", vocab_size, width),
        norm("token_embd_norm", f"{prefix}embeddings.norm", width, norm_bias),
        *(norm(f"blk.{n}.attn_norm", f"{prefix}layers.{n}.attn_norm", width, norm_bias) for n in later),
        linear(f"{block}.attn_qkv", f"{layer}.attn.Wqkv", 3 * width, width, attention_bias),
        linear(f"{block}.attn_output", f"{layer}.attn.Wo", width, width, attention_bias),
        norm(f"{block}.ffn_norm", f"{layer}.mlp_norm", width, norm_bias),
        linear(f"{block}.ffn_up", f"{layer}.mlp.Wi", 2 * hidden_width, width, mlp_bias),
        linear(f"{block}.ffn_down", f"{layer}.mlp.Wo", width, hidden_width, mlp_bias),
        norm("output_norm", f"{prefix}final_norm", width, norm_bias),
    ]


def heads_of(config: Config, norm_bias: Bias) -> dict[str, Head]:
    """Where the family has its heads: all behind the same layer and norm."""
    activation = ACTIVATION_NAMES[config.expect("classifier_activation", *ACTIVATION_NAMES)]
    pooling = config.expect("classifier_pooling", "cls", "mean")
    config.get("classifier_bias", bool, False)  # its bias is there or not
    common: dict[str, Any] = {"dense": "head.dense", "norm": "head.norm", "activation": activation}
    common["norm_bias"] = norm_bias
    classifier = Head("classifier", pooling=pooling, **common)
    words = Head("decoder", bias=Bias.OPTIONAL, **common)
    return {CLASSES: classifier, TOKEN_CLASSES: classifier, SPANS: classifier, MASKED_WORDS: words}
