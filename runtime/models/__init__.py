"""The architectures: one file each, named as in `architectures.py`."""

from __future__ import annotations

import re
from importlib import import_module

from edgeformer.architectures import ARCHITECTURES, architecture_row
from edgeformer.errors import ModelFormatError, UnsupportedModelError, quote
from edgeformer.gguf import GGUFFile
from edgeformer.graph import Architecture, Metadata

LAYER_TENSOR = re.compile(r"(\w+\.)?blk\.\d+\.")
DERIVED = ".attn_rot_embd.weight"  # the rotary frequencies, which follow from the metadata; old files have them


def build_architecture(file: GGUFFile) -> Architecture:
    """The graph of the model in `file`.

    Raises
    ------
    UnsupportedModelError
        The architecture, or a setting of it, is not known here.
    ModelFormatError
        A key or tensor is missing or does not fit the others.
    """
    name = file.get("general.architecture", str)
    if architecture_row(name) is None:
        known = ", ".join(row.name for row in ARCHITECTURES)
        raise UnsupportedModelError(f"{file.path}: architecture {quote(name)} is not supported; supported: {known}")
    tensors = {tensor.name: tuple(tensor.shape) for tensor in file.tensors.values()}
    architecture: Architecture = import_module(f"edgeformer.models.{name}").build(
        Metadata(file.get, name, str(file.path)), tensors
    )
    _check_layers_used(file, architecture)
    _check_vocabularies(file, architecture)
    return architecture


def _check_layers_used(file: GGUFFile, architecture: Architecture) -> None:
    """A layer, or a part of one, that no program reads is a variant that is not known here, or a wrong block count."""
    used = {name for graph in architecture.programs.values() for node in graph.nodes for name in node.tensors}
    for name in file.tensors.keys() - used:
        if LAYER_TENSOR.match(name) and not name.endswith(DERIVED):
            what = f"tensor {quote(name)} is part of a layer and would not be used, so results would be wrong"
            raise UnsupportedModelError(f"{file.path}: {what}: a variant that is not supported, or a wrong block_count")


def _check_vocabularies(file: GGUFFile, architecture: Architecture) -> None:
    """Every token of a vocabulary has its row of the embeddings."""
    source = architecture.vocab_size
    if architecture.family == "encoder-decoder":
        source = architecture.config.src_vocab_size
    for key, rows in (("tokenizer.ggml.tokens", source), ("tokenizer.target.tokens", architecture.vocab_size)):
        tokens = file.get(key, list, [])
        if len(tokens) > rows:
            raise ModelFormatError(file.path, None, key, f"{len(tokens)} tokens, but the embeddings have {rows} rows")
