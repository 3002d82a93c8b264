"""Checkpoints to GGUF files, without torch: `convert(source, out, type="q8_0")`."""

from __future__ import annotations

from .convert import convert
from .report import ConversionReport, TensorReport

__all__ = ["ConversionReport", "TensorReport", "convert"]
