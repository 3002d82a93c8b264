"""The architectures that can be converted: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import bert, llama, transformer
from .huggingface import Config, Plan, Source

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of"]


@dataclass(frozen=True)
class Architecture:
    """A row: GGUF's name, what a configuration calls it, and the function that plans the file."""

    name: str
    model_types: tuple[str, ...]
    classes: tuple[str, ...]
    plan: Callable[[Source], Plan]


ARCHITECTURES = (
    Architecture("llama", ("llama", "mistral"), ("LlamaForCausalLM", "MistralForCausalLM"), llama.plan),
    Architecture("bert", ("bert",), ("BertModel", "BertForMaskedLM", "BertForPreTraining"), bert.plan),
    Architecture("transformer", ("transformer",), ("torch.nn.Transformer",), transformer.plan),
)


def architecture_of(config: Config) -> Architecture:
    """The row for a configuration, by `model_type`, and by `architectures` where it is given.

    Raises
    ------
    ConversionError
        Neither is known, or the class has a head that would be lost.
    """
    model_type = config.get("model_type", str, "")
    classes = [str(name) for name in config.get("architectures", list, [])]
    for row in ARCHITECTURES:
        if model_type in row.model_types or (not model_type and set(classes) & set(row.classes)):
            if classes and not set(classes) & set(row.classes):
                known = ", ".join(row.classes)
                raise config.fail("architectures", f"not supported; known are {known}")
            return row
    known = ", ".join(name for row in ARCHITECTURES for name in row.model_types)
    raise config.fail("model_type", f"not supported; known are {known}")
