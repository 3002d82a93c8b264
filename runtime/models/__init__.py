"""The architectures: one file each, named as in `architectures.py`."""

from __future__ import annotations

from importlib import import_module

from edgeformer.architectures import ARCHITECTURES, architecture_row
from edgeformer.errors import UnsupportedModelError, quote
from edgeformer.gguf import GGUFFile
from edgeformer.graph import Architecture, Metadata


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
    return architecture
