"""Layers whose rows see a window of positions, as configurations of transformers say it, in llama.cpp's keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .huggingface import Config

__all__ = ["plan_alternating_windows", "plan_windows"]

KINDS = ("full_attention", "sliding_attention")


def plan_windows(config: Config, metadata: dict[str, Any], slides: Callable[[int], bool], *, window: int = 0) -> None:
    """Read `use_sliding_window`, `sliding_window` and `layer_types` into `metadata`.

    `slides` tells which layers have the window where there are no `layer_types`; `window` is what an absent key means,
    which a null is not. A window as long as the context is
    without effect. Call it after the layers' tensors are planned, so that their number is true.

    Raises
    ------
    ConversionError
        The keys contradict each other.
    """
    count, context_length = metadata["block_count"], metadata["context_length"]
    used = config.get("use_sliding_window", bool, False)
    window = config.get("sliding_window", int, 0 if "sliding_window" in config.values else window)
    layers = _sliding_layers(config, [slides(layer) and used and window > 0 for layer in range(count)])
    if not any(layers) or window >= context_length:
        return
    if not used or window < 1:
        raise config.fail("sliding_window", "layers have a window, and use_sliding_window or sliding_window says none")
    metadata["attention.sliding_window"] = window
    metadata["attention.sliding_window_pattern"] = layers
    config.notes.append(f"llama.cpp attends to all positions, not to the last {window}, in this architecture")


def plan_alternating_windows(config: Config, metadata: dict[str, Any], *, window: int, period: int) -> None:
    """Read Gemma's windows into `metadata`: all layers but the last of every `period` have one.

    `window` is what an absent key means. Call it after the layers' tensors are planned.

    Raises
    ------
    ConversionError
        The keys are out of range.
    """
    count, window = metadata["block_count"], config.count("sliding_window", window)
    usual = [(layer + 1) % period > 0 for layer in range(count)]
    named = config.count("sliding_window_pattern", config.count("_sliding_window_pattern", period))
    layers = _sliding_layers(config, [(layer + 1) % named > 0 for layer in range(count)])
    metadata["attention.sliding_window"] = window
    if layers != usual:
        metadata["attention.sliding_window_pattern"] = layers


def _sliding_layers(config: Config, usual: list[bool]) -> list[bool]:
    """Which layers have a window, `usual` where `layer_types` does not say."""
    kinds = config.get("layer_types", list, [KINDS[slides] for slides in usual])
    if len(kinds) != len(usual) or any(kind not in KINDS for kind in kinds):
        raise config.fail("layer_types", f"not one of {', '.join(KINDS)} for each of the {len(usual)} layers")
    return [kind == "sliding_attention" for kind in kinds]
