"""The architectures that edgeformer knows: one row each, read by the models and by the converters.

A row's name is `general.architecture` in the file, the module `edgeformer.models.<name>` (a function `build`) and the
module `edgeformer.converters.<name>` (a function `plan`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "ArchitectureRow", "architecture_row"]


@dataclass(frozen=True)
class ArchitectureRow:
    """GGUF's name of an architecture, and what a checkpoint's configuration calls it."""

    name: str
    model_types: tuple[str, ...]
    classes: tuple[str, ...]


ARCHITECTURES = (
    ArchitectureRow("llama", ("llama", "mistral"), ("LlamaForCausalLM", "MistralForCausalLM")),
    ArchitectureRow("bert", ("bert",), ("BertModel", "BertForMaskedLM", "BertForPreTraining")),
    ArchitectureRow("transformer", ("transformer",), ("torch.nn.Transformer",)),
)


def architecture_row(name: str) -> ArchitectureRow | None:
    """The row of that name, or None."""
    return next((row for row in ARCHITECTURES if row.name == name), None)
