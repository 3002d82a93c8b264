"""The modules of sentence-transformers around a model: how rows become the vector of a sentence.

`modules.json` lists them: the transformer itself, a pooling, linear layers, a normalization, in this order.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError, quote
from ..sources.checkpoint import open_checkpoint
from ..vocabularies.record import Vocabulary
from ..vocabularies.tokenizer_json import steps_of
from .huggingface import Config, Source, TensorPlan

__all__ = [
    "CLASSES",
    "POOLING_TYPES",
    "SPANS",
    "TOKEN_CLASSES",
    "check_case",
    "is_sentence_model",
    "sentence_settings",
]

# Ends of the names of transformers' classes that make no vectors of sentences.
CLASSES, TOKEN_CLASSES = "ForSequenceClassification", "ForTokenClassification"
SPANS = "ForQuestionAnswering"

# GGUF's numbers by the names of sentence-transformers' modes, in both spellings of its configuration.
POOLING_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
MODE_KEYS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
ORDER = ("Transformer", "Pooling", "Dense", "Normalize")  # in which the modules of a folder follow each other
REFUSED_DENSE = "llama.cpp refuses files with a Dense layer behind the pooling"
FIRST_DENSE = 2  # GGUF numbers linear layers after the transformer and the pooling
ACTIVATIONS = {"Identity": "none", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Sigmoid": "sigmoid", "SiLU": "silu"}
SETTINGS = "sentence_bert_config.json"

Float32 = NDArray[np.float32]


def is_sentence_model(source: Source) -> bool:
    """Whether modules in the folder make vectors of the model's rows."""
    return any(_kind(module) == "Pooling" for module in _modules(source))


def sentence_settings(
    source: Source, tensors: TensorPlan, metadata: dict[str, Any], num_positions: int, *, pooling: str | None = "mean"
) -> list[str]:
    """Read the modules into `metadata` and `tensors`: pooling, linear layers, normalization, the longest text.

    Parameters
    ----------
    num_positions : int
        Of the model; `metadata` gets fewer as its ``context_length`` where texts are to be shorter.
    pooling : {"mean", "cls", "lasttoken"}, optional
        Of a folder without modules whose model has no classes; None: such a folder makes no vectors.

    Returns
    -------
    list of str
        What to say to the user.

    Raises
    ------
    ConversionError
        A module, or a setting of one, is not done here.
    """
    notes: list[str] = []
    modules = _modules(source)
    if not modules and pooling is not None and source.task not in (CLASSES, TOKEN_CLASSES, SPANS):
        metadata |= {"pooling_type": POOLING_TYPES[pooling], "normalize_embeddings": False}
        which = {
            "mean": "the mean over the tokens",
            "cls": "the first token's row",
            "lasttoken": "the last token's row",
        }
        notes.append(f"no modules.json: embeddings are {which[pooling]}, not normalized")
    elif modules:
        metadata["normalize_embeddings"] = False
        _check_order(modules)
    width, number = metadata["embedding_length"], FIRST_DENSE
    for module in modules:
        kind = _kind(module)
        if kind == "Pooling":
            metadata["pooling_type"] = read_pooling(source, _folder(module), width)
        elif kind == "Dense":
            width = plan_dense(source, tensors, metadata, _folder(module), number, width)
            number += 1
            notes += [] if REFUSED_DENSE in notes else [REFUSED_DENSE]
        elif kind == "Normalize":
            metadata["normalize_embeddings"] = True
    length = min(num_positions, longest_text(source) if modules else num_positions)
    metadata["context_length"] = length
    if length < num_positions:
        notes.append(f"max_seq_length {length}: positions {length} to {num_positions - 1} are left out")
    source.config_of("config_sentence_transformers.json").expect("truncate_dim", None)
    return notes


def _modules(source: Source) -> list[Config]:
    """The entries of `modules.json`; none where there is no such file."""
    listed = source.json("modules.json")
    entries = listed if isinstance(listed, list) else [] if listed is None else [listed]
    return [Config(entry if isinstance(entry, dict) else {"type": entry}, "modules.json") for entry in entries]


def _kind(module: Config) -> str:
    """The class of a module, without the package, which has had several names."""
    return module.get("type", str).rsplit(".", 1)[-1]


def _check_order(modules: list[Config]) -> None:
    """Refuse modules that are not known, and those that stand where they would do something else."""
    before = ""
    for module in modules:
        kind = _kind(module)
        if kind not in ORDER:
            raise module.fail("type", f"this module is not supported; known are {', '.join(ORDER)}")
        if before and (ORDER.index(kind) < ORDER.index(before) or (kind == before != "Dense")):
            raise module.fail("type", f"not supported after {before}; the order is {', '.join(ORDER)}")
        before = kind


def _folder(module: Config) -> str:
    """The folder of a module, which must be beside `modules.json`."""
    folder = module.get("path", str)
    if Path(folder).name != folder:
        raise ConversionError(f"modules.json: {quote(folder)} is not a folder beside it")
    return folder


def longest_text(source: Source) -> int:
    """Tokens that sentence-transformers cuts texts to; where it has no number of its own, those of the tokenizer."""
    settings = source.config_of(SETTINGS)
    if settings.values.get("max_seq_length") is not None:
        return settings.count("max_seq_length")
    length = source.config_of("tokenizer_config.json").values.get("model_max_length")
    return int(length) if isinstance(length, (int, float)) and 0 < length < 1 << 31 else (1 << 31) - 1


def check_case(source: Source, vocabulary: Vocabulary) -> None:
    """Refuse texts in lower case before a tokenizer that knows both cases; all others give the same ids either way."""
    settings = source.config_of(SETTINGS)
    normalizer = (vocabulary.description or {}).get("normalizer")
    lowers = any(step.get("lowercase") or step.get("type") == "Lowercase" for step in steps_of(normalizer))
    if settings.get("do_lower_case", bool, False) and not lowers:
        raise settings.fail("do_lower_case", "not supported for a tokenizer that keeps upper case")


def read_pooling(source: Source, folder: str, width: int) -> int:
    """GGUF's pooling type from a module's settings.

    Raises
    ------
    ConversionError
        It pools in a way that is not known, or in several.
    """
    settings = source.config_of(f"{folder}/config.json")
    settings.expect("include_prompt", True)  # without it, the mean is that of the text behind the prompt
    for key in ("word_embedding_dimension", "embedding_dimension"):
        if settings.values.get(key) is not None and settings.count(key) != width:
            raise settings.fail(key, f"rows have {width} columns")
    chosen = [key for key, value in settings.values.items() if key.startswith("pooling_mode_") and value]
    modes = [MODE_KEYS.get(key, key) for key in chosen]
    if "pooling_mode" in settings.values:  # the newer spelling
        stated = settings.values["pooling_mode"]
        modes = chosen = stated if isinstance(stated, list) else [stated]
    if len(modes) != 1 or modes[0] not in POOLING_TYPES:
        known = ", ".join(POOLING_TYPES)
        raise ConversionError(f"{settings.path}: pooling by {quote(chosen)} is not supported; known are {known}")
    settings.finish({"word_embedding_dimension", "embedding_dimension", "pooling_mode", *MODE_KEYS})
    return POOLING_TYPES[modes[0]]


def plan_dense(
    source: Source, tensors: TensorPlan, metadata: dict[str, Any], folder: str, number: int, width: int
) -> int:
    """A linear layer after the pooling, with its activation; returns its outputs.

    Raises
    ------
    ConversionError
        It takes something else than the vector before it, or does something that is not done here.
    """
    settings = source.config_of(f"{folder}/config.json")
    inputs, outputs = settings.count("in_features"), settings.count("out_features")
    if inputs != width:
        raise settings.fail("in_features", f"the vectors before it have {width} columns")
    bias = settings.get("bias", bool, True)
    activation = settings.get("activation_function", str, "torch.nn.modules.activation.Tanh").rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise settings.fail("activation_function", f"not supported; known are {', '.join(ACTIVATIONS)}")
    settings.expect("use_residual", False)
    for key in ("module_input_name", "module_output_name"):
        settings.expect(key, "sentence_embedding", None)
    settings.finish()
    name, shapes = f"dense_{number}", {"weight": (outputs, inputs), **({"bias": (outputs,)} if bias else {})}
    path = source.folder / folder
    with open_checkpoint(path) as checkpoint:
        found = {part: tuple(checkpoint.info(part).shape) for part in sorted(checkpoint.names())}
    wanted = {f"linear.{kind}": shape for kind, shape in sorted(shapes.items())}
    if found != wanted:
        raise ConversionError(f"{path}: has the tensors {quote(found, 200)}, and its config.json asks for {wanted}")
    for kind, shape in shapes.items():
        tensors.make(f"{name}.{kind}", shape, partial(_read, path, f"linear.{kind}"))
    metadata |= {f"{name}_feat_in": inputs, f"{name}_feat_out": outputs, f"{name}_activation": ACTIVATIONS[activation]}
    return outputs


def _read(folder: Path, name: str) -> Float32:
    with open_checkpoint(folder) as checkpoint:
        return np.asarray(checkpoint.read(name), np.float32)
