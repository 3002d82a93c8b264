"""The architectures that edgeformer knows: one row each, read by the models and by the converters.

A row's name is `general.architecture` in the file and, with `_` for `-`, the module `edgeformer.models.<name>` (a
function `build`) and the module `edgeformer.converters.architectures.<name>` (a function `plan`), unless the row names
another converter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module

from ..errors import ModelFormatError, UnsupportedModelError, quote
from ..files.gguf.reader import GGUFHead
from ..graph.architecture import Architecture
from ..graph.metadata import Metadata

__all__ = ["ARCHITECTURES", "ArchitectureRow", "architecture_row", "build_architecture"]

LAYER_TENSOR = re.compile(r"(\w+\.)?blk\.\d+\.")
DERIVED = ".attn_rot_embd.weight"  # the rotary frequencies, which follow from the metadata; old files have them


@dataclass(frozen=True)
class ArchitectureRow:
    """GGUF's name of an architecture, and what a checkpoint's configuration calls it.

    `converter` names the module that reads such checkpoints where others of the same architecture have another form.
    """

    name: str
    model_types: tuple[str, ...]
    classes: tuple[str, ...]
    converter: str = ""

    @property
    def module(self) -> str:
        """Of the models, and of the converters unless the row names another."""
        return self.name.replace("-", "_")


CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def _encoders(*families: str) -> tuple[str, ...]:
    """The classes of these families in transformers: the model alone, with masked words, with classes and spans."""
    return tuple(family + end for family in families for end in ("Model", "ForMaskedLM", *CLASSIFIERS))


def _decoders(*families: str) -> tuple[str, ...]:
    """The classes of these families: with the next token, the model alone, with classes and spans."""
    return tuple(family + end for family in families for end in ("ForCausalLM", "Model", *CLASSIFIERS))


ARCHITECTURES = (
    ArchitectureRow(
        "llama",
        ("llama", "mistral", "mixtral"),
        _decoders("Llama", "Mistral", "Mixtral"),
    ),
    ArchitectureRow("llama", ("llama2.c",), ("llama2.c.Transformer",), converter="llama2c"),
    ArchitectureRow("gpt2", ("gpt2",), ("GPT2LMHeadModel", *_decoders("GPT2"))),
    ArchitectureRow("gpt2", ("nanogpt",), ("nanoGPT.GPT",), converter="nanogpt"),
    ArchitectureRow("olmo2", ("olmo2",), _decoders("Olmo2")),
    ArchitectureRow("qwen2", ("qwen2",), _decoders("Qwen2")),
    ArchitectureRow("qwen3", ("qwen3",), _decoders("Qwen3")),
    ArchitectureRow("granite", ("granite",), ("GraniteForCausalLM", "GraniteModel")),
    ArchitectureRow("smollm3", ("smollm3",), _decoders("SmolLM3")),
    ArchitectureRow("stablelm", ("stablelm",), _decoders("StableLm")),
    ArchitectureRow("phi2", ("phi",), _decoders("Phi")),
    ArchitectureRow("phi3", ("phi3",), _decoders("Phi3")),
    ArchitectureRow("gptneox", ("gpt_neox",), _decoders("GPTNeoX")),
    ArchitectureRow("qwen2moe", ("qwen2_moe",), _decoders("Qwen2Moe")),
    ArchitectureRow("bitnet", ("bitnet",), ("BitNetForCausalLM", "BitnetForCausalLM", "BitNetModel")),
    ArchitectureRow("gpt-oss", ("gpt_oss",), _decoders("GptOss")),
    ArchitectureRow("qwen3moe", ("qwen3_moe",), _decoders("Qwen3Moe")),
    ArchitectureRow("gptj", ("gptj", "codegen"), (*_decoders("GPTJ"), "CodeGenForCausalLM")),
    ArchitectureRow("opt", ("opt",), _decoders("OPT")),
    ArchitectureRow("bloom", ("bloom",), _decoders("Bloom")),
    ArchitectureRow("falcon", ("falcon", "RefinedWeb", "RefinedWebModel"), (*_decoders("Falcon"), "RWForCausalLM")),
    ArchitectureRow("mpt", ("mpt",), (*_decoders("Mpt"), "MPTForCausalLM")),
    ArchitectureRow("gemma", ("gemma",), _decoders("Gemma")),
    ArchitectureRow("gemma2", ("gemma2",), _decoders("Gemma2")),
    ArchitectureRow(
        "gemma3",
        ("gemma3", "gemma3_text"),
        ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma3TextForSequenceClassification"),
    ),
    ArchitectureRow("gemma-embedding", ("gemma3_text",), ("Gemma3TextModel",)),
    ArchitectureRow(
        "bert",
        ("bert", "distilbert", "roberta", "xlm-roberta", "camembert"),
        (*_encoders("Bert", "DistilBert", "Roberta", "XLMRoberta", "Camembert"), "BertForPreTraining"),
    ),
    ArchitectureRow(
        "albert",
        ("albert", "electra"),
        (*_encoders("Albert", "Electra"), "AlbertForPreTraining", "ElectraForPreTraining"),
    ),
    ArchitectureRow("mpnet", ("mpnet",), _encoders("MPNet")),
    ArchitectureRow("deberta-v2", ("deberta-v2", "deberta"), _encoders("DebertaV2", "Deberta")),
    ArchitectureRow("modern-bert", ("modernbert",), _encoders("ModernBert")),
    ArchitectureRow("nomic-bert", ("nomic_bert",), (*_encoders("NomicBert"), "NomicBertForPreTraining")),
    ArchitectureRow("gte", ("gte", "new"), _encoders("Gte", "New")),
    ArchitectureRow("vit", ("vit",), ("ViTModel", "ViTForImageClassification")),
    ArchitectureRow("whisper", ("whisper",), ("WhisperEncoder",)),
    ArchitectureRow(
        "t5",
        ("t5", "mt5", "umt5"),
        ("T5ForConditionalGeneration", "MT5ForConditionalGeneration", "UMT5ForConditionalGeneration"),
    ),
    ArchitectureRow("transformer", ("transformer",), ("torch.nn.Transformer",)),
    ArchitectureRow(
        "transformer-stack",
        ("transformer_encoder", "transformer_decoder"),
        ("torch.nn.TransformerEncoder", "torch.nn.TransformerDecoder"),
    ),
    ArchitectureRow(
        "transformer",
        ("bart", "mbart", "marian", "pegasus", "m2m_100"),
        (
            *("BartForConditionalGeneration", "BartForSequenceClassification"),
            *("MBartForConditionalGeneration", "MBartForSequenceClassification"),
            "MarianMTModel",
            "PegasusForConditionalGeneration",
            "M2M100ForConditionalGeneration",
        ),
        converter="bart",
    ),
)


def architecture_row(name: str) -> ArchitectureRow | None:
    """The row of that name, or None."""
    return next((row for row in ARCHITECTURES if row.name == name), None)


def build_architecture(file: GGUFHead, n_ctx: int | None = None) -> Architecture:
    """The graph of the model in `file`, for a context of `n_ctx` positions; by default the model's own.

    A context that is cut because memory is short changes no number.

    Raises
    ------
    UnsupportedModelError
        The architecture, or a setting of it, is not known here.
    ModelFormatError
        A key or tensor is missing or does not fit the others.
    """
    name = file.get("general.architecture", str)
    if file.get("general.type", str, "model") == "adapter":
        what = "is an adapter, not a model: load its model, and give the file to load_adapter (--adapter)"
        raise UnsupportedModelError(f"{file.path}: {what}")
    row = architecture_row(name)
    if row is None:
        known = ", ".join(dict.fromkeys(row.name for row in ARCHITECTURES))
        raise UnsupportedModelError(f"{file.path}: architecture {quote(name)} is not supported; supported: {known}")
    tensors = {tensor.name: tuple(tensor.shape) for tensor in file.tensors.values()}
    architecture: Architecture = import_module(f".{row.module}", __package__).build(
        Metadata(file.get, file.metadata, name, str(file.path), n_ctx), tensors
    )
    _check_layers_used(file, architecture)
    _check_vocabularies(file, architecture)
    return architecture


def _check_layers_used(file: GGUFHead, architecture: Architecture) -> None:
    """A layer, or a part of one, that no program reads is a variant that is not known here, or a wrong block count."""
    used = {name for graph in architecture.programs.values() for node in graph.nodes for name in node.tensors}
    for name in file.tensors.keys() - used:
        if LAYER_TENSOR.match(name) and not name.endswith(DERIVED):
            what = f"tensor {quote(name)} is part of a layer and would not be used, so results would be wrong"
            raise UnsupportedModelError(f"{file.path}: {what}: a variant that is not supported, or a wrong block_count")


def _check_vocabularies(file: GGUFHead, architecture: Architecture) -> None:
    """Every token of a vocabulary has its row of the embeddings."""
    for key, rows in (
        ("tokenizer.ggml.tokens", architecture.source_vocab_size),
        ("tokenizer.target.tokens", architecture.vocab_size),
    ):
        tokens = file.get(key, list, [])
        if len(tokens) > rows:
            raise ModelFormatError(file.path, None, key, f"{len(tokens)} tokens, but the embeddings have {rows} rows")
