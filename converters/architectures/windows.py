"""Layers whose rows see a window of positions, as configurations of transformers say it, in llama.cpp's keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .huggingface import Config

__all__ = ["plan_windows"]

KINDS = ("full_attention", "sliding_attention")


def plan_windows(config: Config, metadata: dict[str, Any], slides: Callable[[int], bool]) -> None:
    """Read `use_sliding_window`, `sliding_window` and `layer_types` into `metadata`.

    `slides` tells which layers have the window where there are no `layer_types`. A window as long as the context is
    without effect. Call it after the layers' tensors are planned, so that their number is true.

    Raises
    ------
    ConversionError
        The keys contradict each other.
    """
    count, context_length = metadata["block_count"], metadata["context_length"]
    used, window = config.get("use_sliding_window", bool, False), config.get("sliding_window", int, 0)
    kinds = config.get("layer_types", list, [KINDS[slides(layer) and used and window > 0] for layer in range(count)])
    if len(kinds) != count or any(kind not in KINDS for kind in kinds):
        raise config.fail("layer_types", f"not one of {', '.join(KINDS)} for each of the {count} layers")
    layers = [kind == "sliding_attention" for kind in kinds]
    if not any(layers) or window >= context_length:
        return
    if not used or window < 1:
        raise config.fail("sliding_window", "layers have a window, and use_sliding_window or sliding_window says none")
    metadata["attention.sliding_window"] = window
    metadata["attention.sliding_window_pattern"] = layers
    config.notes.append(f"llama.cpp attends to all positions, not to the last {window}, in this architecture")
