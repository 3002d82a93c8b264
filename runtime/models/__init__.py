"""The architectures: one file each, one row each in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from edgeformer.errors import UnsupportedModelError
from edgeformer.gguf import GGUFFile
from edgeformer.graph import Architecture, Metadata

# general.architecture of the file -> module with `build(metadata, tensors) -> Architecture`
REGISTRY: Mapping[str, str] = {
    "llama": "edgeformer.models.llama",
    "bert": "edgeformer.models.bert",
    "transformer": "edgeformer.models.transformer",
}


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
    if name not in REGISTRY:
        raise UnsupportedModelError(
            f"{file.path}: architecture {name!r} is not supported; supported: {', '.join(sorted(REGISTRY))}"
        )
    tensors = {tensor.name: tuple(tensor.shape) for tensor in file.tensors.values()}
    return import_module(REGISTRY[name]).build(Metadata(file.get, name, str(file.path)), tensors)
