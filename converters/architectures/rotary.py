"""Rotary settings of a configuration, old spelling and new, as llama.cpp's keys and tensors.

Formulas: `modeling_rope_utils.py` of transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError, quote
from ...host.exact import logarithm, power
from .huggingface import Config, TensorPlan

__all__ = ["plan_rotary"]

Float32 = NDArray[np.float32]
USUAL_YARN = {"yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0, "yarn_truncate": True}


@dataclass(frozen=True)
class _Scaling:
    """What one kind of scaling reads, and what it adds to."""

    settings: Config
    tensors: TensorPlan
    metadata: dict[str, Any]
    theta: float
    trained_length: int

    @property
    def stretch(self) -> float:
        """How much longer the context is than the trained one."""
        return float(self.metadata["context_length"]) / self.trained_length

    def none(self) -> list[str]:
        return []

    def linear(self) -> list[str]:
        self.metadata["rope.scaling.type"] = "linear"
        self.metadata["rope.scaling.factor"] = self.settings.number("factor")
        return []

    def dynamic(self) -> list[str]:
        """NTK-aware scaling by the length of the text: without effect on texts as long as the context."""
        self.settings.number("factor")
        length = self.metadata["context_length"]
        return [f"the dynamic scaling begins beyond {length} positions, where the file's context ends: it is left out"]

    def llama3(self) -> list[str]:
        """Llama 3.1's: long wavelengths are divided by `factor`, short ones kept, those between interpolated."""
        factor = self.settings.number("factor")
        low, high = self.settings.number("low_freq_factor"), self.settings.number("high_freq_factor")
        if not (0 < factor < 1e6 and 0 < low < high):
            raise ConversionError(f"{self.settings.path}: the factors of the llama3 scaling are out of range or order")
        width = self.metadata["rope.dimension_count"]
        wavelengths = 2 * math.pi * np.array([power(self.theta, 2 * i, width) for i in range(width // 2)])
        smooth = np.clip((self.trained_length / wavelengths - low) / (high - low), 0.0, 1.0)
        divisors = (1.0 / ((1.0 - smooth) / factor + smooth)).astype(np.float32)
        self.tensors.make("rope_freqs.weight", divisors.shape, divisors.copy)
        return []

    def yarn(self) -> list[str]:
        """Peng et al. 2023. The scale of the rotation that llama.cpp takes for granted is divided out of another."""
        settings, metadata = self.settings, self.metadata
        factor = settings.number("factor", self.stretch)
        metadata |= {"rope.scaling.type": "yarn", "rope.scaling.factor": factor}
        metadata["rope.scaling.original_context_length"] = self.trained_length
        usual = _magnitude(factor, 1.0)
        scale, all_dim = settings.number("mscale", 0.0), settings.number("mscale_all_dim", 0.0)
        if min(scale, all_dim) < 0:
            raise settings.fail("mscale", "neither mscale nor mscale_all_dim may be negative")
        wanted = _magnitude(factor, scale) / _magnitude(factor, all_dim) if scale and all_dim else usual
        wanted = settings.number("attention_factor", wanted)
        if wanted != usual:
            metadata["rope.scaling.attn_factor"] = wanted / usual
        settings.get("finetuned", bool, False)
        asked = {
            "yarn_beta_fast": settings.number("beta_fast", 32.0) or 32.0,  # to transformers nought means the default
            "yarn_beta_slow": settings.number("beta_slow", 1.0) or 1.0,
            "yarn_truncate": settings.get("truncate", bool, True),
        }
        unusual = {f"rope.scaling.{key}": value for key, value in asked.items() if value != USUAL_YARN[key]}
        metadata |= unusual
        return ["llama.cpp does not read beta_fast, beta_slow and truncate of YaRN"] if unusual else []

    def longrope(self) -> list[str]:
        """Ding et al. 2024: a divisor for each frequency, one set for short contexts and one for long ones."""
        settings, metadata, length = self.settings, self.metadata, self.trained_length
        metadata |= {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": length}
        factor = settings.number("factor", self.stretch)
        wanted = math.sqrt(1.0 + logarithm(factor) / logarithm(length)) if factor > 1.0 and length > 1 else 1.0
        metadata["rope.scaling.attn_factor"] = settings.number("attention_factor", wanted)
        for kind in ("long", "short"):
            divisors = self._divisors(f"{kind}_factor")
            self.tensors.make(f"rope_factors_{kind}.weight", divisors.shape, divisors.copy)
        if metadata["context_length"] <= length:
            return []
        return [
            f"loaded with n_ctx above {length} (the default), all positions are rotated by long_factor; shorter texts "
            f"are by short_factor, as in transformers, if loaded with n_ctx={length}"
        ]

    def _divisors(self, key: str) -> Float32:
        values = self.settings.get(key, list)
        count = self.metadata["rope.dimension_count"] // 2
        if len(values) != count or not all(type(v) in (int, float) and 1e-6 < v < 1e6 for v in values):
            raise self.settings.fail(key, f"not {count} positive numbers, one for each pair of rotated columns")
        return np.array(values, np.float32)


SCALINGS = {
    "default": _Scaling.none,
    "linear": _Scaling.linear,
    "dynamic": _Scaling.dynamic,
    "llama3": _Scaling.llama3,
    "yarn": _Scaling.yarn,
    "longrope": _Scaling.longrope,
}
OLD_NAMES = {"su": "longrope"}
DIVIDING = ("llama3", "longrope")  # kinds that come with tensors of divisors


def plan_rotary(
    tensors: TensorPlan,
    config: Config,
    metadata: dict[str, Any],
    *kinds: str,
    theta: float = 10000.0,
    partial: float | None = None,
    trained_length: int | None = None,
    llama_cpp_divides: bool = False,
) -> None:
    """Read the rotary settings, of either style, into `metadata`; divisors of the frequencies become tensors.

    Parameters
    ----------
    metadata : dict
        Has the context's length already, and in "rope.dimension_count" the columns of a head.
    *kinds : str
        The scalings that the architecture may have; without any, all that are known.
    theta, partial, trained_length
        What the absent keys rope_theta, partial_rotary_factor and original_max_position_embeddings mean. Without
        `partial` whole heads are rotated. Without `trained_length` it is max_position_embeddings.
    llama_cpp_divides : bool
        Whether llama.cpp reads divisors of the frequencies in this architecture.

    Raises
    ------
    ConversionError
        The kind of scaling is none of `kinds`, or its numbers are out of range.
    """
    settings = config.section("rope_parameters") or config.section("rope_scaling") or Config({}, config.path)
    theta = settings.number("rope_theta", config.number("rope_theta", theta))
    if theta <= 0:
        raise ConversionError(f"{config.path}: rope_theta = {theta} is not positive")
    metadata["rope.freq_base"] = theta
    metadata["rope.dimension_count"] = _rotated_columns(settings, config, metadata["rope.dimension_count"], partial)
    kind = settings.get("rope_type", str, settings.get("type", str, "default"))
    known = kinds or tuple(SCALINGS)
    kind = OLD_NAMES.get(kind, kind)
    if kind not in known:
        raise ConversionError(
            f"{settings.path}: rope_type {quote(kind)} is not supported; known are {', '.join(known)}"
        )
    trained = settings.count("original_max_position_embeddings", trained_length or metadata["context_length"])
    trained = config.count("original_max_position_embeddings", trained)  # transformers looks here first
    config.notes += SCALINGS[kind](_Scaling(settings, tensors, metadata, theta, trained))
    if kind in DIVIDING and not llama_cpp_divides:
        config.notes.append(f"llama.cpp refuses the {kind} scaling in this architecture")
    settings.finish()
    tensors.ignore("*.rotary_emb.inv_freq")  # computed from rope_theta


def _rotated_columns(settings: Config, config: Config, columns: int, partial: float | None) -> int:
    """How many columns of a head are rotated."""
    if partial is None:
        settings.expect("partial_rotary_factor", 1.0, 1)
        return columns
    share = settings.number("partial_rotary_factor", config.number("partial_rotary_factor", partial))
    rotated = int(columns * share)
    if not 0 < rotated <= columns or rotated % 2:
        what = f"{rotated} of {columns} columns, which cannot be rotated in pairs"
        raise ConversionError(f"{config.path}: partial_rotary_factor = {share}: {what}")
    return rotated


def _magnitude(factor: float, weight: float) -> float:
    """YaRN's scale of the rotation for a stretch by `factor`."""
    return 0.1 * weight * logarithm(factor) + 1.0 if factor > 1.0 else 1.0
