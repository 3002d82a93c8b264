"""Rotary position embeddings (Su et al. 2021, "RoFormer"), and the scalings that stretch them over longer texts.

A scaling changes the frequencies of the pairs of columns, and may scale the rotation. None depends on the positions
of a run: what depends on a length depends on that of the whole context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError
from ..graph.graph import rotary_frequencies
from ..graph.metadata import MAX_CONTEXT, Metadata
from ..host.exact import logarithm

SCALINGS = ("none", "linear", "yarn", "longrope")  # llama.cpp's names
# Keys that other readers obey in a few architectures, or not at all, and the values that change nothing.
REFUSED = {"yarn_ext_factor": 1.0, "yarn_attn_factor": 1.0, "yarn_log_multiplier": 0.0}


@dataclass(frozen=True)
class Rotation:
    """What `Graph.rotary` takes: float32 [columns / 2] frequencies, and the scale of sines and cosines."""

    frequencies: np.ndarray
    scale: float


def read_rotation(metadata: Metadata, width: int) -> Rotation:
    """The rotation of `width` columns of a head, as llama.cpp's keys `rope.*` say.

    A factor without a type is a linear scaling's, as llama.cpp reads it, also by the key's older name.

    Raises
    ------
    ModelFormatError, UnsupportedModelError
        A number is out of bounds, or a scaling is not known.
    """
    kind = metadata.string("rope.scaling.type", "linear", choices=SCALINGS)
    older = metadata.number("rope.scale_linear", 1.0, low=1e-3)
    factor = 1.0 if kind == "none" else metadata.number("rope.scaling.factor", older, low=1e-3)
    scale = metadata.number("rope.scaling.attn_factor", 1.0, low=1e-3, high=1e3)
    frequencies = rotary_frequencies(width, metadata.number("rope.freq_base", 10000.0, low=1.0))
    if kind != "yarn":
        return Rotation(frequencies / factor, scale)
    kept = yarn_ramp(metadata, width)
    blended = frequencies * (kept + (1.0 - kept) / factor)
    return Rotation(blended.astype(np.float32), scale * yarn_scale(factor))


def yarn_scale(factor: float) -> float:
    """YaRN's scale of the rotation where none is given: 0.1 ln(factor) + 1, and 1 where nothing is stretched."""
    return 0.1 * logarithm(factor) + 1.0 if factor > 1.0 else 1.0


def yarn_ramp(metadata: Metadata, width: int) -> np.ndarray:
    """How much of its own frequency each pair keeps (Peng et al. 2023, "YaRN", section 3.2), float64 [width / 2].

    1 where the trained context holds more than `yarn_beta_fast` turns of the pair, 0 where it holds fewer than
    `yarn_beta_slow`, and a line between.
    """
    for key, harmless in REFUSED.items():
        name = f"rope.scaling.{key}"
        if metadata.has(name) and metadata.number(name, low=-1.0) not in (harmless, -1.0):
            raise UnsupportedModelError(f"{metadata.path}: {metadata.key(name)} is not supported; {harmless} is")
    trained = trained_length(metadata)
    base = metadata.number("rope.freq_base", 10000.0, low=1.0)
    if base == 1.0:
        raise ModelFormatError(metadata.path, None, metadata.key("rope.freq_base"), "1 leaves YaRN no frequencies")

    def pair(key: str, default: float) -> float:
        turns = metadata.number(f"rope.scaling.{key}", default, low=1e-3, high=1e6)
        return width * logarithm(trained / (turns * 2.0 * math.pi)) / (2.0 * logarithm(base))

    low, high = pair("yarn_beta_fast", 32.0), pair("yarn_beta_slow", 1.0)
    if metadata.boolean("rope.scaling.yarn_truncate", True):  # ours: others always round
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    return 1.0 - np.clip((np.arange(width // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)


def trained_length(metadata: Metadata) -> int:
    """Positions that a model was trained with before its context was stretched."""
    context = metadata.integer("context_length", high=MAX_CONTEXT)
    return metadata.integer("rope.scaling.original_context_length", context, high=MAX_CONTEXT)


def divisor_name(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
    """The tensor that the frequencies are divided by, None where there is none.

    LongRoPE (Ding et al. 2024) has two. As llama.cpp has it, the longer counts from the first position on where the
    context is longer than the trained one, however short a text is.
    """
    is_long = metadata.string("rope.scaling.type", "linear") == "longrope"
    if is_long or "rope_factors_long.weight" in tensors:
        return f"rope_factors_{'long' if metadata.context > trained_length(metadata) else 'short'}.weight"
    return "rope_freqs.weight" if "rope_freqs.weight" in tensors else None
