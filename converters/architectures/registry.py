"""Which architecture a checkpoint's configuration means."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ...models.registry import ARCHITECTURES, ArchitectureRow
from .huggingface import Config, Plan, Source

__all__ = ["architecture_of", "planner_of"]


def planner_of(row: ArchitectureRow) -> Callable[[Source], Plan]:
    """The function that plans a file of this architecture from a checkpoint."""
    planner: Callable[[Source], Plan] = import_module(f".{row.converter or row.module}", __package__).plan
    return planner


def architecture_of(config: Config) -> ArchitectureRow:
    """The row for a configuration, by `model_type`, and by `architectures` where it is given.

    Raises
    ------
    ConversionError
        Neither is known, or the class has a head that would be lost.
    """
    model_type = config.get("model_type", str, "")
    classes = [str(name) for name in config.get("architectures", list, [])]
    typed = [row for row in ARCHITECTURES if model_type in row.model_types or not model_type]
    for row in typed:
        if set(classes) & set(row.classes) or (model_type and not classes):
            return row
    if not model_type or not typed:
        known = ", ".join(dict.fromkeys(name for row in ARCHITECTURES for name in row.model_types))
        raise config.fail("model_type", f"not supported; known are {known}")
    known = ", ".join(name for row in typed for name in row.classes)
    raise config.fail("architectures", f"not supported; known are {known}")
